"""The scales by which values are graded, as data, and bounds that are written as grades."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from agent.config.units import Quantity


@dataclass(frozen=True, slots=True)
class Scale:
    """Steps from the best letter down; the first whose bound the value keeps is its grade, else `floor`.

    `keep` says how a bound is kept: "<=" (less is better), ">" or ">=" (more is better). `unit` is the values' own.
    """

    unit: str
    keep: Literal["<=", ">", ">="]
    steps: tuple[tuple[float, str], ...]
    floor: str = "C"

    def keeps(self, value: float, bound: float) -> bool:
        if self.keep == "<=":
            return value <= bound
        return value > bound if self.keep == ">" else value >= bound

    @property
    def worse(self) -> Literal[">", "<"]:
        """The direction in which values get worse."""
        return ">" if self.keep == "<=" else "<"

    def reach(self, letter: str) -> float:
        """The bound beyond which, in the direction of `worse`, a value is of this grade or a worse one.

        ValueError for a letter that the scale does not have, and for its best one, which every value reaches.
        """
        letters = [step for _, step in self.steps] + [self.floor]
        if letter not in letters[1:]:
            raise ValueError(f"expected a grade of its scale ({', '.join(letters[1:])}), not {letter}")
        bound, _ = self.steps[letters.index(letter) - 1]
        return math.nextafter(bound, math.inf) if self.keep == ">" else bound


RESPONSE_TIME = Scale("seconds", "<=", ((0.05, "A+++"), (0.1, "A++"), (0.2, "A+"), (0.5, "A"), (1.0, "B")))
"""Seconds."""
CACHE_HITS = Scale("percent", ">", ((95, "A+++"), (85, "A++"), (75, "A+"), (60, "B")))
"""Percent of look-ups that were hits."""
SCORE = Scale("percent", ">=", ((95, "A++"), (90, "A+"), (85, "A"), (75, "B+"), (65, "B")))
"""0-100: load tests and component health."""


def scale_for(metric: str) -> Scale | None:
    """The scale that fits a metric by its name, if one does; its values must be in the scale's unit."""
    if metric.startswith("health."):
        return SCORE
    last = metric.rpartition(".")[2]
    if last.endswith(("response_time", "latency")):
        return RESPONSE_TIME
    return CACHE_HITS if last in ("hit_percent", "hits_percent", "hit_rate") else None


def bound(metric: str, op: str, letter: str) -> Quantity:
    """The bound that a grade stands for: beyond it a value is so or worse. ValueError says what was expected."""
    scale = scale_for(metric)
    if scale is None:
        raise ValueError(f"{metric[:80]} has no grades; expected a number or a quantity")
    if op != scale.worse:
        raise ValueError(f'expected op = "{scale.worse}": on its scale that is worse')
    return Quantity(scale.reach(letter), scale.unit)
