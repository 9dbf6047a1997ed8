"""Fixtures of the tests that run the daemon."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.agents import Agent, Make
from tests.integration.office import FakeWorkspace, Stage
from tests.services import Mosquitto


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


@pytest.fixture
async def stage(mosquitto: Mosquitto, tmp_path: Path) -> AsyncIterator[Stage]:
    async with FakeWorkspace() as slack:
        slack.groups["SOPS"] = ["UCAT"]
        set_up = Stage(slack, slack.add_channel("#ops"), mosquitto.url, tmp_path)
        yield set_up
        for host in set_up.running:
            await host.stop()
