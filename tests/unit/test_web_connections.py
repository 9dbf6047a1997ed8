"""Connections on which nothing is asked end, be it that their first request never came."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient

from agent.collector.web import connections
from agent.collector.web.connections import CONNECTIONS, IDLE
from tests.fakes.clock import ManualClock
from tests.services import eventually
from tests.unit.test_web_guard import open_site

__all__ = ["open_site"]
GET = b"GET /static/app.css HTTP/1.1\r\nHost: localhost\r\n"


class Peer:
    """One end of a connection to the site."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, site: TestClient, said: bytes = b"") -> Peer:
        """Connected, and seen by the server."""
        server = site.server.runner.server  # type: ignore[union-attr]
        before = len(server.connections)
        peer = cls(*await asyncio.open_connection("127.0.0.1", site.port))
        peer.writer.write(said)
        await eventually(lambda: len(server.connections) > before, "the connection is there")
        return peer

    async def ended(self) -> bool:
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(self.reader.read(), 20)
        return self.reader.at_eof()


@pytest.fixture
async def swept(open_site: TestClient, clock: ManualClock) -> AsyncIterator[TestClient]:
    work = asyncio.create_task(open_site.app[CONNECTIONS].run(open_site.server.runner))  # type: ignore[union-attr,arg-type]
    yield open_site
    work.cancel()
    await asyncio.wait({work})


@pytest.mark.parametrize("said", [b"", b"G", GET])
async def test_a_request_that_never_comes_whole_is_given_up(swept: TestClient, clock: ManualClock, said: bytes) -> None:
    peer = await Peer.of(swept, said)
    await clock.advance(IDLE / 2)
    peer.writer.write(b"X-Slow: 1\r\n" if said == GET else b"")
    await clock.advance(IDLE / 2 + 3)
    assert await peer.ended()


async def test_who_reads_the_stream_is_not_idle(swept: TestClient, clock: ManualClock) -> None:
    """However long nothing happens there."""
    async with swept.get("/api/v1/stream") as answer:
        for _ in range(8):  # in each of which it says that it lives
            await clock.advance(IDLE / 2)
        async with asyncio.timeout(20):
            for _ in range(3):
                await answer.content.readuntil(b": heartbeat\n\n")


@pytest.mark.parametrize(("most", "descriptors"), [(3, 1024), (2048, 6), (3, resource.RLIM_INFINITY)])
async def test_beyond_the_most_the_longest_idle_ends_first(
    swept: TestClient, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, most: int, descriptors: int
) -> None:
    """So that nobody without a token keeps others out, or takes the descriptors that the database needs."""
    monkeypatch.setattr(connections, "MOST", most)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    peers = []
    for _ in range(5):
        peers.append(await Peer.of(swept))
        await clock.advance(2)
    assert [await peer.ended() for peer in peers[:2]] == [True, True]
    assert not any(peer.reader.at_eof() for peer in peers[2:])
    async with swept.get("/healthz") as answer:
        assert answer.status == 200
    for peer in peers:
        peer.writer.close()
