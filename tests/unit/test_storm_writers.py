"""A storm while its incidents change hands: what its message says, where each is told, and that none is told twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import pytest

from agent.alerting.bulletin import is_bulletin
from agent.alerting.messenger import Posted
from agent.collector.fleet import Fleet
from agent.collector.herald import Herald
from agent.collector.hostwatch import HostWatch
from agent.collector.lease import Lease
from agent.collector.live import Hub
from agent.config.schema import SlackRoute
from agent.config.units import Duration
from agent.errors import AmbiguousError, AnewError, RetryError
from agent.model import DeliveryState, Incident, Severity, Transition
from agent.transport.wire import DeliveriesMessage
from tests.fakes.clock import ManualClock
from tests.unit.test_outbox import Bench, after, bench
from tests.unit.test_weather import Reader, many

__all__ = ["bench"]
DAY = 86400.0


class Channel(Reader):
    """Finds what was posted, in the channel or in the thread, and has each mark once."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.marks: dict[tuple[str, str | None], str] = {}

    async def post(
        self,
        incident: Incident,
        transition: Transition | None,
        channel: str,
        thread_ts: str | None,
        *rest: Any,
        **k: Any,
    ) -> Posted:
        posted = await super().post(incident, transition, channel, thread_ts, *rest, **k)
        assert not any(mark == rest[0] for mark, _ in self.marks), f"{rest[0]} is posted twice"
        self.marks[rest[0], thread_ts] = posted.ts
        return posted

    async def find(
        self, channel: str, nonce: str, since: float, thread_ts: str | None = None, *, at: str = ""
    ) -> Posted | None:
        await super().find(channel, nonce, since, thread_ts, at=at)
        found = self.marks.get((nonce, thread_ts))
        return None if found is None else Posted("Calerts", found)

    @property
    def storm(self) -> Incident:
        [found] = [incident for incident in self.standing.values() if incident.metric == "storm"]
        return found

    @property
    def root(self) -> str:
        [found] = [ts for ts, incident in self.standing.items() if incident.metric == "storm"]
        return found

    def where(self, incident: str) -> str | None:
        [thread] = [self.threads[ts] for ts, shown in self.standing.items() if shown.id == incident]
        return thread


@pytest.fixture
async def slack(bench: Bench, clock: ManualClock) -> Channel:
    made = bench.slack = Channel(clock)
    bench.outbox._messenger = made
    return made


@pytest.fixture
async def other(bench: Bench, slack: Channel, clock: ManualClock) -> AsyncIterator[Bench]:
    """A second writer in the same Slack, which holds still."""
    made = Bench(clock)
    made.slack = slack
    made.outbox._messenger = slack
    await made.outbox.hold()
    yield made
    await made.stop()


async def storm(bench: Bench, clock: ManualClock, number: int = 12) -> list[Incident]:
    opened = [await bench.desire(many(n, clock)) for n in range(number)]
    await clock.advance(2)
    return opened


async def test_it_is_not_over_while_others_tell_of_it(bench: Bench, clock: ManualClock, slack: Channel) -> None:
    """What comes back rejoins it uncounted; what is over by the time is over."""
    opened = await storm(bench, clock)
    await clock.advance(20)
    slips = bench.outbox.shown()
    bench.outbox.release(lambda row: row.incident.host in ("web-1", "web-2"))
    await clock.advance(15)
    assert "9 warning open; each is in the thread; 2 more told by their hosts now" in slack.storm.summary
    bench.outbox.release(lambda row: not is_bulletin(row.incident))
    await clock.advance(15)
    assert slack.storm.state == "open"
    assert slack.storm.summary.endswith("on 11 hosts; 11 told by their hosts now")
    assert bench.outbox.shown() == []
    assert bench.outbox.waiting() == []
    await clock.advance(400)
    bench.outbox.drop(lambda row: row.id in {incident.id for incident in opened[:9]})
    bench.outbox.adopt(slips[9:])
    await clock.advance(15)
    assert slack.storm.summary.startswith("11 incidents in")
    assert slack.storm.summary.endswith("3 warning open; each is in the thread")
    for incident in opened[9:]:
        await bench.desire(after(incident, None))
    await clock.advance(15)
    assert slack.storm.state == "resolved"
    assert slack.storm.summary.endswith("all of them are over")


async def test_of_what_is_never_heard_again_it_ends_after_a_day(
    bench: Bench, clock: ManualClock, slack: Channel
) -> None:
    """And says so; what is told of all of it is forgotten another day later."""
    opened = await storm(bench, clock)
    bench.outbox.release(lambda row: row.incident.host == "web-3")
    for incident in opened:
        if incident.host != "web-3":
            await bench.desire(after(incident, None))
    await clock.advance(DAY / 2)
    assert slack.storm.summary.endswith("1 told by its host now")
    await clock.advance(DAY / 2 + 700)
    assert slack.storm.state == "resolved"
    assert slack.storm.summary.endswith("of 1 nothing was heard for a day, the others are over")
    await clock.advance(DAY + 700)
    await bench.desire(many(99, clock))
    await clock.advance(1)
    assert set(bench.outbox._rows) == {"inc_0099"}
    assert bench.outbox._weather._storms == {}


