"""The last hour in one line of characters, pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from agent.alerting.figure import figure

COLUMNS = 30
"""As many as a phone shows in one line."""
_BARS = "▁▂▃▄▅▆▇█"
_FLAT = "▄"
_GAP = "·"


def sparkline(history: Sequence[float | None], columns: int = COLUMNS) -> str:
    """One bar per `columns`-th part, from the lowest to the highest mean; "·" where there was nothing.

    "" where there is no finite value at all. A line that does not move stands at half height.
    """
    means = [_mean(part) for part in _parts(history, columns)]
    known = [mean for mean in means if mean is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    return "".join(_GAP if mean is None else _bar(mean, low, high) for mean in means)


def span(history: Sequence[float | None], unit: str) -> str:
    """From the lowest to the highest of the means: "62 % to 85.2 %"; "" where there is none."""
    known = [value for value in history if value is not None and math.isfinite(value)]
    if not known:
        return ""
    low, high = figure(min(known), unit), figure(max(known), unit)
    return low if low == high else f"{low} to {high}"


def _parts(history: Sequence[float | None], columns: int) -> list[Sequence[float | None]]:
    """At most `columns` of them, as equal as can be."""
    count = min(columns, len(history))
    edges = [index * len(history) // count for index in range(count + 1)] if count else []
    return [history[start:end] for start, end in itertools.pairwise(edges)]


def _mean(part: Sequence[float | None]) -> float | None:
    known = [value for value in part if value is not None and math.isfinite(value)]
    return sum(value / len(known) for value in known) if known else None


def _bar(value: float, low: float, high: float) -> str:
    """Halved first, because the distance of two floats may be more than a float can hold."""
    room = high / 2 - low / 2
    if room <= 0:
        return _FLAT
    share = (value / 2 - low / 2) / room
    return _BARS[min(len(_BARS) - 1, int(share * len(_BARS)))]
