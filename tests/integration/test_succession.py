"""Two collectors on one database: whichever tells of a host that is gone, it is one incident and one message."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.collector.hostwatch import METRIC
from agent.collector.store import Store
from tests.conftest import Database
from tests.fakes.slack import FakeSlack
from tests.handover.fleet import Collector
from tests.integration.agents import Agent, Make
from tests.integration.test_handover import slack, table
from tests.services import Mosquitto, eventually

__all__ = ["slack"]

pytestmark = pytest.mark.services

LEADS = "this collector tells of hosts that are gone"


class Scene:
    """Two collectors, a-1 before b-2, and a host that a-1 has told to be gone."""

    def __init__(self, directory: Path, broker: Mosquitto, database: str, slack: FakeSlack, agent: Agent) -> None:
        self.slack = slack
        self.agent = agent
        self._store = Store(database, None, SystemClock())
        self.first, self.second = (self._collector(directory / name, broker, database) for name in ("a-1", "b-2"))

    def _collector(self, directory: Path, broker: Mosquitto, database: str) -> Collector:
        directory.mkdir()
        both = f'name = "{directory.name}"\nstore = "{database}"\n{table(self.slack)}'
        return Collector(directory, broker.url, self.slack, both)

    async def begin(self) -> None:
        self.first.start()
        await self.leads(self.first)
        self.second.start()
        self.agent.start()
        await self.agent.says("now=a-1/")
        await eventually(lambda: "broker connected" in self.second.log, "the second collector")
        self.agent.kill()
        await self.slack.until(lambda: self.titles == ["CRITICAL: host on t-1"], 20)
        await eventually(lambda: "operation=post" in self.first.log, "the first to have told it")
        await self.stored("open")

    async def pass_on(self) -> None:
        """The first dies, and the second has looked for what it may have posted."""
        before = self.second.log.count(LEADS)
        self.first.kill()
        await self.leads(self.second, before + 1)
        await eventually(lambda: "operation=find" in self.second.log, "the message to be found")

    async def leads(self, collector: Collector, times: int = 1) -> None:
        await eventually(lambda: collector.log.count(LEADS) >= times, "that collector to lead", 30)

    @property
    def titles(self) -> list[str]:
        return [said.text.split(" — ")[0] for said in self.slack.messages("#alerts")]

    async def ends(self) -> None:
        """The host is back: one incident, over; one message, green; one word of that in its thread."""
        self.agent.start()
        await self.slack.until(lambda: self.titles == ["RESOLVED: host on t-1"], 30)
        [message] = self.slack.messages("#alerts")
        await self.slack.until(lambda: self.slack.replies("#alerts", message.ts), 20)
        await eventually(lambda: self.delivered() >= 1, "that to be known")
        await self.is_one()

    def delivered(self) -> int:
        return sum(one.log.count("operation=reply") for one in (self.first, self.second))

    async def is_one(self) -> None:
        [message] = self.slack.messages("#alerts")
        assert message.colour == "#2eb67d"
        assert len(self.slack.replies("#alerts", message.ts)) == 1
        await self.stored("resolved")

    async def stored(self, state: str) -> None:
        """Until the database has it like this: one incident, whoever has written it."""
        deadline = time.monotonic() + 20
        while True:
            rows, _ = await self._store.reader.incidents()
            known = [(row.host, row.state) for row in rows if row.metric == METRIC]
            assert len(known) <= 1
            if known == [("t-1", state)]:
                return
            assert time.monotonic() < deadline, known
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        self.agent.end()
        self.first.kill()
        self.second.kill()
        await self._store.aclose()


@pytest.fixture
async def scene(
    make: Make, mosquitto: Mosquitto, mariadb: Database, slack: FakeSlack, tmp_path: Path
) -> AsyncIterator[Scene]:
    agent = make(mosquitto.url, slack=slack, more='takeover_after = "2s"')
    set_up = Scene(tmp_path, mosquitto, mariadb.url, slack, agent)
    yield set_up
    await set_up.close()


async def test_the_next_collector_ends_what_the_first_has_told(scene: Scene) -> None:
    """And the first, when it is back after all, says nothing a second time."""
    await scene.begin()
    await scene.pass_on()
    await scene.ends()
    calls = scene.first.log.count("operation=edit")
    scene.first.start()
    await scene.leads(scene.first, 2)
    await eventually(lambda: scene.first.log.count("operation=edit") > calls, "the first to know of the end")
    await scene.is_one()


async def test_the_first_collector_is_back_before_the_host(scene: Scene) -> None:
    await scene.begin()
    await scene.pass_on()
    scene.first.start()
    await scene.leads(scene.first, 2)
    await scene.ends()
