"""The engine: which incidents open and end, what survives a restart, and what a rule may not do."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from agent.alerting.engine import Engine
from agent.alerting.state import State
from agent.config.schema import ThresholdConfig
from agent.config.units import Duration, Quantity
from agent.model import Incident, Metric, ProbeResult, Severity, Transition, TransitionKind
from agent.plugin import gauge
from tests.fakes.clock import ManualClock


def rule(name: str = "Disk", metric: str = "disk.used_percent", **keys: Any) -> ThresholdConfig:
    for key in ("warning", "critical", "clear", "clear_critical"):
        if key in keys:
            keys[key] = Quantity.parse(keys[key])
    for key in ("hold", "absent_for"):
        if key in keys:
            keys[key] = Duration(keys[key])
    return ThresholdConfig(name=name, metric=metric, **keys)


def engine(clock: ManualClock, *rules: ThresholdConfig, state: State | None = None) -> Engine:
    made = Engine(state or State(None), "web-1", clock)
    made.start(rules)
    return made


def disk(used: float, mount: str = "/", unit: str = "percent") -> Metric:
    return gauge("disk.used_percent", used, unit, mount=mount)


def observe(
    engine: Engine, clock: ManualClock, *metrics: Metric, interval: float = 10
) -> list[tuple[Incident, Transition]]:
    clock.tick(interval)
    return engine.observe(ProbeResult("disk", clock.now(), "ok", 0.001, metrics), interval)


def kinds(pairs: list[tuple[Incident, Transition]]) -> list[str]:
    return [str(transition.kind) for _, transition in pairs]


def test_one_rule_over_every_mount(clock: ManualClock) -> None:
    """Each series has an incident of its own, named by its labels."""
    made = engine(clock, rule(warning="80%", critical="90%"))
    pairs = observe(made, clock, disk(85, "/"), disk(95, "/var"), disk(10, "/home"))
    assert [(i.labels["mount"], i.severity) for i, _ in pairs] == [("/", "warning"), ("/var", "critical")]
    pairs = observe(made, clock, disk(70, "/"), disk(95, "/var"), disk(10, "/home"))
    assert [(i.labels["mount"], t.kind) for i, t in pairs] == [("/", "resolved")]
    assert [i.labels["mount"] for i in made.incidents()] == ["/var"]


def test_the_peak_is_the_worst_value_between(clock: ManualClock) -> None:
    """Also one that came between two transitions."""
    made = engine(clock, rule(warning="80%"))
    for used in (81.0, 97.0, 82.0):
        observe(made, clock, disk(used))
    [(incident, transition)] = observe(made, clock, disk(50))
    assert (incident.peak_value, incident.value, transition.value) == (97, 50, 50)


def test_a_breach_began_before_it_was_told(clock: ManualClock) -> None:
    """With `for` the incident starts when the breach did, whatever becomes of the wall clock meanwhile."""
    made = engine(clock, rule(warning="80%", hold=20))
    observe(made, clock, disk(85))
    clock.set_back(3600)
    observe(made, clock, disk(85))
    [(incident, _)] = observe(made, clock, disk(85))
    assert incident.fired_at - incident.started_at == 20


def test_the_summary_is_filled_in_once(clock: ManualClock) -> None:
    """A label that looks like a place-holder is a label."""
    made = engine(clock, rule(warning="80%", summary="{labels} on {host}: {value} of {limit}, {other}"))
    [(incident, _)] = observe(made, clock, disk(85, "{host}"))
    assert incident.summary == "mount={host} on web-1: 85 % of 80 %, {other}"


def test_a_bound_may_be_a_grade(clock: ManualClock) -> None:
    """So or worse: B begins below 75, C below 65; the incident says the letter and the number."""
    made = engine(clock, rule("Health", "health.score", op="<", warning="B", critical="C"))
    assert observe(made, clock, gauge("health.score", 75.0, "percent")) == []
    [(incident, _)] = observe(made, clock, gauge("health.score", 74.9, "percent"))
    assert (incident.severity, incident.grade, incident.limit) == ("warning", "B", 75)
    [(incident, _)] = observe(made, clock, gauge("health.score", 64.9, "percent"))
    assert (incident.severity, incident.grade, incident.limit) == ("critical", "C", 65)


def test_milliseconds_are_never_compared_with_bytes(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """A bound in another unit judges nothing, and is told once."""
    made = engine(clock, rule(warning="200ms"), rule("Two", warning="80%"))
    assert observe(made, clock, disk(85, unit="bytes")) == []
    observe(made, clock, disk(85, unit="bytes"))
    assert made.faults() == [
        "thresholds.Disk: its bounds are in seconds, but disk.used_percent is in bytes",
        "thresholds.Two: its bounds are in percent, but disk.used_percent is in bytes",
    ]
    assert len(caplog.records) == 2


def test_a_bare_number_fits_any_unit(clock: ManualClock) -> None:
    """Who writes no unit means the metric's own."""
    made = engine(clock, rule(warning=80))
    assert kinds(observe(made, clock, disk(85))) == ["opened"]


