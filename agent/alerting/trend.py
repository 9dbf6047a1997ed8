"""Where a series leads: a robust line through its thinned past. Times are monotonic seconds, slopes per second.

The line is that of Theil and Sen: the median of the slopes between all pairs of points, which a single step (a rotated
log, a copied file) moves little for as long as the points on either side of it are not equally many. Two windows of
different length cannot both be cut in half by one step: what both show is a trend.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

MOST = 40
"""Points that are kept of a window; all pairs of them are 780 slopes."""
LEAST = 6
"""Points without which there is no line."""
SHARE = 0.5
"""Of its window that the points must reach back, or nothing is said yet."""
CONFIDENCE = 1.96
"""Standard deviations of Kendall's S on either side: 95 %."""

Point = tuple[float, float]


class Line(msgspec.Struct, frozen=True):
    """`level` is its value `at`; the true slope is between `low` and `high`, 19 times out of 20."""

    slope: float
    low: float
    high: float
    level: float
    at: float

    def value(self, at: float) -> float:
        return self.level + self.slope * (at - self.at)


class Points:
    """The last `window` seconds of one series: the first result of every MOST-th part of it."""

    __slots__ = ("_line", "kept", "window")

    def __init__(self, window: float, kept: Iterable[Point] = ()) -> None:
        self.window = window
        self.kept: list[Point] = list(kept)
        self._line: Line | None = None

    def add(self, at: float, value: float) -> None:
        kept = self.kept
        if kept and at - kept[-1][0] < self.window / MOST:
            return
        kept.append((at, value))
        while kept[0][0] < at - self.window:
            del kept[0]
        self._line = None

    def clear(self) -> None:
        self.kept.clear()
        self._line = None

    def long_enough(self, at: float) -> bool:
        return bool(self.kept) and at - self.kept[0][0] >= SHARE * self.window

    def rate(self, at: float, value: float) -> float | None:
        """The change per second from the oldest point to this result; None while the past is too short."""
        if not self.long_enough(at):
            return None
        began, first = self.kept[0]
        return (value - first) / (at - began)

    def line(self, at: float) -> Line | None:
        """None while the past is too short. Drawn anew only where there is a new point."""
        if len(self.kept) < LEAST or not self.long_enough(at):
            return None
        if self._line is None:
            self._line = draw(self.kept)
        return self._line


def draw(points: list[Point]) -> Line:
    """The line of Theil and Sen; at least two points, of different times."""
    slopes = sorted(
        (later - earlier) / (end - begin)
        for index, (begin, earlier) in enumerate(points)
        for end, later in points[index + 1 :]
        if end > begin
    )
    count, pairs = len(points), len(slopes)
    spread = CONFIDENCE * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, math.floor((pairs - spread) / 2))
    high = min(pairs - 1, math.ceil((pairs + spread) / 2))
    slope, at = median(slopes), points[-1][0]
    level = median([value - slope * (time - at) for time, value in points])
    return Line(slope, slopes[low], slopes[high], level, at)


class Outlook(msgspec.Struct, frozen=True):
    """What both windows show at one moment. `above`: the way that is feared is up."""

    short: Line
    long: Line
    at: float
    now: float
    above: bool

    @property
    def level(self) -> float:
        """The present value without what comes and goes at once; but room that has been made is there at once."""
        better = min if self.above else max
        return better(self.short.value(self.at), self.now)

    @property
    def slope(self) -> float:
        """The one that both reach."""
        return self._slopes()[0]

    def ahead(self, seconds: float) -> tuple[float, float]:
        """The value in so many seconds, as both windows have it at least, and as one of them has it."""
        both, one = self._slopes()
        return self.level + both * seconds, self.level + one * seconds

    def _slopes(self) -> tuple[float, float]:
        """The one that is feared less, then the other."""
        low, high = sorted((self.short.slope, self.long.slope))
        return (low, high) if self.above else (high, low)

    def reaches(self, bound: float) -> tuple[float, float, float]:
        """Seconds until it is at `bound`: most likely, at the earliest, at the latest; infinite where it never is."""
        lows, highs = (self.short.low, self.long.low), (self.short.high, self.long.high)
        fast, slow = (max(highs), min(lows)) if self.above else (min(lows), max(highs))
        likely, earliest, latest = (self._until(bound, slope) for slope in (self.slope, fast, slow))
        return likely, min(earliest, likely), max(latest, likely)

    def _until(self, bound: float, slope: float) -> float:
        way = bound - self.level
        if way * (1 if self.above else -1) <= 0:
            return 0.0
        return way / slope if slope * way > 0 else math.inf


def outlook(short: Points, long: Points, at: float, now: float, *, above: bool) -> Outlook | None:
    """`now` is the value `at`. None while one of the two windows is too short for a line."""
    near, far = short.line(at), long.line(at)
    return None if near is None or far is None else Outlook(near, far, at, now, above)


def words(found: tuple[float, float, float]) -> str:
    """How long, and between what: "9 h (6-14 h)"; "" where it never gets there."""
    likely = found[0]
    if not math.isfinite(likely):
        return ""
    unit, size = next(((unit, size) for unit, size in _UNITS if likely >= 1.95 * size), _UNITS[-1])
    middle, first, last = (round(seconds / size) if math.isfinite(seconds) else None for seconds in found)
    if last is None:
        return f"{middle} {unit} ({first} {unit} or later)"
    return f"{middle} {unit}" + ("" if first == last else f" ({first}-{last} {unit})")


_UNITS = (("d", 86400.0), ("h", 3600.0), ("min", 60.0))


def median(values: Sequence[float]) -> float:
    """Of at least one value. The library's would cost every daemon half a MiB for fractions that nobody needs."""
    ranked, middle = sorted(values), len(values) // 2
    return ranked[middle] if len(ranked) % 2 else (ranked[middle - 1] + ranked[middle]) / 2
