"""Raw samples from the collector's API, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from agent.alerting.replay import Recorded
from agent.cli.api import Api

LONGEST = 5000.0
"""Seconds of a page: of a few series two samples a second apart are still two."""
SHORTEST = 1.0
"""Of no so short page two samples are made one: the collector keeps milliseconds."""


Page = tuple[float, list[Recorded]]
"""Where it ends, and what came before that."""


def pages(api: Api, host: str, metrics: Sequence[str], start: float, end: float) -> Iterator[Page]:
    """All samples of these metrics in [start, end), in order of time."""
    length = LONGEST
    while start < end:
        until = min(start + length, end)
        found = [series for metric in metrics for series in _series(api, host, metric, start, until)]
        if until - start > SHORTEST and any(series["thinned"] for series in found):
            length = max(SHORTEST, (until - start) / 4)
            continue
        yield until, [_recorded(series) for series in found]
        start = until


def _series(api: Api, host: str, metric: str, start: float, end: float) -> list[dict[str, Any]]:
    answer = api.get("series", host=host, metric=metric, step="0", **{"from": repr(start), "to": repr(end)})
    series: list[dict[str, Any]] = answer["series"]
    return series


def _recorded(series: dict[str, Any]) -> Recorded:
    points = [(float(time), float(value)) for time, value in series["points"]]
    return Recorded(series["metric"], series["unit"], series["kind"], dict(series["labels"]), points)
