"""Fixtures of the tests that run the daemon."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.agents import Agent, Make


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    agents: list[Agent] = []

    def make(broker: str, **more: Any) -> Agent:
        home = tmp_path / f"agent{len(agents)}"
        home.mkdir()
        agents.append(Agent(home, broker, **more))
        return agents[-1]

    yield make
    for agent in agents:
        agent.end()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """systemd's end of the notify socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener
