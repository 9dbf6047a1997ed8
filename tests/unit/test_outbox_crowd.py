"""Many hosts write into one channel at once: Slack answers that it has a post, and may not show it."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent.alerting.bulletin import is_bulletin
from agent.alerting.messenger import Posted
from agent.alerting.outbox import Outbox
from agent.alerting.state import State
from agent.config.schema import SlackRoute
from agent.errors import AmbiguousError, DeliveryError, RetryError, TokenError
from agent.model import Incident, Severity, Transition
from tests.fakes.clock import ManualClock, settle
from tests.unit.test_outbox import NOW, Recorder, after

HOSTS = 12


class Crowded(Recorder):
    """One channel, in which a post that comes within a second of another is taken and not shown."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.last = float("-inf")
        self.taken = 0
        self.shown: dict[str, tuple[str, str | None]] = {}

    async def post(
        self,
        incident: Incident,
        transition: Transition | None,
        channel: str,
        thread_ts: str | None,
        nonce: str,
        **keys: Any,
    ) -> Posted:
        posted = await super().post(incident, transition, channel, thread_ts, nonce, **keys)
        self.taken += 1
        last, self.last = self.last, self.clock.monotonic()
        if self.last - last >= 0.95:
            assert nonce not in self.shown, "it is there already"
            self.shown[nonce] = posted.ts, thread_ts
        return posted

    async def find(
        self, channel: str, nonce: str, since: float, thread_ts: str | None = None, *, at: str = ""
    ) -> Posted | None:
        await super().find(channel, nonce, since, thread_ts, at=at)
        ts, thread = self.shown.get(nonce, ("", None))
        return Posted(channel, ts) if ts and thread == thread_ts and at in ("", ts) else None

    def roots(self) -> Counter[str]:
        return Counter(nonce.split(".")[0] for nonce, (_, thread) in self.shown.items() if thread is None)


@pytest.fixture
def slack(clock: ManualClock) -> Crowded:
    return Crowded(clock)


@pytest.fixture
async def hosts(clock: ManualClock, slack: Crowded) -> AsyncIterator[list[Outbox]]:
    made = [Outbox(State(None), slack, clock) for _ in range(HOSTS)]
    workers = [asyncio.create_task(outbox.run()) for outbox in made]
    for outbox in made:
        outbox.crowded(math.inf)
    yield made
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


def of_host(number: int) -> Incident:
    warning = Severity.WARNING
    return Incident(f"inc_{number}", f"web-{number}", "Disk", "disk.used_percent", warning, warning, NOW, NOW, NOW, 1)


async def advance(clock: ManualClock, seconds: int) -> None:
    for _ in range(seconds):
        await clock.advance(1)


async def test_all_are_shown_in_the_end_and_each_once(hosts: list[Outbox], slack: Crowded, clock: ManualClock) -> None:
    opened = [of_host(number) for number in range(HOSTS)]
    for outbox, incident in zip(hosts, opened, strict=True):
        outbox.desire(incident)
    await settle()
    assert slack.taken == HOSTS
    assert len(slack.shown) == 1
    await advance(clock, 900)
    assert slack.roots() == {incident.id: 1 for incident in opened}
    for outbox, incident in zip(hosts, opened, strict=True):  # the rise mentions somebody, so it must be seen, too
        outbox.desire(after(incident, Severity.CRITICAL))
    await advance(clock, 900)
    threads = {thread for _, thread in slack.shown.values() if thread is not None}
    assert threads == {ts for ts, thread in slack.shown.values() if thread is None}
    assert all(row.state == "delivered" for outbox in hosts for row in outbox.shown())


async def test_who_writes_next_looks(hosts: list[Outbox], slack: Crowded, clock: ManualClock) -> None:
    slack.last = clock.monotonic()
    first, second = hosts[:2]
    first.desire(of_host(0))
    await settle()
    await first.hold()
    second.desire(of_host(0), told=first.shown()[0])
    await settle()
    assert slack.taken == 1
    await advance(clock, 30)
    assert slack.roots() == {"inc_0": 1}
    first.adopt(second.shown())
    assert first.shown() == second.shown()
    assert first.shown()[0].state == "delivered"


async def test_where_nobody_may_look_what_slack_says_must_do(
    hosts: list[Outbox], slack: Crowded, clock: ManualClock
) -> None:
    hosts[0].desire(of_host(0))
    await settle()
    slack.errors = [RetryError("ratelimited", "", after=3), TokenError("missing_scope")]
    await advance(clock, 60)
    assert slack.whats == ["post", "find", "find"]
    assert hosts[0].shown()[0].state == "delivered"


async def test_held_it_looks_for_its_storm_alone_and_keeps_it_true(slack: Crowded, clock: ManualClock) -> None:
    """Nobody else may edit that; what waits for a look must not keep it from being edited."""
    outbox = Outbox(State(None), slack, clock, storm_after=2)
    outbox.crowded(math.inf)
    worker = asyncio.create_task(outbox.run())
    opened = [of_host(number) for number in range(4)]
    for incident in opened:
        outbox.desire(incident)
    storm = next(row for row in outbox._rows.values() if is_bulletin(row.incident))
    while not storm.ts:
        await clock.advance(0.1)
    assert storm.unseen is not None
    await outbox.hold()
    for incident in opened:
        outbox.desire(after(incident, None))
    await advance(clock, 60)
    assert storm.unseen is None
    assert (storm.incident.state, storm.delivered) == ("resolved", storm.incident.version)
    worker.cancel()


