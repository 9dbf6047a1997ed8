"""An outbox as one of several writers: it holds still, goes on from what another tells, and doubts what it does not."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from agent.alerting.delivery import Delivery
from agent.alerting.messenger import Posted
from agent.errors import AmbiguousError
from agent.model import DeliveryState, Severity, Transition, TransitionKind
from tests.fakes.clock import ManualClock, settle
from tests.unit.test_outbox import Bench, after, bench, incident

__all__ = ["bench"]


async def test_what_is_muted_is_not_told_until_it_is_so_no_more(bench: Bench, clock: ManualClock) -> None:
    """A message that is there goes on to be true; one that is not comes when the silence ends, or never."""
    held = await bench.desire(incident(muted="silenced"))
    gone = await bench.desire(incident(2, muted="silenced"))
    await bench.desire(after(gone, None))
    await clock.advance(60)
    assert bench.slack.calls == []
    await bench.desire(msgspec.structs.replace(held, version=2, muted=""))
    assert bench.slack.whats == ["post"]
    await bench.desire(msgspec.structs.replace(held, version=3, muted="again"))
    await clock.advance(60)
    assert bench.slack.whats == ["post", "edit"]
    await bench.stop()
    bench.start()
    assert {row.incident: row.state for row in bench.outbox.shown()}["inc_1"] == "delivered"


async def test_held_it_begins_nothing_and_gently_it_goes_slowly(bench: Bench, clock: ManualClock) -> None:
    await bench.outbox.hold()
    for number in range(3):
        await bench.desire(incident(number))
    await clock.advance(30)
    assert bench.slack.calls == []
    bench.outbox.resume(gently=True)
    await clock.advance(4)
    assert len(bench.slack.calls) == 1
    await clock.advance(7)
    assert len(bench.slack.calls) == 3


async def test_hold_waits_for_the_call_under_way(bench: Bench) -> None:
    going, go = asyncio.Event(), asyncio.Event()
    post = bench.slack.post

    async def slow(*args, **keys):
        going.set()
        await go.wait()
        return await post(*args, **keys)

    bench.slack.post = slow
    bench.outbox.desire(incident())
    await going.wait()
    assert bench.outbox.busy
    holding = asyncio.create_task(bench.outbox.hold())
    await settle()
    assert not holding.done()
    go.set()
    await holding
    assert not bench.outbox.busy
    assert bench.row.state == "delivered"


async def test_only_what_it_may(bench: Bench, clock: ManualClock) -> None:
    bench.outbox._may = lambda row: row.incident.host == "web-2"
    await bench.desire(incident())
    await clock.advance(5)
    assert bench.slack.calls == []
    bench.outbox.release(lambda row: row.incident.host == "web-1")
    assert bench.outbox.shown() == []


async def test_after_doubt_it_looks_before_it_posts(bench: Bench, clock: ManualClock) -> None:
    """What another may have posted is found by the same mark."""
    await bench.outbox.hold()
    await bench.desire(incident())
    bench.outbox.doubt()
    bench.outbox.resume(gently=False)
    await clock.advance(5)
    assert bench.slack.whats == ["find", "post"]
    assert bench.slack.calls[0][2] == "inc_1.1"


async def test_it_goes_on_from_what_another_has_posted(bench: Bench, clock: ManualClock) -> None:
    await bench.outbox.hold()
    seen = await bench.desire(incident())
    bench.outbox.doubt()
    told = DeliveryState("inc_1", 1, "delivered", "C9", "9.9", desired=1, open=True)
    bench.outbox.adopt([told, DeliveryState("inc_unknown", 1, "delivered")])
    bench.outbox.resume(gently=False)
    await clock.advance(5)
    assert bench.slack.calls == []
    await bench.desire(after(seen, None))
    await clock.advance(15)
    assert bench.slack.whats == ["edit", "reply resolved"]


async def test_what_another_has_told_is_not_told_again_as_we_just_look(bench: Bench, clock: ManualClock) -> None:
    """The version that was told may come out of the database while a call about the message is under way."""
    going, go = asyncio.Event(), asyncio.Event()

    async def slow(*args, **keys):
        going.set()
        await go.wait()
        return Posted("C9", "1")

    bench.slack.find = slow
    bench.outbox.crowded(60)
    seen = await bench.desire(incident())
    turning = asyncio.create_task(clock.advance(5))
    await going.wait()
    done = DeliveryState("inc_1", 2, "delivered", bench.row.channel, bench.row.ts, desired=2, open=True)
    bench.outbox.desire(after(seen, Severity.CRITICAL), told=done)
    go.set()
    await turning
    await clock.advance(60)
    assert "reply escalated" not in bench.slack.whats
    assert bench.row.state == "delivered"


@pytest.mark.parametrize("hint", [False, True])
async def test_what_another_says_of_a_version_to_come_is_told_once(
    bench: Bench, clock: ManualClock, hint: bool
) -> None:
    """What a host wants told may be heard before the incident's new version, of which two came at once there."""
    seen = await bench.desire(incident(flapping=True))
    host = Delivery(seen, "#alerts", ts=bench.row.ts, posted_in=bench.row.channel, delivered=1, state="delivered")
    steady = msgspec.structs.replace(seen, version=2, flapping=False)
    over = after(steady, None)
    host.desire(steady)
    host.desire(over)
    bench.outbox.adopt([told(host)])
    await clock.advance(5)
    assert bench.slack.whats == ["post"]
    for version in (steady, over):
        bench.outbox.desire(version, told=told(host) if hint else None)
    await clock.advance(30)
    assert bench.slack.whats == ["post", "edit", "reply resolved"]


