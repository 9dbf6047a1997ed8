"""The scales, at their very bounds."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alerting.grade import grade, load_score, passes, scale_of, spoken
from agent.config.decode import decode
from agent.config.scale import CACHE_HITS, RESPONSE_TIME, SCORE, Scale
from agent.config.schema import ThresholdConfig


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


@pytest.mark.parametrize("scale", [RESPONSE_TIME, CACHE_HITS, SCORE])
@given(value=st.floats(-10, 110) | st.sampled_from([0.05, 0.1, 0.2, 0.5, 1, 60, 65, 75, 85, 90, 95]))
def test_a_bound_that_is_a_grade_is_reached_by_it_and_by_what_is_worse(scale: Scale, value: float) -> None:
    """At every bound, too: who writes warning = "B" is told exactly when B, or a worse grade, is what is shown."""
    letters = [letter for _, letter in scale.steps] + [scale.floor]
    for letter in letters[1:]:
        reached = value > scale.reach(letter) if scale.worse == ">" else value < scale.reach(letter)
        assert reached == (letters.index(grade(scale, value)) >= letters.index(letter))


def test_no_bound_is_the_best_grade() -> None:
    """Every value would reach it."""
    with pytest.raises(ValueError, match=r"expected a grade of its scale \(A\+, A, B\+, B, C\), not A\+\+"):
        SCORE.reach("A++")


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


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"warning": "B"}, 'warning: expected op = "<": on its scale that is worse'),
        ({"op": "<", "clear": "A+++"}, "clear: expected a grade of its scale (A+, A, B+, B, C), not A+++"),
        ({"metric": "disk.used_percent", "warning": "B"}, "warning: disk.used_percent has no grades"),
    ],
)
def test_a_bound_may_be_a_grade_only_where_there_is_a_scale(keys: dict[str, str], fault: str) -> None:
    """What cannot be meant is told as a fault of its table."""
    _, [told] = decode(ThresholdConfig, {"name": "a", "metric": "health.score", **keys}, "thresholds")
    assert told.startswith(f"thresholds: {fault}")


def test_a_bound_that_is_a_grade_becomes_a_number() -> None:
    """In the unit of the scale; and stays what it is when a table is made of another."""
    config, faults = decode(
        ThresholdConfig, {"name": "a", "metric": "http.response_time", "warning": "B"}, "thresholds"
    )
    assert config is not None
    assert faults == []
    for table in (config, msgspec.structs.replace(config, summary="slow")):
        assert table.warning == 0.5
        assert table.warning.unit == "seconds"
