"""A series that comes and goes: when it begins, how it ends, and how little is said of it meanwhile."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from agent.alerting.engine import Engine
from agent.alerting.flapping import BEGINS, ENDS, RESULTS, STILL, Flaps, follow, share
from agent.alerting.outbox import Outbox
from agent.alerting.state import State
from agent.config.schema import ThresholdConfig
from agent.model import Incident, Severity, Transition
from tests.fakes.clock import ManualClock
from tests.unit.test_engine import disk, engine, kinds, observe, rule
from tests.unit.test_outbox import Recorder

LEVELS = {0: Severity.OK, 2: Severity.WARNING, 3: Severity.CRITICAL}


def after(*ranks: int, every: float = 10.0) -> Flaps:
    flaps = STILL
    for index, rank in enumerate(ranks):
        flaps = follow(flaps, LEVELS[rank], index * every)
    return flaps


class House:
    """Engine and outbox on one state, as in the daemon; a result is judged and told."""

    def __init__(self, clock: ManualClock, *, every: float = 15.0, **keys: object) -> None:
        self.clock = clock
        self.every = every
        self.rules = [rule(**({"warning": "80%"} | keys))]
        self.state = State(None)
        self.slack = Recorder(clock)
        self.seen: list[tuple[Incident, Transition]] = []
        self.start()

    def start(self) -> None:
        self.engine = Engine(self.state, "web-1", self.clock)
        self.engine.start(self.rules)
        self.outbox = Outbox(self.state, self.slack, self.clock)
        self.worker = asyncio.create_task(self.outbox.run())

    async def stop(self) -> None:
        self.worker.cancel()
        await asyncio.gather(self.worker, return_exceptions=True)

    async def take(self, *values: float) -> None:
        for value in values:
            await self.clock.advance(self.every)
            pairs = observe(self.engine, self.clock, disk(value), interval=0)
            self.seen += pairs
            for incident, _ in pairs:
                self.outbox.desire(incident)
            await self.clock.advance(0)

    @property
    def told(self) -> list[str]:
        return [what for what in self.slack.whats if what != "edit"]

    @property
    def whats(self) -> list[str]:
        return kinds(self.seen)


# -- the marks


def test_from_rest_the_third_change_begins_it_and_two_never_do() -> None:
    """Wherever in the window the two are."""
    for gap in range(1, RESULTS):
        assert not after(*[2] * gap, 0).on
    assert after(2, 0, 2).on
    assert after(2, 2, 2, 0, 0, 0, 2).on
    assert not after(2, *[0] * 14, 2, *[0] * 8).on


def test_recent_changes_weigh_more() -> None:
    """0.8 for the oldest step, 1.2 for the newest; all of them are a hundred percent."""
    calm = (0,) * (RESULTS - 2)
    assert share((*calm, 0, 2)) == pytest.approx(6.0)
    assert share((0, 2, *[2] * (RESULTS - 2))) == pytest.approx(4.0)
    assert share(tuple(2 * (index % 2) for index in range(RESULTS))) == pytest.approx(100)


def test_on_the_way_up_or_down_is_one_change() -> None:
    """Warning on the way to critical and back is no flapping; between the two, to and fro, is."""
    assert share((0, 2, 3, 3, 2, 0)) == pytest.approx(share((0, 3, 3, 3, 0, 0)), abs=1)
    assert not after(2, 3, 3, 2, 0).on
    assert after(3, 2, 3, 2).on


def test_between_the_marks_it_stays_what_it_is() -> None:
    flaps, between = after(2, 0, 2), 0
    for _ in range(RESULTS):
        before, flaps = flaps, follow(flaps, Severity.WARNING, 0.0 if flaps.at is None else flaps.at + 10)
        between += before.on and flaps.on and share(flaps.ranks) < BEGINS
        assert flaps.on is (share(flaps.ranks) >= ENDS)
    assert between > 1
    assert not flaps.on


def test_what_is_remembered_is_bounded_and_let_go_of() -> None:
    """And a series at rest is remembered no further."""
    assert len(after(*[2, 0] * 50).ranks) == RESULTS
    assert after(2, 0, 2, 0, *[0] * RESULTS) is STILL
    assert after(0, 0, 0) is STILL


def test_results_close_together_are_not_worth_more_time() -> None:
    """A change every 15 s is flapping at one result a second, too; and calm is not believed for 21 of them."""
    assert after(*([2] * 15 + [0] * 15) * 4, every=1.0).on
    assert after(2, 0, 2, 0, 2, *[2] * 30, every=1.0).on
    assert not after(2, 0, 2, 0, 2, *[2] * 100, every=1.0).on


def test_a_steady_incident_writes_nothing(clock: ManualClock) -> None:
    """Once all that is remembered is the same, each further result leaves the file as it is."""
    kept = State(None)
    made = engine(clock, rule(warning="80%"), state=kept)
    for _ in range(RESULTS + 1):
        observe(made, clock, disk(85))
    before = dict(kept._facts)
    for _ in range(10):
        observe(made, clock, disk(86))
    assert kept._facts == before


# -- what is told


@pytest.mark.parametrize("every", [1.0, 5.0, 7.5, 10.0, 15.0])
async def test_forty_crossings_in_ten_minutes_are_three_messages(clock: ManualClock, every: float) -> None:
    """Whatever the interval: the first incident with its end, the second with all that follows."""
    house = House(clock, every=every)
    results = int(600 / every) + 1
    crossings = [int(index * 41 / results) % 2 for index in range(results)]
    await house.take(*(85.0 if over else 60.0 for over in crossings))
    changes = sum(one != other for one, other in itertools.pairwise(crossings))
    print(f"every {every} s: {changes} crossings, {house.told}, {house.slack.whats.count('edit')} edits")
    assert changes == 40
    assert house.told == ["post", "reply resolved", "post"]
    [incident] = house.engine.incidents()
    assert incident.flapping
    await house.take(*[60.0] * 200)
    assert house.told == ["post", "reply resolved", "post", "reply resolved"]
    assert house.engine.incidents() == []
    await house.stop()


async def test_one_that_lasted_is_told_that_it_flaps(clock: ManualClock) -> None:
    """Its end, the next one, and a word in that one's thread."""
    house = House(clock)
    await house.take(*[85.0] * 40, *[60.0, 85.0] * 20)
    assert house.told == ["post", "reply resolved", "post", "reply flapping"]
    await house.take(*[85.0] * 25)
    assert house.told[4:] == ["reply steady"]
    [incident] = house.engine.incidents()
    assert (incident.flapping, incident.severity, incident.value) == (False, Severity.WARNING, 85)
    await house.take(60.0)
    assert house.told[5:] == ["reply resolved"]
    await house.stop()


