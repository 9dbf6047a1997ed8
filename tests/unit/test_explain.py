"""`explain`: why a rule judges as it does, in words that hold what was found."""

from __future__ import annotations

import pytest

from agent.alerting.engine import Engine
from agent.config.units import Duration, Quantity
from tests.fakes.clock import ManualClock
from tests.unit.test_engine import disk, engine, observe, rule


def said(engine: Engine, name: str = "Disk") -> str:
    return "\n".join(engine.explain(name))


def test_a_calm_series_is_explained_though_nothing_is_remembered_of_it(clock: ManualClock) -> None:
    """The value, how old it is, and on which side of each bound."""
    made = engine(clock, rule(warning="80%", critical="90%", clear="75%"))
    observe(made, clock, disk(71.2))
    clock.tick(4)
    assert made.explain("Disk") == [
        "Disk: disk.used_percent",
        "  warning > 80 %, until it is back at 75 %",
        "  critical > 90 %, until it is back at 85 %",
        "",
        "mount=/: 71.2 %, 4 s ago: ok",
        "  warning: not above 80 %",
        "  critical: not above 90 %",
    ]


def test_what_is_still_missing_is_said(clock: ManualClock) -> None:
    """How long of `for`, how many of `of`."""
    made = engine(clock, rule(warning="80%", hold=120), rule("Few", warning="80%", of="3 of 5"))
    for used in (85, 70, 85, 85, 85):
        observe(made, clock, disk(used))
    assert "warning: above 80 %; reached for 20 s of 2 min" in said(made)
    assert "of the last 5 results reached: warning 4; 3 are asked for" in said(made, "Few")
    assert "mount=/: 85 %, 0 s ago: warning" in said(made, "Few")


def test_an_open_incident_says_since_when_and_whether_it_is_told(clock: ManualClock) -> None:
    """The room of `clear`, the id, who looks after it, and what holds it back."""
    made = engine(clock, rule(warning="80%", clear="70%"))
    [(incident, _)] = observe(made, clock, disk(85))
    observe(made, clock, disk(75))
    text = said(made)
    assert "warning: not above 80 %, but not yet back at 70 %; on, reached 10 s ago" in text
    assert f"open: warning since 10 s, version 1 ({incident.id})" in text
    assert "  told" in text.splitlines()
    made.acknowledge(incident.id, "anna")
    made.silence("Disk", 3600, "anna", "being moved")
    text = said(made)
    assert "anna looks after it" in text
    assert "not told: silenced by anna until" in text


def test_a_cause_that_mutes_is_named(clock: ManualClock) -> None:
    made = engine(clock, rule("Full", warning="90%"), rule(warning="80%", depends_on=("Full",)))
    observe(made, clock, disk(95))
    made.tick()
    assert "not told while one of these is open: Full" in said(made)
    assert "not told: because of Full: inc_" in said(made)


def test_flapping_is_weighed_before_it_begins(clock: ManualClock) -> None:
    made = engine(clock, rule(warning="80%"))
    for used in (85, 70):
        observe(made, clock, disk(used))
    assert "changes weigh 11.9 % of the last results: it does not flap (begins above 15 %, ends below 12 %)" in said(
        made
    )


def test_what_is_foreseen_is_said_before_it_is_told(clock: ManualClock) -> None:
    """How much of the past is known, what it leads to, and the bounds that this is held against."""
    made = engine(clock, rule(warning="100%", forecast=Duration(7200), floor=Quantity(50)))
    observe(made, clock, disk(60.0))
    assert "not judged: too little is known of its past" in said(made)
    for minute in range(120):
        observe(made, clock, disk(60 + minute / 15), interval=60)
    text = said(made)
    assert "  of the value in 2 h, while it is itself beyond 50 %" in text.splitlines()
    assert "judged as 75.9 % by " in text
    assert "(window 30 min)" in text
    assert "foreseen: full in 8 h" in text
    assert "warning: not above 100 %" in text


def test_change_is_said_in_the_unit_of_its_bounds(clock: ManualClock) -> None:
    made = engine(clock, rule(warning="10%/h", rate=Duration(600)))
    for minute in range(20):
        observe(made, clock, disk(50 + minute / 4), interval=60)
    text = said(made)
    assert "warning > 10 %/h\n  of the change over 10 min" in text
    assert "judged as 15 %/h by " in text
    assert "warning: above 10 %/h; on, reached " in text


def test_silence_is_counted(clock: ManualClock) -> None:
    """Of a series that came, and of one that never did."""
    made = engine(clock, rule(absent_for=60), rule("Never", "app.up", absent_for=60))
    observe(made, clock, disk(10))
    clock.tick(59)
    assert "silent for 59 s of 1 min" in said(made)
    made.tick()
    assert "no series of app.up has come that it matches" in said(made, "Never")
    assert "silent for 1 min 9 s, longer than 1 min" in said(made, "Never")
    assert "open: warning since 1 min 9 s, version 1 (inc_" in said(made, "Never")


def test_a_series_that_fell_silent_had_results_once(clock: ManualClock) -> None:
    """Its probe goes on, and brings others."""
    made = engine(clock, rule(absent_for=60))
    observe(made, clock, disk(10, "/"), disk(10, "/srv"))
    clock.tick(70)
    observe(made, clock, disk(10, "/"))
    made.tick()
    text = said(made)
    assert (
        "mount=/srv: not among the latest results; judged last: ok\n  silent for 1 min 20 s, longer than 1 min" in text
    )


def test_a_unit_that_does_not_fit_is_named(clock: ManualClock) -> None:
    made = engine(clock, rule(warning="200ms"))
    observe(made, clock, disk(85))
    assert "  not judged: the bounds are in seconds, the metric is in percent" in made.explain("Disk")
    assert "fault: thresholds.Disk: its bounds are in seconds, but disk.used_percent is in percent" in made.explain(
        "Disk"
    )


def test_nobody_explains_what_is_not_there(clock: ManualClock) -> None:
    with pytest.raises(KeyError):
        engine(clock, rule(warning=1)).explain("Else")
