"""The turn passes when it may, though nobody looks in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from agent.alerting.state import State
from agent.alerting.turn import JITTER, NOBODY, SELF
from agent.config.schema import SlackConfig
from agent.daemon.handover import MARGIN, Handover
from agent.transport.inbox import Message
from agent.transport.wire import Heartbeat, encode
from tests.fakes.clock import ManualClock, settle

SILENCE = 10.0
LATEST = SILENCE * (1 + JITTER) + 2 * MARGIN


class Outbox:
    """Notes what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def hold(self) -> None:
        self.told.append("hold")

    def doubt(self) -> None:
        self.told.append("doubt")

    def resume(self, *, gently: bool) -> None:
        self.told.append("resume")

    def crowded(self, seconds: float) -> None:
        assert seconds > 0


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
async def handover(outbox: Outbox, clock: ManualClock) -> AsyncIterator[Handover]:
    handover = Handover(SlackConfig(), cast("Any", outbox), State(None), clock, lambda: None)
    running = asyncio.create_task(handover.run())
    yield handover
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def beat(handover: Handover, *, delivers: bool = True) -> None:
    payload = encode(Heartbeat("online", session="s1", delivers=delivers))
    handover.heartbeat(Message("tocsin/v1/_collector/c1/status", payload, retain=False))
    await settle()


async def test_a_heartbeat_passes_the_turn_at_once(handover: Handover, outbox: Outbox) -> None:
    await settle()
    assert handover.writer == SELF
    await beat(handover)
    assert (handover.writer, outbox.told) == ("c1/s1", ["hold"])


async def test_silence_takes_it_back(handover: Handover, outbox: Outbox, clock: ManualClock) -> None:
    await clock.advance(60)
    await beat(handover)
    await clock.advance(5)
    await beat(handover)
    await clock.advance(SILENCE - 0.1)
    assert handover.writer == "c1/s1"
    await clock.advance(LATEST - SILENCE + 0.1)
    assert (handover.writer, outbox.told) == (SELF, ["hold", "doubt", "resume"])


async def test_given_back_at_once(handover: Handover, clock: ManualClock) -> None:
    await beat(handover)
    await clock.advance(1)
    await beat(handover, delivers=False)
    assert handover.writer == SELF


async def test_a_reload_is_seen(handover: Handover, clock: ManualClock) -> None:
    await beat(handover)
    handover.reload(SlackConfig(deliver="direct"))
    await settle()
    assert handover.writer == NOBODY
    await clock.advance(LATEST)
    assert handover.writer == SELF


async def test_nothing_wakes_it_where_there_is_no_collector(handover: Handover, clock: ManualClock) -> None:
    await clock.advance(60)
    assert clock.sleepers == 0
    assert handover.writer == SELF
