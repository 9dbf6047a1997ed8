"""Query parameters -> checked values; what is wrong is said by name, with status 400."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Literal, cast

from agent.collector.web.parts import refuse
from agent.transport.wire import HOST

METRIC = re.compile(r"[a-z0-9_.]{0,200}\*?")
INCIDENT = re.compile(r"[A-Za-z0-9._:-]{1,128}")
MAX_LIMIT = 500
HOUR = 3600.0
YEAR_9999 = 253402300799.0
"""Seconds; what lies beyond is no time that anybody means."""

IncidentState = Literal["open", "resolved"]


def known(query: Mapping[str, str], *names: str) -> None:
    """A misspelt parameter is an error, never silently no filter; and of two values none is silently left out."""
    unknown = sorted(set(query) - set(names))
    if unknown:
        refuse(400, "unknown_parameter", f"{unknown[0][:80]!r} is not known here; there are: {', '.join(names)}")
    if repeated := [name for name, times in Counter(name for name, _ in query.items()).items() if times > 1]:
        refuse(400, "repeated_parameter", f"{repeated[0]} is given more than once")


def host(query: Mapping[str, str], name: str = "host") -> str | None:
    value = query.get(name)
    if value is None:
        return None
    if not HOST.fullmatch(value):
        refuse(400, "bad_host", f"{name}: expected a host id, [a-z0-9][a-z0-9.-]{{0,62}}")
    return value


def state(query: Mapping[str, str]) -> IncidentState | None:
    value = query.get("state")
    if value in (None, "open", "resolved"):
        return cast("IncidentState | None", value)
    return refuse(400, "bad_state", 'state: expected "open" or "resolved"')


def limit(query: Mapping[str, str], default: int = 100) -> int:
    text = query.get("limit", str(default))
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= MAX_LIMIT:
        refuse(400, "bad_limit", f"limit: expected a whole number from 1 to {MAX_LIMIT}")
    return int(text)


def metric(text: str) -> str:
    if not text or not METRIC.fullmatch(text):
        refuse(400, "bad_metric", "metric: expected a name such as cpu.used_percent, which may end in *")
    return text


def seconds(query: Mapping[str, str], name: str, default: float, most: float) -> float:
    """A number of seconds from 0 to `most`."""
    text = query.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:  # nan is neither
        refuse(400, f"bad_{name}", f"{name}: expected seconds, a number from 0 to {most:.0f}")
    return value


@dataclasses.dataclass(frozen=True, slots=True)
class SeriesQuery:
    host: str
    metric: str
    start: float
    end: float
    step: float


def series(query: Mapping[str, str], now: float) -> SeriesQuery:
    """`to` is now, `from` an hour before it and `step` 0 (every sample) where they are not given."""
    known(query, "host", "metric", "from", "to", "step")
    name = host(query)
    if name is None:
        refuse(400, "bad_host", "host: required")
    end = seconds(query, "to", now, YEAR_9999)
    start = seconds(query, "from", max(end - HOUR, 0), YEAR_9999)
    if start >= end:
        refuse(400, "bad_range", "from: must be before to")
    return SeriesQuery(name, metric(query.get("metric", "")), start, end, seconds(query, "step", 0, 366 * 86400))