async def test_a_success_elsewhere_hastens_no_look(slack: Crowded, clock: ManualClock) -> None:
    """What was taken a moment ago may not be in the history yet, and would be told twice."""
    outbox = Outbox(State(None), slack, clock, routes=(SlackRoute(match={"host": "web-1"}, channel="#other"),))
    outbox.crowded(math.inf)
    worker = asyncio.create_task(outbox.run())
    slack.errors = [RetryError("unreachable")]
    outbox.desire(of_host(1))
    await clock.advance(0.4)
    outbox.desire(of_host(0))
    await clock.advance(1.2)
    assert slack.whats == ["post", "post", "post"]
    await advance(clock, 5)
    posted = {channel: at for what, at, channel in slack.calls if what == "post"}
    looked = [at for what, at, _ in slack.calls if what == "find"]
    assert min(looked) >= posted["#alerts"] + 2
    worker.cancel()


async def test_alone_it_need_not_look(slack: Crowded, clock: ManualClock) -> None:
    outbox = Outbox(State(None), slack, clock)
    worker = asyncio.create_task(outbox.run())
    outbox.desire(of_host(0))
    await advance(clock, 30)
    assert slack.whats == ["post"]
    worker.cancel()


class Unreadable(Crowded):
    """Posts are taken and shown; the history cannot be read."""

    error: DeliveryError = AmbiguousError("internal_error")

    async def find(
        self, channel: str, nonce: str, since: float, thread_ts: str | None = None, *, at: str = ""
    ) -> Posted | None:
        self.note("find", nonce)
        raise self.error


@pytest.mark.parametrize(
    "error",
    [AmbiguousError("internal_error"), RetryError("ratelimited", after=60), DeliveryError("never_heard_of")],
    ids=str,
)
async def test_a_look_that_fails_keeps_nothing_waiting(clock: ManualClock, error: DeliveryError) -> None:
    slack = Unreadable(clock)
    slack.error = error
    outbox = Outbox(State(None), slack, clock)
    outbox.crowded(math.inf)
    worker = asyncio.create_task(outbox.run())
    outbox.desire(incident := of_host(0))
    await advance(clock, 400)
    rises = clock.monotonic()
    outbox.desire(after(incident, Severity.CRITICAL))
    await advance(clock, 3)
    assert [(what, at - rises) for what, at, _ in slack.calls if at >= rises and what != "find"] == [
        ("edit", 0.0),
        ("reply escalated", 0.0),
    ]
    worker.cancel()


async def test_a_history_that_cannot_be_read_is_no_outage(clock: ManualClock) -> None:
    """What has been told is not told again by a digest, nor by the other way out; and the looking ends."""
    slack = Unreadable(clock)
    outbox = Outbox(State(None), slack, clock)
    outbox.crowded(math.inf)
    worker = asyncio.create_task(outbox.run())
    outbox.desire(of_host(0))
    await advance(clock, 3)
    assert (outbox.down_for, outbox.waiting()) == (0.0, [])
    await advance(clock, 7200)
    assert [what for what in slack.whats if what != "find"] == ["post"]
    assert outbox.shown()[0].state == "delivered"
    worker.cancel()


async def test_a_storm_is_seen_before_anything_is_told_in_its_thread(slack: Crowded, clock: ManualClock) -> None:
    """What stands in the thread of a message that nobody sees is seen by nobody."""
    outbox = Outbox(State(None), slack, clock, storm_after=2)
    outbox.crowded(math.inf)
    worker = asyncio.create_task(outbox.run())
    slack.last = clock.monotonic()
    for number in range(4):
        outbox.desire(of_host(number))
    await advance(clock, 300)
    roots = {ts for ts, thread in slack.shown.values() if thread is None}
    assert {thread for _, thread in slack.shown.values() if thread is not None} <= roots
    assert sum(1 for _, thread in slack.shown.values() if thread in roots) >= 2
    worker.cancel()


async def test_after_doubt_a_reply_behind_a_look_is_looked_for(slack: Crowded, clock: ManualClock) -> None:
    """Whoever wrote until now may have looked, and told the thread."""
    outbox = Outbox(State(None), slack, clock)
    outbox.crowded(math.inf)
    worker = asyncio.create_task(outbox.run())
    outbox.desire(incident := of_host(0))
    await settle()
    outbox.desire(after(incident, Severity.CRITICAL))
    await settle()
    assert slack.whats == ["post", "edit"]
    outbox.doubt()
    await advance(clock, 10)
    mark = "inc_0.1.2"
    assert [what for what, _, about in slack.calls if about == mark or what.startswith("reply")][:2] == [
        "find",
        "reply escalated",
    ]
    worker.cancel()
