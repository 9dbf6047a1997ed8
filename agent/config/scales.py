"""Scales of grades, as data: which figure earns which letter, and which metrics have one."""

from __future__ import annotations

import math
from typing import Literal

import msgspec


class Scale(msgspec.Struct, frozen=True):
    """Steps from the best letter down; the first whose bound the value keeps is its grade, else `floor`.

    `keep` says how a bound is kept: "<=" (less is better), ">" or ">=" (more is better).
    """

    keep: Literal["<=", ">", ">="]
    steps: tuple[tuple[float, str], ...]
    unit: str
    floor: str = "C"

    def keeps(self, value: float, bound: float) -> bool:
        if self.keep == "<=":
            return value <= bound
        return value > bound if self.keep == ">" else value >= bound

    @property
    def letters(self) -> tuple[str, ...]:
        """The best first."""
        return (*(letter for _, letter in self.steps), self.floor)

    @property
    def op(self) -> Literal[">", "<"]:
        """The direction in which it gets worse."""
        return ">" if self.keep == "<=" else "<"

    def worse(self, letter: str) -> float:
        """What is beyond this, in the direction of `op`, has this grade or a worse one; ValueError where all have."""
        above = self._index(letter) - 1
        if above < 0:
            raise ValueError(f"every value is {letter} or worse; expected one of {', '.join(self.letters[1:])}")
        return self._bound(above)

    def better(self, letter: str) -> float:
        """What is not beyond this has this grade or a better one; ValueError where all have."""
        index = self._index(letter)
        if index == len(self.steps):
            raise ValueError(f"every value is {letter} or better; expected one of {', '.join(self.letters[:-1])}")
        return self._bound(index)

    def _index(self, letter: str) -> int:
        if letter not in self.letters:
            raise ValueError(f"this scale has no {letter}; expected one of {', '.join(self.letters)}")
        return self.letters.index(letter)

    def _bound(self, index: int) -> float:
        """So that to be at the bound is to keep it."""
        bound = float(self.steps[index][0])
        return math.nextafter(bound, math.inf) if self.keep == ">" else bound


RESPONSE_TIME = Scale("<=", ((0.05, "A+++"), (0.1, "A++"), (0.2, "A+"), (0.5, "A"), (1.0, "B")), "seconds")
CACHE_HITS = Scale(">", ((95, "A+++"), (85, "A++"), (75, "A+"), (60, "B")), "percent")
"""Percent of look-ups that were hits."""
SCORE = Scale(">=", ((95, "A++"), (90, "A+"), (85, "A"), (75, "B+"), (65, "B")), "percent")
"""0-100: load tests, health and its components."""
GRADED = "*.response_time, *.latency, *.hit_percent, *.hit_rate and health.*"
"""The metrics that have a scale, for people."""


def named(metric: str) -> Scale | None:
    """The scale that a metric has by its name, if it has one."""
    first, _, rest = metric.partition(".")
    last = metric.rpartition(".")[2]
    if last.endswith(("response_time", "latency")):
        return RESPONSE_TIME
    if last in ("hit_percent", "hits_percent", "hit_rate"):
        return CACHE_HITS
    return SCORE if first == "health" and rest else None
