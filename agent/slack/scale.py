"""The value axis of a chart, pure: from where to where, and where its marks are."""

from __future__ import annotations

import math
from typing import NamedTuple

_MARKS = 4
"""About as many; more are too close on a phone."""
_NARROWEST = 1e-9
"""Of the values' size: between numbers that are closer there are too few others for marks."""
_STEPS = (1, 2, 2.5, 5, 10)
_BINARY = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Scale(NamedTuple):
    """`low` < `high`; `ticks` lie between, both ends included where they are round."""

    low: float
    high: float
    ticks: tuple[float, ...]


def scale(low: float, high: float, unit: str) -> Scale:
    """For finite values of which the largest is below 1e300. Percentages stay within 0-100 where the values do."""
    size = max(abs(low), abs(high))
    room = max(high - low, size * _NARROWEST) if high > low else size * 0.1 or 1.0
    whole = unit == "percent" and low >= 0 and high <= 100
    below, above = low - room * 0.12, high + room * 0.12
    if low >= 0:
        below = max(0.0, below)
    if whole:
        above = min(100.0, above)
    step = _step((above - below) / _MARKS, binary=unit.startswith("bytes"))
    first, last = math.floor(below / step), math.ceil(above / step)
    ticks = tuple(index * step for index in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], ticks)


def _step(least: float, *, binary: bool) -> float:
    """The first round one of at least this size; of bytes a round number of KiB, MiB, …"""
    if binary and least >= 1:
        power = 1024.0 ** math.floor(math.log(least, 1024))
        return float(next(step * power for step in _BINARY if step * power >= least))
    power = 10.0 ** math.floor(math.log10(least))
    return float(next(step * power for step in _STEPS if step * power >= least * (1 - 1e-9)))