def test_silence_resolves_nothing_and_is_an_incident_of_its_own(clock: ManualClock) -> None:
    """No data is unknown: the breach stays open, absence opens beside it, and ends when data is back."""
    made = engine(clock, rule(warning="80%", absent_for=60))
    observe(made, clock, disk(85))
    clock.tick(59)
    assert made.tick() == []
    clock.tick(2)
    [(absence, opened)] = made.tick()
    assert (absence.op, absence.severity, absence.limit, opened.kind) == ("absent", "warning", 60, "opened")
    assert (absence.unit, absence.history_unit) == ("seconds", "percent")
    assert made.tick() == []
    assert len(made.incidents()) == 2
    pairs = observe(made, clock, disk(85))
    assert [(i.id, t.kind) for i, t in pairs] == [(absence.id, "resolved")]
    assert [i.op for i in made.incidents()] == [">"]


def test_a_series_that_never_came_is_missed_too(clock: ManualClock) -> None:
    """From the start on; the first of its kind ends the wait."""
    made = engine(clock, rule(absent_for=60, match={"mount": "/backup", "type": "*"}, absent="critical"))
    made.tick()
    clock.tick(61)
    [(incident, _)] = made.tick()
    assert (incident.labels, incident.severity) == ({"mount": "/backup"}, "critical")
    assert observe(made, clock, disk(1, "/")) == []
    assert kinds(observe(made, clock, disk(1, "/backup"))) == ["resolved"]


def test_a_reload_keeps_what_means_the_same(clock: ManualClock) -> None:
    """A new runbook changes nothing; a new bound and a removed rule end their incidents, with a note."""
    made = engine(clock, rule("One", warning="80%"), rule("Two", warning="80%"), rule("Three", warning="80%"))
    observe(made, clock, disk(85))
    kept = {incident.threshold: incident.id for incident in made.incidents()}
    pairs = made.reload([rule("One", warning="80%", runbook="https://x"), rule("Two", warning="70%")])
    assert {(i.threshold, t.kind, t.note) for i, t in pairs} == {
        ("Two", TransitionKind.RESOLVED, "threshold changed"),
        ("Three", TransitionKind.RESOLVED, "threshold removed"),
    }
    assert [incident.id for incident in made.incidents()] == [kept["One"]]
    assert kinds(observe(made, clock, disk(85))) == ["opened"]


def test_results_without_a_rule_leave_no_trace(clock: ManualClock) -> None:
    """Neither memory nor a file entry for what nobody asked about."""
    made = engine(clock, rule(warning="80%"))
    assert observe(made, clock, disk(10), gauge("load.1m", 99)) == []
    assert made.state._facts == {}


def test_a_faulty_rule_does_not_stop_the_others(clock: ManualClock) -> None:
    """Nor does a second one of the same name, of which the first stays."""
    made = engine(clock, rule("Bad"), rule(warning="80%"), rule(warning="10%"))
    assert kinds(observe(made, clock, disk(85))) == ["opened"]
    assert len(made.faults()) == 2


async def test_an_incident_goes_on_after_a_restart(clock: ManualClock, tmp_path: Path) -> None:
    """Same id, next version; what was not shipped is still there, in order, until it is."""
    path = tmp_path / "alerts.db"
    rules = [rule(warning="80%", critical="90%", clear="70%")]
    first = await Engine.open(path, rules, "web-1", clock)
    [(incident, _)] = observe(first, clock, disk(85))
    await first.aclose()
    second = await Engine.open(path, rules, "web-1", clock)
    assert observe(second, clock, disk(75)) == []
    [(risen, transition)] = observe(second, clock, disk(95))
    assert (risen.id, risen.version, transition.kind) == (incident.id, 2, TransitionKind.ESCALATED)
    assert [t.version for _, t in second.unshipped()] == [1, 2]
    second.mark_shipped(incident.id, 1)
    await second.aclose()
    third = await Engine.open(path, rules, "web-1", clock)
    assert [t.version for _, t in third.unshipped()] == [2]
    assert kinds(observe(third, clock, disk(60))) == ["resolved"]
    await third.aclose()


