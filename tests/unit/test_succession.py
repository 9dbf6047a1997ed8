"""One collector leads after another: what was told of hosts that are gone is gone on with."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator

import pytest

from agent.alerting.delivery import Delivery, doubtful
from agent.alerting.state import State
from agent.collector.fleet import Gone
from agent.collector.hostwatch import METRIC, THRESHOLD, HostWatch
from agent.collector.store import IncidentRow
from agent.collector.succession import LOOK_EVERY, PATIENCE, Succession
from agent.errors import StoreError
from agent.model import Incident
from tests.fakes.clock import ManualClock, settle

LOST, SILENT, STOPPED = Gone("lost", 1.0), Gone("silent", 46.0), Gone("stopped", 1.0)


class Database:
    """What two collectors share."""

    def __init__(self) -> None:
        self.rows: dict[str, IncidentRow] = {}
        self.away = False
        self.reads = 0

    def keep(self, incident: Incident) -> None:
        known = self.rows.get(incident.id)
        if known is None or known.version < incident.version:
            self.rows[incident.id] = IncidentRow.of(incident.host, incident)

    async def open_of(self, threshold: str, metric: str) -> list[IncidentRow]:
        self._ask()
        assert (threshold, metric) == (THRESHOLD, METRIC)
        return [row for _, row in sorted(self.rows.items()) if row.state == "open"]

    async def incident(self, incident: str) -> IncidentRow | None:
        self._ask()
        return self.rows.get(incident)

    def _ask(self) -> None:
        self.reads += 1
        if self.away:
            raise StoreError("away")


class Collector:
    """What one of them knows of hosts, and goes on with."""

    def __init__(self, database: Database, clock: ManualClock, seed: int) -> None:
        self.database = database
        self.watch = HostWatch(State(None), clock, random.Random(seed))
        self.shown: list[tuple[str, int]] = []
        self.succession = Succession(database, self.watch, clock, self._show)  # type: ignore[arg-type]
        self.work = asyncio.create_task(self.succession.run())

    def _show(self, incidents: object) -> None:
        self.shown += [(incident.id, incident.version) for incident in incidents]  # type: ignore[attr-defined]

    async def leads(self, *, leads: bool = True) -> bool:
        self.succession.look(leads=leads)
        await settle()
        return self.succession.ready

    def look(self, absent: dict[str, Gone], present: set[str] = frozenset()) -> list[Incident]:  # type: ignore[assignment]
        return [incident for incident, _ in self.watch.look(absent, present)]

    def store(self) -> None:
        """All of its own, as the commits do it."""
        for incident, transition in list(self.watch.unsettled.values()):
            self.database.keep(incident)
            self.watch.settled(incident.id, transition.version)


@pytest.fixture
async def pair(clock: ManualClock) -> AsyncIterator[tuple[Collector, Collector]]:
    database = Database()
    a, b = Collector(database, clock, 1), Collector(database, clock, 2)
    yield a, b
    for one in (a, b):
        one.work.cancel()
    await asyncio.gather(a.work, b.work, return_exceptions=True)


async def test_the_next_goes_on_with_the_incident_and_the_first_learns_of_its_end(
    pair: tuple[Collector, Collector],
) -> None:
    a, b = pair
    assert await a.leads()
    [opened] = a.look({"web-1": SILENT})
    a.store()
    await a.leads(leads=False)

    assert await b.leads()
    assert b.shown == [(opened.id, 1)]
    assert b.look({"web-1": SILENT}) == []
    [over] = b.look({}, {"web-1"})
    assert (over.id, over.version, over.state) == (opened.id, 2, "resolved")
    b.store()
    await b.leads(leads=False)

    assert await a.leads()
    assert a.shown == [(opened.id, 2)]
    assert a.look({}, {"web-1"}) == []
    assert a.watch.incidents == []
    [again] = a.look({"web-1": SILENT})
    assert again.id != opened.id


async def test_the_first_is_back_before_the_host(pair: tuple[Collector, Collector], clock: ManualClock) -> None:
    """It goes on with what the other has made of the incident meanwhile, and knows of its others."""
    a, b = pair
    await a.leads()
    a.look({"web-1": STOPPED})
    clock.tick(121)
    [opened] = a.look({"web-1": STOPPED})
    a.store()
    await a.leads(leads=False)
    await b.leads()
    b.look({"web-1": LOST})
    clock.tick(4)
    [worse] = b.look({"web-1": LOST, "web-2": SILENT})[:1]
    b.store()
    await b.leads(leads=False)
    await a.leads()
    assert worse in a.watch.incidents
    assert (worse.id, worse.version) == (opened.id, 2)
    assert a.look({"web-1": LOST, "web-2": SILENT}) == []
    a.look({}, {"web-1", "web-2"})
    a.store()
    assert [row.state for row in a.database.rows.values()] == ["resolved", "resolved"]


async def test_what_the_database_has_not_got_yet_stays_as_it_is(pair: tuple[Collector, Collector]) -> None:
    """Neither does an incident open again that is over here alone."""
    a, _ = pair
    await a.leads()
    a.look({"web-1": SILENT})
    a.store()
    [over] = a.look({}, {"web-1"})
    a.look({"web-2": SILENT})
    await a.leads(leads=False)
    assert await a.leads()
    assert [incident.host for incident in a.watch.incidents] == ["web-2"]
    assert (over.id, 2) in [(incident.id, pair.version) for incident, pair in a.watch.unsettled.values()]


async def test_what_is_adopted_outlives_the_process(clock: ManualClock) -> None:
    state, other = State(None), HostWatch(State(None), clock, random.Random(1))
    [(opened, _)] = other.look({"web-1": SILENT}, ())
    [(over, _)] = other.look({}, {"web-1"})
    HostWatch(state, clock).adopt([opened])
    again = HostWatch(state, clock)
    assert again.incidents == [opened]
    assert again.unsettled == {}
    assert again.adopt([opened]) == []
    assert again.adopt([over]) == [over]
    assert HostWatch(state, clock).incidents == []


async def test_two_that_led_at_once_are_ended_together(pair: tuple[Collector, Collector], clock: ManualClock) -> None:
    """The one that goes on to lead finds the other's at its next look."""
    a, b = pair
    await a.leads()
    await b.leads()
    [mine], [other] = a.look({"web-1": SILENT}), b.look({"web-1": SILENT})
    a.store()
    b.store()
    await b.leads(leads=False)
    await clock.advance(LOOK_EVERY)
    assert a.look({"web-1": SILENT}) == []
    assert {one.id for one in a.look({}, {"web-1"})} == {mine.id, other.id}
    a.store()
    assert {row.state for row in a.database.rows.values()} == {"resolved"}