async def test_held_it_keeps_its_storm_true_and_does_no_more(bench: Bench, clock: ManualClock, slack: Channel) -> None:
    """What fails meanwhile says nothing about Slack."""
    opened = await storm(bench, clock)
    await bench.outbox.hold()
    before = len(slack.calls)
    for incident in opened[:6]:
        await bench.desire(after(incident, None))
    await clock.advance(30)
    assert slack.storm.summary.endswith("6 warning open; each is in the thread")
    slack.errors = [RetryError("unreachable")] * 5
    for incident in opened[6:]:
        await bench.desire(after(incident, None))
    await bench.desire(many(50, clock))
    await clock.advance(5)
    assert bench.outbox.down_for == 0
    await clock.advance(300)
    assert slack.storm.state == "resolved"
    assert set(slack.whats[before:]) == {"edit"}


async def test_what_was_not_told_when_another_began_to_write_never_is(
    bench: Bench, clock: ManualClock, slack: Channel
) -> None:
    """Its incidents are told one by one, here by the same that comes to write again."""
    slack.errors = [RetryError("unreachable")] * 30
    opened = await storm(bench, clock)
    await bench.outbox.hold()
    slack.errors = []
    assert not any(is_bulletin(row.incident) for row in bench.outbox._rows.values())
    assert {slip.state for slip in bench.outbox.shown()} == {"pending"}
    bench.outbox.resume(gently=False)
    await clock.advance(60)
    assert {incident.id for incident in slack.standing.values()} == {incident.id for incident in opened}
    assert set(slack.threads.values()) == {None}


async def test_what_may_have_been_told_is_looked_for(bench: Bench, clock: ManualClock, slack: Channel) -> None:
    """A storm whose message was in the wires when another began to write."""
    for number in range(8):
        await bench.desire(many(number, clock))
    await clock.advance(20)
    slack.errors = [AmbiguousError("timeout")]
    await bench.desire(many(8, clock))
    await clock.advance(0.1)
    await bench.outbox.hold()
    calls = len(slack.calls)
    await clock.advance(30)
    assert len(slack.calls) == calls
    bench.outbox.resume(gently=False)
    await clock.advance(20)
    assert slack.whats[calls:][:2] == ["find", "post"]
    assert slack.where("inc_0008") == slack.root


async def test_who_takes_over_goes_on_in_the_thread(
    bench: Bench, other: Bench, clock: ManualClock, slack: Channel
) -> None:
    """Though it has not heard of the last child, and of the others only where they are to be."""
    opened = await storm(bench, clock)
    for incident in opened:
        await other.desire(incident)
    heard = bench.outbox.shown()
    await clock.advance(8)
    await bench.stop()  # with a child in the thread that nobody has heard of
    posted = {incident.id for ts, incident in slack.standing.items() if slack.threads[ts]}
    assert posted - {slip.incident for slip in heard if slip.ts}
    other.outbox.adopt(heard)
    other.outbox.doubt()
    other.outbox.resume(gently=True)
    await other.desire(after(opened[0], None))
    await clock.advance(120)
    children = {incident.id for incident in opened if slack.where(incident.id) == slack.root}
    assert children == {incident.id for incident in opened[1:]}
    assert slack.where(opened[0].id) is None
    assert all(slip.state == "delivered" for slip in other.outbox.shown())
    assert slack.storm.summary.startswith("11 incidents")


@pytest.mark.parametrize("slack_says", ["thread_not_found", "message_not_found"])
async def test_where_the_thread_is_gone_it_is_told_by_itself(
    bench: Bench, other: Bench, clock: ManualClock, slack: Channel, slack_says: str
) -> None:
    incident = await other.desire(many(1, clock))
    other.outbox.adopt([DeliveryState(incident.id, 0, "pending", desired=1, open=True, thread="9.9")])
    slack.errors = [AnewError(slack_says)] * 2
    other.outbox.doubt()
    other.outbox.resume(gently=False)
    await clock.advance(5)
    assert slack.where(incident.id) is None
    assert slack.whats == ["find", "post", "post"]


async def test_what_another_did_not_come_to_tell_makes_a_storm(
    bench: Bench, clock: ManualClock, slack: Channel
) -> None:
    """It fell silent with all that opened while it wrote."""
    await bench.outbox.hold()
    opened = [await bench.desire(many(number, clock)) for number in range(30)]
    bench.outbox.doubt()
    bench.outbox.resume(gently=True)
    await clock.advance(600)
    assert {incident.id for incident in opened} < {incident.id for incident in slack.standing.values()}
    assert {slack.where(incident.id) for incident in opened} == {slack.root}


async def test_what_another_has_told_makes_no_storm(bench: Bench, clock: ManualClock, slack: Channel) -> None:
    """Though a few are left to tell, and many opened meanwhile."""
    await bench.outbox.hold()
    opened = [await bench.desire(many(number, clock)) for number in range(30)]
    slips = [DeliveryState(i.id, 1, "delivered", "Calerts", i.id, desired=1, open=True) for i in opened[:25]]
    bench.outbox.adopt(slips)
    await clock.advance(90)
    bench.outbox.doubt()
    bench.outbox.resume(gently=True)
    await clock.advance(600)
    assert [incident.id for incident in slack.standing.values()] == [incident.id for incident in opened[25:]]
    assert set(slack.threads.values()) == {None}


