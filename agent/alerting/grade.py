"""How good a value is, as a letter."""

from __future__ import annotations

from agent.config.scales import Scale, named

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
    scale = named(metric)
    return scale if scale is not None and scale.unit == unit else None


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