async def test_a_breach_that_has_not_lasted_yet_is_remembered(clock: ManualClock, tmp_path: Path) -> None:
    """`for` and `of` go on counting over a short restart."""
    path = tmp_path / "alerts.db"
    rules = [rule("For", warning="80%", hold=60), rule("Of", warning="80%", of="3 of 5")]
    for _ in range(2):
        made = await Engine.open(path, rules, "web-1", clock)
        assert observe(made, clock, disk(85)) == []
        await made.aclose()
    clock.tick(50)
    made = await Engine.open(path, rules, "web-1", clock)
    pairs = observe(made, clock, disk(85))
    assert {incident.threshold for incident, _ in pairs} == {"For", "Of"}
    await made.aclose()


async def test_time_without_data_does_not_hold_a_breach(clock: ManualClock, tmp_path: Path) -> None:
    """Three minutes of a stopped process are not three minutes of a breach, nor are those of a silent probe."""
    path = tmp_path / "alerts.db"
    rules = [rule(warning="80%", hold=180)]
    made = await Engine.open(path, rules, "web-1", clock)
    assert observe(made, clock, disk(85)) + observe(made, clock, disk(85)) == []
    await made.aclose()
    clock.tick(180)
    made = await Engine.open(path, rules, "web-1", clock)
    restarted = clock.now() + 10
    assert observe(made, clock, disk(85)) == []
    clock.tick(180)
    again = clock.now() + 10
    assert restarted < again
    for _ in range(18):
        assert observe(made, clock, disk(85)) == []
    [(incident, _)] = observe(made, clock, disk(85))
    assert (incident.started_at, incident.fired_at) == (again, again + 180)
    await made.aclose()


async def test_a_crash_loop_cannot_suppress_an_alert(clock: ManualClock, tmp_path: Path) -> None:
    """A daemon that is back within a minute goes on counting, however often."""
    path = tmp_path / "alerts.db"
    pairs = []
    for _ in range(4):
        made = await Engine.open(path, [rule(warning="80%", hold=180)], "web-1", clock)
        pairs += observe(made, clock, disk(85)) + observe(made, clock, disk(85))
        await made.aclose()
        clock.tick(45)
    assert kinds(pairs) == ["opened"]


def test_a_slow_probe_holds_a_breach(clock: ManualClock) -> None:
    """What is planned is no silence: a quarter of an hour between results, `for` half an hour."""
    made = engine(clock, rule(warning="80%", hold=1800))
    pairs = [pair for _ in range(3) for pair in observe(made, clock, disk(85), interval=900)]
    assert kinds(pairs) == ["opened"]


def test_a_probe_that_backs_off_holds_its_own_breach(clock: ManualClock) -> None:
    """While a probe fails its runs grow seldom, and `probe.up` with them; so may a cron line be seldom."""
    made = engine(clock, rule(metric="probe.up", op="<", warning="1", hold=900))
    pairs = []
    for gap in (10, 20, 40, 80, 160, 320, 600):
        clock.tick(gap)
        pairs += made.observe(ProbeResult("web", clock.now(), "error", 0.1, (gauge("probe.up", 0.0),)), 10)
    assert kinds(pairs) == ["opened"]


def test_silence_leaves_a_level_that_is_on(clock: ManualClock) -> None:
    """No data is unknown: neither the warning ends, nor does the critical level that was pending go on counting."""
    made = engine(clock, rule(warning="80%", critical="90%", hold=60))
    for _ in range(7):
        observe(made, clock, disk(85))
    assert [incident.severity for incident in made.incidents()] == ["warning"]
    observe(made, clock, disk(95))
    clock.tick(3600)
    assert observe(made, clock, disk(95)) == []
    assert [incident.severity for incident in made.incidents()] == ["warning"]


def test_of_thousands_of_transitions_each_is_let_go_of_alone(clock: ManualClock) -> None:
    """What one incident has shipped says nothing about later versions, nor about another incident."""
    made = engine(clock, rule(warning="80%", critical="90%"))
    for used in (85, 95, 85):
        observe(made, clock, disk(used, "/"), disk(used, "/var"))
    first = made.incidents()[0].id
    made.mark_shipped(first, 2)
    left = [(incident.id == first, transition.version) for incident, transition in made.unshipped()]
    assert sorted(left) == [(False, 1), (False, 2), (False, 3), (True, 3)]
    made.mark_shipped(first, 2)
    assert len(made.unshipped()) == 4


async def test_rules_changed_while_we_were_away(clock: ManualClock, tmp_path: Path) -> None:
    """Their incidents are resolved at start and are there to be shipped; absence is resolved by data."""
    path = tmp_path / "alerts.db"
    made = await Engine.open(
        path, [rule("One", warning="80%"), rule("Two", warning="80%", absent_for=60)], "web-1", clock
    )
    observe(made, clock, disk(85))
    clock.tick(61)
    assert kinds(made.tick()) == ["opened"]
    await made.aclose()
    made = await Engine.open(path, [rule("Two", warning="80%", absent_for=60)], "web-1", clock)
    assert {(i.threshold, t.kind, t.note) for i, t in made.unshipped() if t.kind == "resolved"} == {
        ("One", TransitionKind.RESOLVED, "threshold removed")
    }
    assert made.tick() == []
    assert [(i.threshold, i.op) for i, _ in observe(made, clock, disk(85))] == [("Two", "absent")]
    assert [(i.threshold, i.op) for i in made.incidents()] == [("Two", ">")]
    await made.aclose()


