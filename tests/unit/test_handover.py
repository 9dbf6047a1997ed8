"""The turn passes when it may, though nobody looks in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, cast

import pytest

from agent.alerting.state import State
from agent.alerting.turn import JITTER, NOBODY, SELF
from agent.config.schema import SlackConfig
from agent.config.secret import Secret
from agent.config.units import Duration
from agent.daemon.handover import ANSWER_WITHIN, ASK_AFTER, LOOK_EVERY, MARGIN, Handover
from agent.model import DeliveryState, Incident
from agent.transport.inbox import Message
from agent.transport.wire import DeliveredMessage, Heartbeat, encode
from tests.fakes.clock import ManualClock, settle
from tests.unit.test_outbox import incident

SILENCE = 10.0
LATEST = SILENCE * (1 + JITTER) + 2 * MARGIN


class Outbox:
    """Notes what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.said = 0
        self.wanting: list[Incident] = []

    def pause(self) -> None:
        self.told.append("pause")

    async def hold(self) -> None:
        self.told.append("hold")

    def doubt(self) -> None:
        self.told.append("doubt")

    def resume(self, *, gently: bool) -> None:
        self.told.append("resume gently" if gently else "resume")

    def waiting(self) -> list[Incident]:
        return self.wanting

    def adopt(self, told: Iterable[DeliveryState]) -> None:
        self.told += [f"adopt {one.incident}" for one in told]

    def crowded(self, seconds: float) -> None:
        assert seconds > 0


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
async def handover(outbox: Outbox, clock: ManualClock) -> AsyncIterator[Handover]:
    async with running(outbox, clock, SlackConfig(bot_token=Secret("env", "NONE"))) as handover:
        yield handover


@contextlib.asynccontextmanager
async def running(outbox: Outbox, clock: ManualClock, config: SlackConfig) -> AsyncIterator[Handover]:
    def say() -> None:
        outbox.said += 1

    handover = Handover(config, cast("Any", outbox), State(None), clock, say)
    work = asyncio.create_task(handover.run())
    yield handover
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


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
    assert (handover.writer, outbox.told) == (SELF, ["hold", "doubt", "resume gently"])


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


async def live(handover: Handover, clock: ManualClock, seconds: float) -> None:
    """Somebody at the broker says once a second that the collector lives, and writes."""
    for _ in range(int(seconds)):
        await beat(handover)
        await clock.advance(1)


async def test_a_collector_that_only_says_that_it_writes_loses_its_turn(
    handover: Handover, outbox: Outbox, clock: ManualClock
) -> None:
    """Heartbeats are not signed: whoever has the broker can make them, and no more than delay an alert by them."""
    await live(handover, clock, 5)
    assert handover.writer == "c1/s1"
    outbox.wanting = [incident()]
    await live(handover, clock, ANSWER_WITHIN + LOOK_EVERY + 1)
    assert handover.writer == NOBODY
    assert outbox.told == ["hold", "doubt"]
    await live(handover, clock, LATEST + 1)
    assert (handover.writer, outbox.told) == (SELF, ["hold", "doubt", "doubt", "resume gently"])
    await live(handover, clock, 60)
    assert handover.writer == SELF


async def test_one_that_does_its_work_keeps_its_turn(handover: Handover, outbox: Outbox, clock: ManualClock) -> None:
    """However long it takes: it has said that it is at it."""
    await live(handover, clock, 5)
    outbox.wanting = [incident()]
    await live(handover, clock, ANSWER_WITHIN / 2)
    told = DeliveredMessage(1, "c1/s1", (DeliveryState("inc_1", 0, "pending", attempts=3, error="timeout"),))
    handover.delivered(Message("tocsin/v1/web-1/delivered", encode(told), retain=False))
    await live(handover, clock, 3 * ANSWER_WITHIN)
    assert handover.writer == "c1/s1"


async def test_one_that_has_missed_the_question_is_asked_again(
    handover: Handover, outbox: Outbox, clock: ManualClock
) -> None:
    """A broker whose queue for the collector is full drops what hosts say, and acknowledges it all the same."""
    await live(handover, clock, 5)
    outbox.wanting = [incident()]
    said = outbox.said
    await live(handover, clock, ASK_AFTER + LOOK_EVERY)
    assert outbox.said == said + 1
    told = DeliveredMessage(1, "c1/s1", (DeliveryState("inc_1", 0, "pending"),))
    handover.delivered(Message("tocsin/v1/web-1/delivered", encode(told), retain=False))
    await live(handover, clock, 3 * ANSWER_WITHIN)
    assert (handover.writer, outbox.said) == ("c1/s1", said + 1)


async def test_while_we_stood_still_nobody_could_answer(handover: Handover, outbox: Outbox, clock: ManualClock) -> None:
    """A machine that was paused finds the time gone by, and the answer unread."""
    await live(handover, clock, 5)
    outbox.wanting = [incident()]
    await live(handover, clock, 1)
    clock.tick(2 * ANSWER_WITHIN)
    await clock.advance(0)
    outbox.wanting = []
    await live(handover, clock, 1)
    assert handover.writer == "c1/s1"


@pytest.mark.parametrize("outage", [60, 300])
async def test_who_is_given_long_to_come_back_is_given_as_long_to_answer(
    outbox: Outbox, clock: ManualClock, outage: float
) -> None:
    """A broker that is away keeps heartbeats and answers back alike: how long that may last is `takeover_after`."""
    config = SlackConfig(bot_token=Secret("env", "NONE"), takeover_after=Duration(120))
    async with running(outbox, clock, config) as handover:
        await live(handover, clock, 5)
        outbox.wanting = [incident()]
        await clock.advance(outage)
        assert handover.writer == ("c1/s1" if outage < 120 else SELF)
        outbox.wanting = []
        await live(handover, clock, 5)
        assert handover.writer == "c1/s1"


async def test_where_the_host_never_writes_it_does_not_say_so(
    outbox: Outbox, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    config = SlackConfig(bot_token=Secret("env", "NONE"), deliver="collector")
    async with running(outbox, clock, config) as handover:
        await live(handover, clock, 5)
        outbox.wanting = [incident()]
        await live(handover, clock, 2 * ANSWER_WITHIN)
        assert handover.writer == "c1/s1"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_who_goes_on_without_having_the_turn_is_told_again(handover: Handover, outbox: Outbox) -> None:
    """It may have missed that its turn is over, and would post what this host posts, too."""
    await beat(handover)
    said = outbox.said
    for writer, times in (("c1/s1", 0), ("c1/s0", 1)):
        told = DeliveredMessage(1, writer, (DeliveryState("inc_1", 0, "pending"),))
        handover.delivered(Message("tocsin/v1/web-1/delivered", encode(told), retain=False))
        assert outbox.said == said + times


async def test_who_plays_many_collectors_costs_no_memory(handover: Handover, clock: ManualClock) -> None:
    payload = encode(Heartbeat("online", session="s1", delivers=True))
    for number in range(1000):
        handover.heartbeat(Message(f"tocsin/v1/_collector/c{number:04}/status", payload, retain=False))
    assert len(handover._turn._beats) < 100
    await clock.advance(LATEST)
    await beat(handover)
    assert handover.writer == "c1/s1"
