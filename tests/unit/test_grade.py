"""The scales, at their very bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alerting.grade import grade, load_score, passes, scale_of, spoken
from agent.alerting.threshold import compile_rule
from agent.config.decode import decode
from agent.config.scales import CACHE_HITS, RESPONSE_TIME, SCORE, Scale
from agent.config.schema import ThresholdConfig
from agent.config.units import Quantity


@pytest.mark.parametrize(
    ("seconds", "letter"),
    [(0, "A+++"), (0.05, "A+++"), (0.0501, "A++"), (0.1, "A++"), (0.2, "A+"), (0.5, "A"), (1.0, "B"), (1.01, "C")],
)
def test_response_time_bounds_belong_to_the_better_grade(seconds: float, letter: str) -> None:
    """A bound itself still earns the grade it names."""
    assert grade(RESPONSE_TIME, seconds) == letter


@pytest.mark.parametrize(
    ("percent", "letter"),
    [(100, "A+++"), (95.1, "A+++"), (95, "A++"), (85, "A+"), (75.5, "A+"), (75, "B"), (60.1, "B"), (60, "C"), (0, "C")],
)
def test_cache_hit_bounds_must_be_exceeded(percent: float, letter: str) -> None:
    """The cache scale says "more than": a bound itself is not enough."""
    assert grade(CACHE_HITS, percent) == letter


@pytest.mark.parametrize(
    ("score", "letter"),
    [(100, "A++"), (95, "A++"), (94.9, "A+"), (90, "A+"), (85, "A"), (75, "B+"), (65, "B"), (64.9, "C")],
)
def test_score_bounds(score: float, letter: str) -> None:
    """Scores are graded from their bound upwards."""
    assert grade(SCORE, score) == letter


def test_what_is_no_number_is_poor() -> None:
    """NaN compares with nothing, so it must not slip into the best grade."""
    for scale in (RESPONSE_TIME, CACHE_HITS, SCORE):
        assert grade(scale, float("nan")) == "C"


@pytest.mark.parametrize(
    ("mean", "errors", "throughput", "score"),
    [(0.05, 0.1, 100, 100), (0.051, 0, 100, 95), (0.2, 1, 50, 70), (0.5, 5, 20, 30), (9, 50, 1, -25), (0.1, 0, 19, 70)],
)
def test_load_score_takes_off_for_each_of_three(mean: float, errors: float, throughput: float, score: float) -> None:
    """Response time, errors and throughput are each charged by their own step."""
    assert load_score(mean, errors, throughput) == score


def test_words_stand_beside_letters() -> None:
    """A reader who has never seen the scale still learns what the letter means."""
    assert spoken("A++") == "A++ (excellent)"
    assert spoken("") == ""


def test_only_a_and_better_pass() -> None:
    """B+ is the first that does not pass."""
    assert [letter for letter in ("A+++", "A++", "A+", "A", "B+", "B", "C") if passes(letter)] == [
        "A+++",
        "A++",
        "A+",
        "A",
    ]


def test_a_scale_is_applied_only_where_it_fits() -> None:
    """Percent of memory is no cache hit rate, and a run's duration no response time."""
    assert scale_of("http.response_time", "seconds") is RESPONSE_TIME
    assert scale_of("cache.hit_percent", "percent") is CACHE_HITS
    assert scale_of("memory.used_percent", "percent") is None
    assert scale_of("http.response_time", "percent") is None
    assert scale_of("health.score", "percent") is scale_of("health.memory", "percent") is SCORE
    assert scale_of("health", "percent") is None


METRICS = {"http.response_time": RESPONSE_TIME, "cache.hit_percent": CACHE_HITS, "health.score": SCORE}


def graded(metric: str, **keys: str) -> ThresholdConfig:
    bounds = {key: Quantity.parse(letter) for key, letter in keys.items() if key != "op"}
    op = METRICS[metric].op if metric in METRICS else "<"
    return ThresholdConfig(name="r", metric=metric, op=op, **bounds)


@pytest.mark.parametrize(("metric", "scale"), METRICS.items())
@given(data=st.data())
def test_a_grade_as_a_bound_is_that_grade_or_worse(metric: str, scale: Scale, data: st.DataObject) -> None:
    """At every value, those at the scale's own bounds among them."""
    letter = data.draw(st.sampled_from(scale.letters[1:]))
    bounds = [float(bound) for bound, _ in scale.steps]
    value = data.draw(st.sampled_from(bounds) | st.floats(0, 1.2 * max(bounds)))
    rule, faults = compile_rule(graded(metric, warning=letter))
    assert rule is not None
    assert faults == []
    assert rule.unit == scale.unit
    worse = scale.letters.index(grade(scale, value)) >= scale.letters.index(letter)
    assert rule.calm(value) is not worse


@pytest.mark.parametrize(("metric", "scale"), METRICS.items())
def test_a_grade_to_clear_at_is_that_grade_or_better(metric: str, scale: Scale) -> None:
    rule, faults = compile_rule(graded(metric, warning="C", clear="A+"))
    assert rule is not None
    assert faults == []
    assert rule.levels[0].ends == pytest.approx(scale.better("A+"))
    for value in [float(bound) for bound, _ in scale.steps]:
        good = scale.letters.index(grade(scale, value)) <= scale.letters.index("A+")
        assert rule.beyond(value, scale.better("A+")) is not good


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"metric": "m", "warning": "B"}, "warning: m has no grades"),
        (
            {"metric": "health.score", "warning": "A++"},
            "warning: every value is A\\+\\+ or worse; expected one of A\\+, A",
        ),
        (
            {"metric": "health.score", "critical": "A+++"},
            "critical: this scale has no A\\+\\+\\+; expected one of A\\+\\+",
        ),
        ({"metric": "health.score", "warning": "B", "clear": "C"}, "clear: every value is C or better"),
    ],
)
def test_a_grade_that_says_nothing_is_refused(keys: dict[str, str], expected: str) -> None:
    """With what would have said something."""
    with pytest.raises(ValueError, match=expected):
        graded(**keys)


def test_a_grade_gets_worse_in_one_direction_only() -> None:
    with pytest.raises(ValueError, match='expected op = "<" beside it'):
        ThresholdConfig(name="r", metric="health.score", warning=Quantity.parse("B"))


def test_the_file_is_told_where_its_grade_says_nothing() -> None:
    """At its table, with the metrics that have one; and a good one is the figure that it stands for."""
    table = {"name": "r", "metric": "health.score", "op": "<", "warning": "B"}
    config, faults = decode(ThresholdConfig, table)
    assert faults == []
    assert config is not None
    assert (config.warning, config.warning and config.warning.unit) == (75, "percent")
    _, [fault] = decode(ThresholdConfig, table | {"metric": "m"}, ("thresholds", 0))
    assert str(fault).startswith("thresholds[0]: warning: m has no grades (those have *.response_time, ")
