"""Ingest without servers: what is no envelope, how much may wait, and for what an ack vouches."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from agent.collector import ingest as ingest_module
from agent.collector.fleet import Fleet
from agent.collector.ingest import Ingest
from agent.collector.live import Hub
from agent.collector.stats import Stats
from agent.collector.store import Quarantined, Received, Written
from agent.errors import StoreError
from agent.transport import wire
from agent.transport.inbox import Inbox, Message
from tests.fakes.clock import ManualClock, settle

EPOCH = "a" * 32


class FakeStore:
    """Takes everything, but for as often as `failures` says, and no more at once than is `bearable`."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.batches: list[int] = []
        self.bearable = 1000
        self.quarantined: list[Quarantined] = []

    async def write(self, batch: Sequence[Received]) -> Written:
        self.batches.append(len(batch))
        if self.failures:
            raise self.failures.pop()
        if len(batch) > self.bearable:
            raise StoreError("too slow") from TimeoutError()
        return Written(list(batch), [], [], 0)

    async def quarantine(self, items: Sequence[Quarantined]) -> None:
        self.quarantined += items


class FakeSession:
    def __init__(self) -> None:
        self.acks: list[wire.Ack] = []
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()

    def post(self, _topic: str, payload: bytes, **_: Any) -> asyncio.Future[None]:
        self.acks.append(wire.decode(payload, wire.Ack))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def messages(self) -> AsyncIterator[Message]:
        while True:
            yield await self.incoming.get()


class Rig:
    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.store = FakeStore()
        self.session = FakeSession()
        self.stats = Stats()
        fleet = Fleet(clock, Hub(), 45.0)
        self.ingest = Ingest(self.store, fleet, self.stats, clock)  # type: ignore[arg-type]

    async def say(self, *seqs: int) -> None:
        """These arrive, and their batch is over, retries included."""
        for seq in seqs:
            self.ingest.take(Message("tocsin/v1/web-1/metrics/cpu", sample(seq), False))
        for _ in range(30):
            await self.clock.advance(0.5)
            await settle()


def sample(seq: int) -> bytes:
    return wire.encode(
        wire.MetricsEnvelope(
            schema=1,
            host="web-1",
            epoch=EPOCH,
            seq=seq,
            time=1.0,
            probe="cpu",
            status="ok",
            duration=0.1,
            metrics=(),
        )
    )


@pytest.fixture
async def rig(clock: ManualClock) -> AsyncIterator[Rig]:
    rig = Rig(clock)
    tasks = [asyncio.create_task(work) for work in (rig.ingest.run(), rig.ingest.receive(rig.session))]  # type: ignore[arg-type]
    await settle()
    yield rig
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_cleared_retained_message_is_no_fault(rig: Rig) -> None:
    """An empty payload says that the broker keeps nothing there any more, on whatever topic."""
    for channel in ("incidents/i-1", "health", "status", "deliveries"):
        rig.ingest.take(Message(f"tocsin/v1/web-1/{channel}", b"", False))
    await rig.say(1)
    assert (rig.stats.undecodable, rig.store.quarantined, rig.stats.envelopes) == (0, [], 1)


async def test_after_a_loss_of_the_database_nothing_older_is_vouched_for(rig: Rig) -> None:
    """It may have come back as an older copy: `upto` must not make a host drop what is not in it any more."""
    await rig.say(1, 2)
    assert rig.session.acks[-1].upto == 2
    rig.store.failures = [StoreError("gone")]
    await rig.say(3)
    assert rig.session.acks[-1] == wire.Ack(EPOCH, 0, (3,))


async def test_tiny_messages_are_bounded_too(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a message takes beside its payload counts, in both places where messages wait."""
    monkeypatch.setattr(ingest_module, "MAX_WAITING", 10_000)
    inbox = Inbox(10_000)
    for _ in range(100):
        message = Message("tocsin/v1/web-1/metrics/cpu", b"x", False)
        rig.ingest.take(message)
        inbox.put(message)
    assert rig.stats.dropped > 50
    assert inbox.dropped > 50


async def test_a_batch_that_takes_too_long_is_halved(rig: Rig) -> None:
    """A database that is too slow for all at once gets less, not the same for ever; the order stays."""
    rig.store.bearable = 3
    await rig.say(*range(1, 9))
    assert rig.store.batches == [8, 4, 2, 2, 4, 2, 2]
    assert {seq for ack in rig.session.acks for seq in ack.also} == set(range(1, 9))
