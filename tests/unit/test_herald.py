"""What a host says of its messages, as the collector that writes for it takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from msgspec import structs

from agent.alerting.outbox import Outbox
from agent.alerting.state import State
from agent.collector.fleet import Fleet, Gone
from agent.collector.herald import FETCH_SLOWEST, Herald
from agent.collector.hostwatch import HostWatch
from agent.collector.lease import Lease
from agent.collector.live import Hub
from agent.collector.store import IncidentRow
from agent.config.schema import SlackRoute
from agent.config.units import Duration
from agent.errors import RetryError, ShrinkError
from agent.model import Incident, Severity, Transition
from agent.transport.wire import DeliveredMessage, DeliveriesMessage, Heartbeat
from tests.fakes.clock import ManualClock
from tests.unit.test_outbox import Recorder, after, incident

HOUR = 3600
ROUTES = (SlackRoute(channel="#alerts", remind_every=Duration(HOUR)),)


class Reader:
    """The database: it has every incident of these."""

    def __init__(self, *incidents: Incident) -> None:
        self._rows = {one.id: IncidentRow.of(one.host, one) for one in incidents}
        self.asked = 0

    async def incident(self, incident: str) -> IncidentRow | None:
        self.asked += 1
        return self._rows.get(incident)

    def store(self, one: Incident) -> None:
        self._rows[one.id] = IncidentRow.of(one.host, one)

    async def open_of(self, threshold: str, metric: str) -> list[IncidentRow]:
        del threshold, metric
        return []


class Scene:
    """A host that has handed over, and the collector that writes for it."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.slack = Recorder(clock)
        self.host = Outbox(State(None), Recorder(clock), clock, routes=ROUTES, on_change=self.say)
        self.host.pause()
        self.lease = Lease("c1", 1e9)
        self.lease.begin()
        self.lease.confirmed(0.0)
        self.state = State(None)
        self.watch, fleet = HostWatch(State(None), clock), Fleet(clock, Hub(), 45.0)
        self.kept: list[tuple[str, int]] = []
        self.reader = Reader(incident())
        reader = cast("Any", self.reader)
        self.herald = Herald(self.lease, reader, fleet, self.watch, clock, tell=self.tell, keep=self.keep)
        self.herald.delivering = True
        self.herald.outbox = Outbox(
            self.state, self.slack, clock, routes=ROUTES, may=self.herald.may, on_change=self.herald.changed
        )
        self.work = asyncio.create_task(self.herald.run())

    def say(self) -> None:
        message = DeliveriesMessage(1, "web-1", self.clock.now(), tuple(self.host.shown()), self.lease.writer)
        self.herald.deliveries("web-1", message)

    def keep(self, incident: Incident, transition: Transition) -> None:
        self.kept.append((incident.host, transition.version))

    def tell(self, host: str, message: DeliveredMessage) -> None:
        self.host.adopt(message.deliveries)


@pytest.fixture
async def scene(clock: ManualClock) -> AsyncIterator[Scene]:
    made = Scene(clock)
    yield made
    made.work.cancel()
    await asyncio.gather(made.work, return_exceptions=True)


async def test_a_snooze_on_the_host_holds_at_once_for_who_writes(scene: Scene, clock: ManualClock) -> None:
    scene.host.desire(incident())
    await clock.advance(5)
    assert scene.slack.whats == ["post"]
    scene.host.snooze("inc_1", 10 * HOUR)
    await clock.advance(9 * HOUR)
    assert scene.slack.whats == ["post"]
    await clock.advance(2 * HOUR)
    assert scene.slack.whats == ["post", "reply reminded"]


async def test_a_snooze_that_comes_while_a_reminder_is_posted_holds_too(scene: Scene, clock: ManualClock) -> None:
    """That is when people ask for one."""
    going, go = asyncio.Event(), asyncio.Event()
    post = scene.slack.post

    async def slow(*args: Any, **keys: Any) -> Any:
        going.set()
        await go.wait()
        return await post(*args, **keys)

    scene.host.desire(incident())
    await clock.advance(5)
    scene.slack.post = slow  # type: ignore[method-assign]
    turning = asyncio.create_task(clock.advance(HOUR))
    await going.wait()
    scene.host.snooze("inc_1", 10 * HOUR)
    go.set()
    await turning
    await clock.advance(8 * HOUR)
    assert scene.slack.whats == ["post", "reply reminded"]
    await clock.advance(2 * HOUR)
    assert scene.slack.whats == ["post", "reply reminded", "reply reminded"]


async def test_the_last_snooze_holds_be_it_the_shorter(scene: Scene, clock: ManualClock) -> None:
    """Somebody has put it off for longer than was meant, and says so."""
    scene.host.desire(incident())
    await clock.advance(5)
    scene.host.snooze("inc_1", 10 * HOUR)
    scene.host.snooze("inc_1", 2 * HOUR)
    await clock.advance(2 * HOUR + 600)
    assert scene.slack.whats == ["post", "reply reminded"]


async def test_a_reminder_that_has_to_wait_is_told(scene: Scene, clock: ManualClock) -> None:
    """The host hears of it meanwhile, and what it says then must not take it back."""
    scene.host.desire(incident())
    await clock.advance(5)
    scene.slack.errors = [RetryError("ratelimited", after=60.0)]
    await clock.advance(HOUR)
    assert scene.slack.whats.count("reply reminded") == 1, "which Slack has refused"
    await clock.advance(90)
    assert scene.slack.whats.count("reply reminded") == 2
    await clock.advance(300)
    assert scene.slack.whats.count("reply reminded") == 2
    assert scene.host.shown()[0].call is None


