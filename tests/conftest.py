"""Fixtures that several folders share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.fakes.clock import ManualClock
from tests.services import CI, MariaDB, Mosquitto, Redis

settings.register_profile("ci", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50)
settings.load_profile("ci" if CI else "local")


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    """A command that quiets our loggers, run inside a test, must not quiet those of the next."""
    yield
    logging.getLogger("agent").setLevel(logging.NOTSET)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    server = Mosquitto(tmp_path / "mosquitto")
    server.start()
    yield server
    server.stop()


@dataclass(frozen=True)
class Database:
    """A fresh, empty database on the session's server."""

    server: MariaDB
    url: str


@pytest.fixture(scope="session")
def mariadb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    server = MariaDB(tmp_path_factory.mktemp("mariadb"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def mariadb(mariadb_server: MariaDB) -> Database:
    return Database(mariadb_server, mariadb_server.database())


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    server = Redis(tmp_path / "redis")
    server.start()
    yield server
    server.stop()
