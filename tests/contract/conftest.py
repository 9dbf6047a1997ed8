"""The suite runs on every store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.collector.store import Store
from tests.contract.stores import Opened
from tests.fakes.clock import ManualClock


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.services)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    database: str = request.getfixturevalue("mariadb").url
    return database


@pytest.fixture
async def db(url: str, clock: ManualClock) -> AsyncIterator[Opened]:
    opened = await Store.open(url, clock=clock)
    yield Opened(url, opened, clock)
    await opened.aclose()