async def test_what_is_told_in_anothers_thread_makes_no_storm(bench: Bench, clock: ManualClock, slack: Channel) -> None:
    for number in range(20):
        slip = DeliveryState(f"inc_{number:04}", 0, "pending", desired=1, open=True, thread="9.9")
        bench.outbox.desire(many(number, clock), told=slip)
    await clock.advance(300)
    assert set(slack.threads.values()) == {"9.9"}
    assert not any(incident.metric == "storm" for incident in slack.standing.values())


async def test_a_storm_that_nobody_takes_is_called_for_once(bench: Bench, clock: ManualClock, slack: Channel) -> None:
    """By the route of the worst of it; not when one of it was acknowledged."""
    calls = SlackRoute(severity="critical", match={"host": "web-*"}, escalate_after=Duration(900), escalate_to="U0BOSS")
    bench.outbox.reroute("#alerts", [calls])
    opened = [await bench.desire(many(number, clock)) for number in range(9)]
    await bench.desire(many(9, clock, Severity.CRITICAL))
    await clock.advance(3600)
    [(said, thread)] = [entry for entry in slack.said if entry[1] == slack.root]
    assert "U0BOSS" in said
    assert thread == slack.root
    assert all("U0BOSS" not in said for said, at in slack.said if at != slack.root), opened


async def test_a_storm_that_somebody_takes_is_not_called_for(bench: Bench, clock: ManualClock, slack: Channel) -> None:
    calls = SlackRoute(match={"host": "web-*"}, escalate_after=Duration(900), escalate_to="U0BOSS")
    bench.outbox.reroute("#alerts", [calls])
    opened = await storm(bench, clock)
    await bench.desire(msgspec.structs.replace(opened[-1], version=2, acknowledged_by="ada"))
    await clock.advance(3600)
    assert not any(thread == slack.root for _, thread in slack.said)


class Desk:
    """A collector's herald over an outbox; what hosts say is said by the test."""

    def __init__(self, bench: Bench, clock: ManualClock) -> None:
        self.lease = Lease("c1", 1e9)
        nothing = cast("Any", None)
        watch = HostWatch(bench.state, clock)
        fleet = Fleet(clock, Hub(), 45.0)
        self.herald = Herald(self.lease, nothing, fleet, watch, clock, tell=lambda *_: None, keep=lambda *_: None)
        self.herald.outbox = bench.outbox
        self.herald.delivering = True
        bench.outbox._may = self.herald.may
        self._clock = clock
        self.connect()

    def connect(self) -> None:
        self.lease.begin()
        self.herald.connected()
        self.lease.confirmed(self._clock.monotonic())

    def hear(self, host: str, slips: list[DeliveryState], writer: str | None = None) -> None:
        by = self.lease.writer if writer is None else writer
        self.herald.deliveries(host, DeliveriesMessage(1, host, self._clock.now(), tuple(slips), by))


@pytest.mark.parametrize("killed", [False, True])
async def test_a_collector_that_is_another_writer_now(
    bench: Bench, clock: ManualClock, slack: Channel, killed: bool
) -> None:
    """Connected anew, or killed and started: its storm's text holds at each stage, and nothing is told twice."""
    desk = Desk(bench, clock)
    opened = [many(number, clock, hosts=3) for number in range(12)]
    for host in ("web-0", "web-1", "web-2"):
        desk.hear(host, [DeliveryState(i.id, 0, "pending", desired=1, open=True) for i in opened if i.host == host])
    for incident in opened:
        desk.herald.committed(incident)
    await clock.advance(25)
    slips = {host: bench.outbox.shown(host) for host in ("web-0", "web-1", "web-2")}
    assert slack.storm.summary.endswith("12 warning open; each is in the thread")
    if killed:
        await bench.stop()
        bench.start()
        bench.outbox._messenger = slack
        desk = Desk(bench, clock)
    else:
        desk.connect()
    await clock.advance(15)
    assert slack.storm.summary.endswith("12 told by their hosts now")
    gone = slips["web-0"][0]
    over = msgspec.structs.replace(gone, open=False, desired=2, version=2)
    desk.hear("web-0", [over, *slips["web-0"][1:]], writer="")
    await clock.advance(15)
    assert slack.storm.summary.endswith("11 told by their hosts now"), "also while they write, they say what is over"
    desk.hear("web-0", slips["web-0"][1:])
    desk.hear("web-1", slips["web-1"])
    await clock.advance(15)
    assert slack.storm.summary.endswith("7 warning open; each is in the thread; 4 more told by their hosts now")
    desk.hear("web-2", [])
    for incident in opened:
        if incident.host != "web-2":
            desk.herald.committed(after(incident, None))
    await clock.advance(30)
    assert slack.storm.summary.startswith("12 incidents in")
    assert slack.storm.summary.endswith("all of them are over")