@pytest.mark.parametrize("known", [0, 1, 2])
def test_a_reminder_that_another_was_about_to_tell_is_told(known: int) -> None:
    """It counts as told there, and an escalation calls once: nobody would ever hear of it. `known` is the version up to
    which the next writer has come with it.
    """
    first, second = incident(), msgspec.structs.replace(incident(), version=2)
    call = Transition("inc_1", 2, TransitionKind.REMINDED, Severity.WARNING, 5.0, None, "So it goes to others.")
    before = Delivery(second, "#alerts", ts="1.1", posted_in="C1", delivered=2, reminded=1, escalated=True, call=call)
    row = Delivery(second if known == 2 else first, "#alerts")
    if known:
        row.ts, row.posted_in, row.delivered, row.state = "1.1", "C1", known, "delivered"
    row.adopt(told(before))
    row.desire(second)
    row.adopt(told(before))
    assert (row.next(), row.call) == ("reply", call)
    assert not before.adopt(told(row)), "that it is not told yet is known"
    row.begin("reply", 6.0)
    row.done("reply", "C1", "1.2")
    assert not row.adopt(told(before)), "an old word of it changes nothing"
    assert before.adopt(told(row))
    assert row.next() is before.next() is None


def told(row: Delivery) -> DeliveryState:
    return row.shown()


def test_what_is_known_only_grows() -> None:
    """Whichever of two rows learns of the other, both end with the better knowledge."""
    base = incident()
    escalated = after(base, Severity.CRITICAL)
    call = Transition("inc_1", 2, TransitionKind.ESCALATED, Severity.CRITICAL, 5.0)
    stages = [
        Delivery(escalated, "#alerts"),
        Delivery(escalated, "#alerts", state="ambiguous", doing="post", nonce="inc_1.1", asked_at=1.0),
        Delivery(escalated, "#alerts", posted_in="C1", ts="1.1", delivered=1, call=call),
        Delivery(escalated, "#alerts", posted_in="C1", ts="1.1", delivered=2, call=call),
        Delivery(
            escalated, "#alerts", posted_in="C1", ts="1.1", delivered=2, call=call, state="ambiguous", doing="reply"
        ),
        Delivery(escalated, "#alerts", posted_in="C1", ts="1.1", delivered=2, state="delivered", urgent=False),
        Delivery(escalated, "#alerts", posted_in="C1", ts="1.9", delivered=1, generation=2, call=call),
    ]
    for lower, less in enumerate(stages):
        for more in stages[lower:]:
            learner, teacher = msgspec.structs.replace(less), msgspec.structs.replace(more)
            assert learner.adopt(told(more)) == (less is not more)
            assert (learner.ts, learner.delivered, learner.call, learner.doing) == (
                more.ts,
                more.delivered,
                more.call,
                more.doing,
            )
            assert not teacher.adopt(told(less))
            assert teacher == more


def test_what_came_later_is_still_to_be_told() -> None:
    """Another writer has shown an older version: the newer one is shown, and its thread is told."""
    base = incident()
    resolved = after(after(base, Severity.CRITICAL), None)
    call = Transition("inc_1", 3, TransitionKind.RESOLVED, Severity.OK, 9.0)
    row = Delivery(resolved, "#alerts", call=call)
    assert row.adopt(DeliveryState("inc_1", 2, "delivered", "C1", "1.1", desired=2, open=True))
    assert (row.state, row.next(), row.call) == ("pending", "edit", call)


@pytest.mark.parametrize("error", [AmbiguousError("timeout")])
async def test_a_doubtful_call_is_handed_over_as_one(bench: Bench, clock: ManualClock, error: AmbiguousError) -> None:
    bench.slack.errors = [error]
    await bench.desire(incident())
    await bench.outbox.hold()
    [row] = bench.outbox.shown()
    assert (row.state, row.doing, row.nonce) == ("ambiguous", "post", "inc_1.1")
    other = Delivery(incident(), "#alerts")
    assert other.adopt(row)
    assert other.next() == "find"


def test_a_doubt_counts_though_its_end_is_still_to_be_told() -> None:
    """What another may have posted is looked for, also where the incident is over by now."""
    resolved = after(incident(), None)
    call = Transition("inc_1", 2, TransitionKind.RESOLVED, Severity.OK, 9.0)
    doubtful = Delivery(resolved, "#alerts", state="ambiguous", doing="post", nonce="inc_1.1", asked_at=1.0, call=call)
    row = Delivery(resolved, "#alerts")
    assert row.adopt(told(doubtful))
    assert row.next() == "find"


def test_what_the_thread_may_have_been_told_is_looked_for_before_the_edit() -> None:
    """Another may have made both; what is found is not told again, and the edit is made."""
    call = Transition("inc_1", 2, TransitionKind.RESOLVED, Severity.OK, 9.0)
    row = Delivery(after(incident(), None), "#alerts", posted_in="C1", ts="1.1", delivered=1, call=call)
    row.doubt()
    assert (row.next(), row.nonce) == ("find", "inc_1.1.2")
    row.done("find", "C1", "1.2")
    assert (row.next(), row.call, row.ts) == ("edit", None, "1.1")
