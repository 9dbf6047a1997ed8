"""The live stream: what is sent, to whom, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from agent.collector.live import Hub, LiveEvent
from agent.collector.stats import Stats
from agent.collector.web import make_app, stream
from agent.config.schema import Config
from agent.model import Metric
from tests.fakes.clock import ManualClock
from tests.fakes.collector import FakeFleet, FakeReader, sample
from tests.services import eventually


@dataclass
class Reader:
    """One reader of the stream, a block at a time."""

    answer: ClientResponse
    rest: bytes = b""

    async def block(self) -> str:
        async with asyncio.timeout(10):
            while b"\n\n" not in self.rest:
                chunk = await self.answer.content.readany()
                if not chunk:
                    raise EOFError
                self.rest += chunk
        block, self.rest = self.rest.split(b"\n\n", 1)
        return block.decode()

    async def all(self) -> None:
        while True:
            await self.block()

    async def event(self) -> tuple[str, dict]:
        kind, data = (await self.block()).split("\n")
        return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@dataclass
class Site:
    client: TestClient
    hub: Hub
    clock: ManualClock

    async def read(self, query: str = "") -> Reader:
        answer = await self.client.get(f"/api/v1/stream{query}")
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/event-stream"
        reader = Reader(answer)
        assert await reader.block() == "retry: 2000\n: connected"
        return reader

    def publish(self, kind: str, data: dict) -> None:
        self.hub.publish(LiveEvent(kind, data))


@pytest.fixture
async def site(clock: ManualClock) -> AsyncIterator[Site]:
    hub = Hub(depth=20)
    app = make_app(FakeReader(), FakeFleet(clock), hub, Config(), Stats(), clock=clock)
    async with TestClient(TestServer(app)) as client:
        yield Site(client, hub, clock)


async def test_events_arrive_in_order_with_their_kind(site: Site) -> None:
    """Each event is one block of its kind, with its data as JSON on one line."""
    reader = await site.read()
    site.publish("host", {"host": "web-1", "note": "two\nlines"})
    site.publish("incident", {"host": "web-1", "id": "a"})
    assert await reader.event() == ("host", {"host": "web-1", "note": "two\nlines"})
    assert await reader.event() == ("incident", {"host": "web-1", "id": "a"})


async def test_a_reader_can_ask_for_one_host(site: Site) -> None:
    """?host= leaves out everything of the others."""
    reader = await site.read("?host=web-1")
    site.publish("sample", sample("db-1"))
    site.publish("incident", {"host": "db-1", "id": "b"})
    site.publish("delivery", {"host": "web-1", "incident": "a", "state": "pending"})
    assert (await reader.event())[1]["host"] == "web-1"


async def test_a_reader_can_ask_for_the_samples_of_one_host_only(site: Site) -> None:
    """A host's page gets its samples, and yet learns of incidents elsewhere."""
    reader = await site.read("?samples=web-1")
    site.publish("sample", sample("db-1"))
    site.publish("incident", {"host": "db-1", "id": "b"})
    site.publish("sample", sample("web-1"))
    assert (await reader.event())[0] == "incident"
    assert await reader.event() == ("sample", sample("web-1"))


async def test_kinds_and_metrics_can_be_chosen(site: Site) -> None:
    """The fleet's page gets the three metrics of its tiles and not the other hundred, typed or not."""
    reader = await site.read("?kind=sample&metric=cpu.used_percent,memory.*")
    site.publish("host", {"host": "web-1"})
    site.publish("sample", sample(metrics=[Metric("load.1m", 1.0)]))
    site.publish("sample", sample())
    site.publish("sample", sample(metrics=[Metric("load.1m", 1.0), Metric("memory.used_percent", 3.0, "percent")]))
    assert (await reader.event())[1]["metrics"] == sample()["metrics"][:1]
    assert (await reader.event())[1]["metrics"] == [{"name": "memory.used_percent", "value": 3.0, "unit": "percent"}]


@pytest.mark.parametrize("query", ["?kind=samples", "?host=..%2F", "?metric=a%20b", "?follow=1"])
async def test_a_wrong_filter_is_refused(site: Site, query: str) -> None:
    """A misspelt filter must not look like a quiet fleet."""
    answer = await site.client.get(f"/api/v1/stream{query}")
    assert answer.status == 400


async def test_a_heartbeat_comes_every_15_seconds(site: Site) -> None:
    """Comments keep proxies and readers sure of a connection on which nothing happens."""
    reader = await site.read()
    await eventually(lambda: site.clock.sleepers == 1, "the heartbeat to wait")
    await site.clock.advance(15)
    assert await reader.block() == ": heartbeat"
    await eventually(lambda: site.clock.sleepers == 1, "the heartbeat to wait again")
    await site.clock.advance(14)
    site.publish("host", {"host": "web-1"})
    assert (await reader.event())[0] == "host"


async def test_a_reader_that_leaves_is_forgotten(site: Site) -> None:
    """No subscription and no heartbeat outlives its connection."""
    reader = await site.read()
    assert site.hub.listeners == 1
    reader.answer.close()

    def gone() -> bool:
        site.publish("host", {"host": "web-1"})
        return site.hub.listeners == 0

    await eventually(gone, "the reader to be forgotten")
    await eventually(lambda: site.clock.sleepers == 0, "the heartbeat to end")


async def test_a_reader_that_left_in_silence_is_forgotten_too(site: Site) -> None:
    """Where no event comes, the heartbeat finds out that nobody is there."""
    reader = await site.read("?kind=delivery")
    reader.answer.close()
    for _ in range(3):
        await eventually(lambda: site.clock.sleepers == 1 or site.hub.listeners == 0, "the heartbeat to wait")
        await site.clock.advance(15)
    await eventually(lambda: site.hub.listeners == 0, "the reader to be forgotten")


async def test_a_slow_reader_is_cut_and_harms_nobody(site: Site) -> None:
    """Who does not read loses the connection, to fetch anew; the others go on."""
    slow, quick = await site.read(), await site.read("?kind=incident")
    for _ in range(21):  # without a pause, so that nobody can read in between
        site.publish("host", {"host": "web-1"})
    assert site.hub.cut == 2  # both had no chance
    with pytest.raises(EOFError):
        await slow.all()
    again = await site.read("?kind=incident")
    site.publish("incident", {"host": "web-1", "id": "a"})
    assert (await again.event())[0] == "incident"
    quick.answer.close()


async def test_streams_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One reader more than the bound is told to come back later."""
    monkeypatch.setattr(stream, "MAX_STREAMS", 1)
    await site.read()
    answer = await site.client.get("/api/v1/stream")
    assert answer.status == 503
    assert (await answer.json())["error"]["code"] == "too_many_streams"


async def test_a_stopping_collector_ends_its_streams(site: Site) -> None:
    """Open pages must not hold up the stop."""
    reader = await site.read()
    async with asyncio.timeout(5):
        await site.client.server.close()
        with pytest.raises(EOFError):
            await reader.block()
    assert site.hub.listeners == 0


async def test_head_does_not_open_a_stream(site: Site) -> None:
    """HEAD answers and ends."""
    answer = await site.client.head("/api/v1/stream")
    assert answer.status == 200
    assert site.hub.listeners == 0