async def test_without_its_database_it_waits_for_a_while_and_then_tells(
    pair: tuple[Collector, Collector], clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = pair
    await a.leads()
    [opened] = a.look({"web-1": SILENT})
    a.store()
    b.database.away = True
    with caplog.at_level(logging.WARNING):
        assert not await b.leads()
        await clock.advance(PATIENCE - 1)
        assert not await b.leads()
        await clock.advance(1)
        assert await b.leads()
        await clock.advance(5)
        assert await b.leads()
    assert [record.message.split(":")[0] for record in caplog.records] == ["database away"]
    [own] = b.look({"web-1": SILENT})
    b.database.away = False
    await clock.advance(5)
    assert {one.id for one in b.look({}, {"web-1"})} == {opened.id, own.id}


async def test_who_does_not_lead_asks_nothing(pair: tuple[Collector, Collector], clock: ManualClock) -> None:
    a, _ = pair
    assert not await a.leads(leads=False)
    await clock.advance(10 * LOOK_EVERY)
    assert a.database.reads == 0


async def test_an_answer_from_before_another_led_does_not_count(
    pair: tuple[Collector, Collector], clock: ManualClock
) -> None:
    a, _ = pair
    going, go = asyncio.Event(), asyncio.Event()
    read = a.database.open_of

    async def slow(threshold: str, metric: str) -> list[IncidentRow]:
        going.set()
        await go.wait()
        return await read(threshold, metric)

    a.database.open_of = slow  # type: ignore[method-assign]
    await a.leads()
    await going.wait()
    a.succession.end()
    clock.tick(1)
    going.clear()
    a.succession.look(leads=True)
    go.set()
    await going.wait()
    assert a.shown == []
    await settle()
    assert a.succession.ready


def test_what_another_may_have_posted_is_looked_for(clock: ManualClock) -> None:
    """Also when what comes next is an edit: the word in the thread that follows it may be there."""
    watch = HostWatch(State(None), clock, random.Random(1))
    [(opened, _)] = watch.look({"web-1": SILENT}, ())
    [(over, _)] = watch.look({}, {"web-1"})
    row = Delivery(opened, "#alerts")
    assert row.adopt(doubtful(opened))
    assert (row.next(), row.doing, row.nonce, row.asked_at) == ("find", "post", f"{opened.id}.1", opened.fired_at)

    row = Delivery(opened, "#alerts", posted_in="C1", ts="1.1", delivered=1, state="delivered")
    row.desire(over)
    row.doubt()
    assert (row.next(), row.doing, row.nonce) == ("find", "reply", f"{opened.id}.1.2")
    row.done("find", "C1", "1.2")
    assert (row.next(), row.call) == ("edit", None)
