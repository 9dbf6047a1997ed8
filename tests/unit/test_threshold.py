"""One rule on one series: bounds, hysteresis, `for`, `of`, units and the faults of a rule."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alerting.threshold import REST, Rule, SeriesState, compile_rule, evaluate
from agent.config.schema import ThresholdConfig
from agent.config.units import Duration, Quantity
from agent.model import Severity

OK, WARNING, CRITICAL = Severity.OK, Severity.WARNING, Severity.CRITICAL


def rule(**keys: Any) -> Rule:
    compiled, faults = compile_rule(config(**keys))
    assert not faults
    assert compiled is not None
    return compiled


def config(**keys: Any) -> ThresholdConfig:
    for key in ("warning", "critical", "clear", "clear_critical"):
        if key in keys:
            keys[key] = Quantity.parse(keys[key])
    for key in ("hold", "absent_for"):
        if key in keys:
            keys[key] = Duration(keys[key])
    return ThresholdConfig(**({"name": "r", "metric": "m"} | keys))


def judge(rule: Rule, *values: float, step: float = 10.0, state: SeriesState = REST) -> list[Severity]:
    severities = []
    for index, value in enumerate(values):
        state, severity = evaluate(rule, state, value, 100.0 + index * step)
        severities.append(severity)
    return severities


def test_a_bound_is_crossed_not_touched() -> None:
    """80 is not more than 80; both levels are seen, and both directions."""
    assert judge(rule(warning="80%", critical="90%"), 80, 80.1, 90, 90.1, 79) == [OK, WARNING, WARNING, CRITICAL, OK]
    assert judge(rule(op="<", warning=20, critical=10), 20, 19, 9, 20) == [OK, WARNING, CRITICAL, OK]


def test_clear_holds_a_breach_until_it_is_really_over() -> None:
    """Between `clear` and the bound nothing changes, from either side; critical has the same room below it."""
    ruled = rule(warning=80, critical=90, clear=75)
    assert judge(ruled, 78, 81, 78, 76, 75, 78) == [OK, WARNING, WARNING, WARNING, OK, OK]
    assert judge(ruled, 95, 87, 85.5, 85, 79, 74) == [CRITICAL, CRITICAL, CRITICAL, WARNING, WARNING, OK]


def test_each_level_may_have_a_room_of_its_own() -> None:
    """Without it the room of `clear` holds for both: critical would end at 85."""
    ruled = rule(warning=80, critical=90, clear=75, clear_critical=78)
    assert judge(ruled, 95, 84, 79, 78, 76, 75) == [CRITICAL, CRITICAL, CRITICAL, WARNING, WARNING, OK]
    low = rule(op="<", warning=20, critical=10, clear=30, clear_critical=12)
    assert judge(low, 5, 11, 12, 29, 30) == [CRITICAL, CRITICAL, WARNING, WARNING, OK]


def test_for_asks_for_an_unbroken_breach() -> None:
    """A dip starts the time anew, and each level has a time of its own."""
    ruled = rule(warning=80, critical=90, hold=20)
    assert judge(ruled, 85, 85, 85) == [OK, OK, WARNING]
    assert judge(ruled, 85, 79, 85, 85, 85) == [OK, OK, OK, OK, WARNING]
    assert judge(ruled, 85, 85, 95, 95, 95) == [OK, OK, WARNING, WARNING, CRITICAL]
    assert judge(ruled, 95, 95, 95, 85, 95)[2:] == [CRITICAL, WARNING, WARNING]


def test_of_tolerates_single_results() -> None:
    """3 of 5: two spikes are nothing, a third within five results is; it ends when fewer than three remain."""
    ruled = rule(warning=80, of="3 of 5")
    assert judge(ruled, 90, 10, 90, 10, 10, 90) == [OK] * 6
    assert judge(ruled, 90, 10, 90, 10, 90) == [OK, OK, OK, OK, WARNING]
    assert judge(ruled, 90, 90, 90, 10, 10, 10) == [OK, OK, WARNING, WARNING, WARNING, OK]


def test_what_is_not_finite_is_no_data() -> None:
    """NaN is below every bound, and must end nothing."""
    assert judge(rule(warning=80), 90, float("nan"), float("inf")) == [WARNING, WARNING, WARNING]


def test_match_takes_globs_and_nothing_else() -> None:
    """`*` is any run, a dot is a dot, and a missing label reads as empty."""
    ruled = rule(warning=1, match={"mount": "/srv/*", "type": "ext4"})
    assert ruled.matches({"mount": "/srv/a/b", "type": "ext4", "more": "x"})
    assert not ruled.matches({"mount": "/srv", "type": "ext4"})
    assert not ruled.matches({"mount": "/srv/a"})
    assert not rule(warning=1, match={"host": "a.b"}).matches({"host": "axb"})
    assert rule(warning=1, match={"mount": "*"}).matches({})


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({}, "at least one of"),
        ({"warning": "80%", "critical": "90ms"}, "different units"),
        ({"warning": 90, "critical": 80}, "critical must lie beyond"),
        ({"op": "<", "warning": 10, "critical": 20}, "critical must lie beyond"),
        ({"warning": 80, "clear": 85}, "clear must lie"),
        ({"absent_for": 60, "clear": 1}, "clear must lie"),
        ({"warning": 80, "clear_critical": 70}, "needs both"),
        ({"warning": 80, "critical": 90, "clear": 75, "clear_critical": 74}, "between where warning ends"),
        ({"op": "<", "warning": 20, "critical": 10, "clear_critical": 9}, "between where warning ends"),
        ({"warning": 80, "of": "6 of 5"}, "N of M"),
        ({"warning": 80, "of": "often"}, "N of M"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(keys: dict[str, Any], fault: str) -> None:
    """The fault names the threshold and what was expected."""
    compiled, faults = compile_rule(config(**keys))
    assert compiled is None
    assert [f for f in faults if f.startswith("thresholds.r: ") and fault in f]


def test_the_default_service_levels_can_be_written() -> None:
    """The bounds that ship: a share, a time and a rate, each in base units."""
    assert rule(warning="80%", critical="90%", clear="75%").unit == "percent"
    assert rule(warning="200ms").levels[0].bound == pytest.approx(0.2)
    assert rule(warning="1GiB/s").unit == "bytes/s"
    assert judge(rule(metric="memory.used_percent", warning="80%"), 80.0, 80.01) == [OK, WARNING]
    assert judge(rule(metric="cache.hit_percent", op="<", warning="85%"), 85.0, 84.9) == [OK, WARNING]


def test_the_key_tells_rules_apart_by_what_they_mean() -> None:
    """A unit or a bound makes another rule; a runbook does not."""
    assert rule(warning=80).key != rule(warning="80%").key
    assert rule(warning=80).key != rule(warning=81).key
    assert rule(warning=80).key == rule(warning=80, runbook="https://x", summary="y").key


values = st.lists(st.floats(0, 100, width=16), min_size=1, max_size=40)


@given(values, st.sampled_from([0, 10, 30]), st.sampled_from(["", "2 of 3"]), st.sampled_from([None, 70]))
def test_dropping_a_state_at_rest_changes_nothing(seen: list[float], hold: int, of: str, clear: int | None) -> None:
    """What is called at rest may really be forgotten: judging goes on as if it had been kept."""
    keys = {"warning": 80, "critical": 90, "hold": hold, "of": of} | ({"clear": clear} if clear else {})
    ruled = rule(**keys)
    kept, dropped = REST, REST
    for index, value in enumerate(seen):
        kept, expected = evaluate(ruled, kept, value, index * 10.0)
        dropped, severity = evaluate(ruled, dropped, value, index * 10.0)
        assert severity is expected
        if dropped.at_rest:
            dropped = REST


@given(values)
def test_no_severity_without_a_result_that_shows_it(seen: list[float]) -> None:
    """Whatever the timing, a level only begins with a result beyond its bound, and never survives a calm one."""
    ruled = rule(warning=80, critical=90, clear=70, hold=10)
    state = REST
    for index, value in enumerate(seen):
        before = state.severity
        state, severity = evaluate(ruled, state, value, index * 10.0)
        if severity.rank > before.rank:
            assert value > (90 if severity is CRITICAL else 80)
        if value <= 70:
            assert severity is OK