async def test_a_series_that_vanished_with_a_restart_is_missed(clock: ManualClock, tmp_path: Path) -> None:
    """Its silence counts from our start, not from before, and it is not forgotten for being at rest."""
    path = tmp_path / "alerts.db"
    made = await Engine.open(path, [rule(absent_for=60)], "web-1", clock)
    observe(made, clock, disk(1, "/"), disk(1, "/nfs"))
    await made.aclose()
    clock.tick(3600)
    made = await Engine.open(path, [rule(absent_for=60)], "web-1", clock)
    assert made.tick() == []
    observe(made, clock, disk(1, "/"))
    clock.tick(55)
    [(incident, _)] = made.tick()
    assert incident.labels == {"mount": "/nfs"}
    await made.aclose()


async def test_a_corrupt_file_is_set_aside(
    clock: ManualClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Alerting starts anew, says so, and keeps the old file for whoever wants to look."""
    path = tmp_path / "alerts.db"
    path.write_bytes(b"SQLite format 3\x00" + b"rubbish" * 1000)
    made = await Engine.open(path, [rule(warning="80%")], "web-1", clock)
    assert kinds(observe(made, clock, disk(85))) == ["opened"]
    assert await made.flush()
    await made.aclose()
    assert [name for name in os.listdir(tmp_path) if name.startswith("alerts.db.corrupt-")]  # noqa: PTH208
    assert "alert state is corrupt, set aside" in caplog.messages
    made = await Engine.open(path, [rule(warning="80%")], "web-1", clock)
    assert len(made.incidents()) == 1
    await made.aclose()


async def test_the_file_is_ours_alone(clock: ManualClock, tmp_path: Path) -> None:
    """Also those that SQLite lays beside it, from their first moment on."""
    before = os.umask(0o022)
    try:
        made = await Engine.open(tmp_path / "alerts.db", [rule(warning="80%")], "web-1", clock)
    finally:
        os.umask(before)
    observe(made, clock, disk(85))
    await made.flush()
    modes = {entry.name: entry.stat().st_mode & 0o777 for entry in os.scandir(tmp_path)}
    assert "alerts.db-wal" in modes
    assert set(modes.values()) == {0o600}
    await made.aclose()


async def test_a_full_disk_does_not_stop_alerting(
    clock: ManualClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Incidents go on in memory, told once; when there is room again all of it is on the disk."""
    path = tmp_path / "alerts.db"
    made = await Engine.open(path, [rule(warning="80%", critical="90%")], "web-1", clock)
    connection = made.state._connection
    assert connection is not None
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    big = [disk(85, "/" + "x" * 3000 + str(index)) for index in range(20)]
    assert len(observe(made, clock, *big)) == 20
    assert not await made.flush()
    assert not await made.flush()
    assert made.state.memory_only
    assert caplog.messages.count("alert state cannot be written, in memory for now") == 1
    connection.execute("PRAGMA max_page_count = 1000000")
    assert await made.flush()
    await made.aclose()
    with sqlite3.connect(path) as check:
        assert check.execute("SELECT count(*) FROM facts WHERE kind = 'incident'").fetchone() == (20,)


async def test_without_a_directory_it_lives_in_memory(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """No place to write is no reason not to alert."""
    made = await Engine.open(Path("/proc/nowhere/alerts.db"), [rule(warning="80%")], "web-1", clock)
    assert kinds(observe(made, clock, disk(85))) == ["opened"]
    assert not await made.flush()
    assert "alert state cannot be kept, in memory only" in caplog.messages
    await made.aclose()


def test_severity_of_an_open_incident_follows_the_value(clock: ManualClock) -> None:
    """Down to warning and up again: edits of one incident, never a second one."""
    made = engine(clock, rule(warning="80%", critical="90%", flapping=False))
    seen = [pair for used in (85.0, 95.0, 85.0, 95.0, 10.0) for pair in observe(made, clock, disk(used))]
    assert kinds(seen) == ["opened", "escalated", "deescalated", "escalated", "resolved"]
    assert len({incident.id for incident, _ in seen}) == 1
    assert [t.severity for _, t in seen] == [
        Severity.WARNING,
        Severity.CRITICAL,
        Severity.WARNING,
        Severity.CRITICAL,
        Severity.OK,
    ]