async def test_it_flaps_and_calms_and_flaps_again(clock: ManualClock) -> None:
    """Each time anew, with an incident for each calm between."""
    house = House(clock)
    for _ in range(2):
        await house.take(*[85.0, 60.0] * 10, *[60.0] * 25)
    once = ["opened", "resolved", "opened", "flapping", "steady", "resolved"]
    assert house.whats == once * 2
    assert len(house.told) == 8
    assert len({incident.id for incident, _ in house.seen}) == 4
    await house.stop()


async def test_worse_than_before_is_told_once(clock: ManualClock) -> None:
    """A rise to critical; then no fall before it is steady, so no second rise."""
    house = House(clock, critical="90%")
    await house.take(85, 60, 85, 60, 95, 60, 85, 60, 95, 60, 95)
    assert house.told == ["post", "reply resolved", "post", "reply escalated"]
    assert house.engine.incidents()[0].severity is Severity.CRITICAL
    await house.take(*[85.0] * 25)
    assert house.whats[-2:] == ["steady", "deescalated"]
    assert house.told[4:] == ["reply steady"]
    await house.stop()


async def test_a_word_an_hour_while_it_lasts(clock: ManualClock) -> None:
    """And none once somebody has it."""
    house = House(clock)
    await house.take(*[85.0, 60.0] * 480)  # four hours
    assert house.told == ["post", "reply resolved", "post", *["reply flapping"] * 3]
    [incident] = house.engine.incidents()
    for taken, _ in house.engine.acknowledge(incident.id, "ada"):
        house.outbox.desire(taken)
    await house.take(*[85.0, 60.0] * 480)
    assert house.told[6:] == []
    await house.stop()


async def test_a_restart_in_the_middle_changes_nothing(clock: ManualClock) -> None:
    """Neither while it begins nor while it ends."""
    house = House(clock)
    for value in [85.0, 60.0] * 10 + [60.0] * 25:
        await house.take(value)
        await house.stop()
        house.start()
    assert house.whats == ["opened", "resolved", "opened", "flapping", "steady", "resolved"]
    assert house.told == ["post", "reply resolved", "post", "reply resolved"]
    await house.stop()


async def test_it_stands_in_the_file(clock: ManualClock, tmp_path: Path) -> None:
    """As a real file has it after a real end; and a series that is steady leaves nothing there."""
    path, rules = tmp_path / "alerts.db", [rule(warning="80%")]
    made = await Engine.open(path, rules, "web-1", clock)
    for used in (85.0, 60.0, 85.0, 60.0):
        observe(made, clock, disk(used))
    await made.aclose()
    made = await Engine.open(path, rules, "web-1", clock)
    assert [incident.flapping for incident in made.incidents()] == [True]
    pairs = [pair for _ in range(RESULTS) for pair in observe(made, clock, disk(60.0))]
    assert kinds(pairs) == ["steady", "resolved"]
    assert made.state.read("series", dict) == {}
    await made.aclose()


# -- who does not want it


def test_switched_off_each_breach_is_an_incident(clock: ManualClock) -> None:
    made = engine(clock, rule(warning="80%", flapping=False))
    seen = [pair for used in (85.0, 60.0) * 6 for pair in observe(made, clock, disk(used))]
    assert kinds(seen) == ["opened", "resolved"] * 6
    assert made.state.read("series", dict) == {}


def test_switched_off_by_a_reload_it_ends(clock: ManualClock) -> None:
    """With the next result; what it means to be a breach has not changed."""
    made = engine(clock, rule(warning="80%"))
    for used in (85.0, 60.0, 85.0):
        observe(made, clock, disk(used))
    off: list[ThresholdConfig] = [rule(warning="80%", flapping=False)]
    assert made.reload(off) == []
    assert kinds(observe(made, clock, disk(60.0))) == ["steady", "resolved"]


def test_a_rule_that_goes_ends_it_too(clock: ManualClock) -> None:
    made = engine(clock, rule(warning="80%"))
    for used in (85.0, 60.0, 85.0):
        observe(made, clock, disk(used))
    [(incident, transition)] = made.reload([])
    assert (transition.kind, incident.flapping) == ("resolved", False)