async def test_a_snooze_is_kept_by_who_writes(scene: Scene, clock: ManualClock) -> None:
    """Its next process must not remind before the host has said so again."""
    scene.host.desire(incident())
    await clock.advance(5)
    scene.host.snooze("inc_1", 10 * HOUR)
    again = Outbox(scene.state, Recorder(clock), clock, routes=ROUTES)
    [row] = again.shown("web-1")
    assert row.snoozed_until == pytest.approx(clock.now() + 10 * HOUR)


async def test_what_slack_refuses_for_good_is_known_on_the_host(scene: Scene, clock: ManualClock) -> None:
    """Else it waits for ever on the dashboard, which shows what hosts say."""
    scene.slack.errors = [ShrinkError("invalid_blocks")] * 2
    scene.host.desire(incident())
    await clock.advance(30)
    [slip] = scene.host.shown()
    assert (slip.state, slip.error, slip.next_try) == ("dead", "invalid_blocks", None)
    worse = after(incident(), Severity.CRITICAL)
    scene.reader.store(worse)
    scene.host.desire(worse)
    await clock.advance(30)
    assert [slip.state for slip in scene.host.shown()] == ["delivered"], "dead until the incident changes"


async def test_what_it_has_told_of_hosts_reaches_the_database_whoever_leads(scene: Scene) -> None:
    """So that the one that leads can end it."""
    scene.watch.look({"web-9": Gone("silent", 46.0)}, ())
    scene.lease.heard("a", Heartbeat("online", session="s", delivers=True), 0.0)
    scene.herald.tick()
    assert scene.kept == [("web-9", 1)]
    scene.watch.look({}, {"web-9"})
    assert len(scene.watch.unsettled) == 2


async def leads(scene: Scene) -> None:
    """Connected, and it tells of hosts that are gone."""
    scene.herald.connected()
    scene.herald.tick()
    await scene.clock.advance(0)


async def test_what_is_told_of_hosts_is_in_the_database_first(scene: Scene, clock: ManualClock) -> None:
    """Or who leads next, if we die in that moment, would tell it a second time."""
    await leads(scene)
    scene.herald.moved(pairs := scene.watch.look({"web-9": Gone("silent", 46.0)}, ()))
    await clock.advance(0.5)
    assert (scene.kept, scene.slack.whats) == ([("web-9", 1)], [])
    scene.herald.committed(pairs[0][0])
    await clock.advance(0.1)
    assert scene.slack.whats == ["post"]


async def test_a_database_that_does_not_answer_holds_nothing_back(scene: Scene, clock: ManualClock) -> None:
    await leads(scene)
    scene.herald.moved(scene.watch.look({"web-9": Gone("silent", 46.0)}, ()))
    scene.herald.tick()
    await clock.advance(0.1)
    assert scene.slack.whats == ["post"]


async def test_a_late_commit_tells_nothing_again(scene: Scene, clock: ManualClock) -> None:
    """Also where the outbox has forgotten by then what was over."""
    await leads(scene)
    scene.herald.moved(pairs := scene.watch.look({"web-9": Gone("silent", 46.0)}, ()))
    scene.herald.tick()
    await clock.advance(0.1)
    scene.herald.outbox.drop(lambda row: True)
    scene.herald.committed(pairs[0][0])
    scene.herald.tick()
    await clock.advance(0.1)
    assert scene.slack.whats == ["post"]


async def test_a_host_changes_nothing_of_what_is_told_of_another(scene: Scene, clock: ManualClock) -> None:
    """Whoever has one host has its topics: there it may say what it likes, of itself."""
    scene.host.desire(incident())
    await clock.advance(5)
    [told] = scene.herald.outbox.shown("web-1")
    forged = structs.replace(told, generation=9, ts="9.9", channel="C9", version=99, desired=99)
    scene.herald.deliveries("evil", DeliveriesMessage(1, "evil", clock.now(), (forged,), scene.lease.writer))
    over = structs.replace(incident(), host="evil", version=99, state="resolved", resolved_at=clock.now())
    scene.herald.committed(over)
    await clock.advance(60)
    assert scene.slack.whats == ["post"]
    assert scene.herald.outbox.shown("web-1") == [told]


async def test_what_another_collector_stores_later_is_told_too(scene: Scene, clock: ManualClock) -> None:
    """Of several on one stream another may have the incident, and this one what the host says of its messages."""
    scene.host.desire(late := incident(2))
    await clock.advance(0.3)
    assert scene.slack.whats == []
    scene.reader.store(late)
    await clock.advance(2)
    assert scene.slack.whats == ["post"]
    scene.host.desire(worse := after(late, Severity.CRITICAL))
    await clock.advance(0.3)
    scene.reader.store(worse)
    await clock.advance(15)
    assert scene.slack.whats == ["post", "edit", "reply escalated"]


async def test_what_never_comes_is_looked_for_more_and_more_seldom(scene: Scene, clock: ManualClock) -> None:
    scene.host.desire(incident(2))
    await clock.advance(HOUR)
    assert scene.reader.asked < 200
    before = scene.reader.asked
    await clock.advance(2 * FETCH_SLOWEST)
    assert scene.reader.asked > before
