"""How good a value is, as a letter. Scales are data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_WORDS = {
    "A+++": "outstanding",
    "A++": "excellent",
    "A+": "very good",
    "A": "good",
    "B+": "fair",
    "B": "acceptable",
    "C": "poor",
}
_PASSING = frozenset(("A+++", "A++", "A+", "A"))


@dataclass(frozen=True, slots=True)
class Scale:
    """Steps from the best letter down; the first whose bound the value keeps is its grade, else `floor`.

    `keep` says how a bound is kept: "<=" (less is better), ">" or ">=" (more is better).
    """

    keep: Literal["<=", ">", ">="]
    steps: tuple[tuple[float, str], ...]
    floor: str = "C"

    def keeps(self, value: float, bound: float) -> bool:
        if self.keep == "<=":
            return value <= bound
        return value > bound if self.keep == ">" else value >= bound


RESPONSE_TIME = Scale("<=", ((0.05, "A+++"), (0.1, "A++"), (0.2, "A+"), (0.5, "A"), (1.0, "B")))
"""Seconds."""
CACHE_HITS = Scale(">", ((95, "A+++"), (85, "A++"), (75, "A+"), (60, "B")))
"""Percent of look-ups that were hits."""
SCORE = Scale(">=", ((95, "A++"), (90, "A+"), (85, "A"), (75, "B+"), (65, "B")))
"""0-100: load tests and component health."""


def grade(scale: Scale, value: float) -> str:
    """The letter of `value`, which is in the scale's own unit. What is not a number gets the floor."""
    return next((letter for bound, letter in scale.steps if scale.keeps(value, bound)), scale.floor)


def spoken(letter: str) -> str:
    """The letter with its word beside it: "A++ (excellent)"; "" stays ""."""
    word = _WORDS.get(letter)
    return f"{letter} ({word})" if word else letter


def passes(letter: str) -> bool:
    """A and better is a PASS."""
    return letter in _PASSING


def scale_of(metric: str, unit: str) -> Scale | None:
    """The scale that fits a metric by its name and unit, if one does."""
    last = metric.rpartition(".")[2]
    if unit == "seconds" and (last.endswith(("response_time", "latency"))):
        return RESPONSE_TIME
    if unit == "percent" and last in ("hit_percent", "hits_percent", "hit_rate"):
        return CACHE_HITS
    return None


def load_score(mean: float, error_percent: float, throughput: float) -> float:
    """A load test's score, 0-100: mean response in seconds, errors in percent, requests per second."""
    return 100 - _less(_RESPONSE, mean) - _less(_ERRORS, error_percent) - _less_below(_THROUGHPUT, throughput)


_RESPONSE = ((0.05, 0), (0.1, 5), (0.2, 15), (0.5, 30), (float("inf"), 50))
_ERRORS = ((0.1, 0), (1, 10), (5, 25), (float("inf"), 50))
_THROUGHPUT = ((100, 0), (50, 5), (20, 15), (float("-inf"), 25))


def _less(steps: tuple[tuple[float, int], ...], value: float) -> int:
    return next(points for bound, points in steps if value <= bound)


def _less_below(steps: tuple[tuple[float, int], ...], value: float) -> int:
    return next(points for bound, points in steps if value >= bound)
