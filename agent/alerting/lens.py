"""What a rule judges of a result: the value itself, how fast it changes, or where it leads. Pure."""

from __future__ import annotations

from typing import NamedTuple

from agent.alerting.figure import figure
from agent.alerting.memory import Track
from agent.alerting.threshold import Rule
from agent.alerting.trend import Outlook, Points, outlook, words
from agent.model import Metric

PER = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

FLOOR_ROOM = 0.1
"""What is on ends below the floor by this share of the way to the first bound: a value at the floor must not ring."""


class Seen(NamedTuple):
    """`begins` is held against bounds, `lasts` against where a level that is on ends; `told` is for people."""

    begins: float
    lasts: float
    told: float


def look(rule: Rule, track: Track, metric: Metric, at: float) -> Seen | None:
    """What to make of this result; None while too little is known of the past."""
    if not track.past:
        track.past = tuple(Points(window) for window in rule.windows)
    if rule.horizon is None:
        rate = _rate(rule, track.past[0], metric, at)
        return None if rate is None else Seen(rate, rate, rate)
    for points in track.past:
        points.add(at, metric.value)
    return _ahead(rule, rule.horizon, track, metric.value, at)


def _rate(rule: Rule, points: Points, metric: Metric, at: float) -> float | None:
    """The change over the window, per the unit of time of the bounds. A counter that falls has begun anew."""
    if metric.kind == "counter" and points.kept and metric.value < points.kept[-1][1]:
        points.clear()
    points.add(at, metric.value)
    rate = points.rate(at, metric.value)
    return None if rate is None else rate * PER[rule.per]


def _ahead(rule: Rule, horizon: float, track: Track, value: float, at: float) -> Seen | None:
    """The worse of the value now and that at the horizon, which counts only where the value is beyond the floor.

    A level begins when both windows foresee it, and ends when neither does.
    """
    now = Seen(value, value, value)
    if rule.floor is not None:
        room = FLOOR_ROOM * (rule.first - rule.floor) if track.state.severity.rank else 0.0
        if not rule.beyond(value, rule.floor - room):
            return now
    found = _prospect(rule, track, value, at)
    if found is None:
        return None if rule.calm(value) else now
    worse = max if rule.above else min
    both, one = found.ahead(horizon)
    return Seen(worse(value, both), worse(value, one), value)


def _prospect(rule: Rule, track: Track, value: float, at: float) -> Outlook | None:
    if rule.horizon is None or len(track.past) != 2:
        return None
    short, long = track.past
    return outlook(short, long, at, value, above=rule.above)


def forecast(rule: Rule, track: Track, value: float, limit: float | None) -> str:
    """When the limit will be reached, in words; "" where nothing is foreseen, or where it is reached already."""
    found = _prospect(rule, track, value, track.seen)
    if found is None or limit is None or rule.beyond(value, limit):
        return ""
    when = words(found.reaches(limit))
    return f"{_there(limit, track.unit, above=rule.above)} in {when}" if when else ""


def _there(limit: float, unit: str, *, above: bool) -> str:
    if above and unit == "percent" and limit >= 100:
        return "full"
    if not above and limit == 0:
        return "empty"
    return f"at {figure(limit, unit)}"
