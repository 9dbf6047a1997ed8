"""The samples of one host as the collector has them: a page of time after the other, no sample thinned away."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from agent.alerting.replay import Recorded
from agent.model import Metric

if TYPE_CHECKING:
    from agent.cli.api import Api

PAGE = 3600.0
"""Seconds of samples that are judged at once, and asked for at once where the collector has them so."""
LEAST = 1.0
"""Seconds: so short a page is never thinned, as the collector keeps milliseconds."""
GAPS = 50
"""So many last gaps between results say how often a metric comes."""


class Recording:
    """`found`: the metrics of which there was any sample."""

    def __init__(self, api: Api, host: str, metrics: Sequence[str], interval: float) -> None:
        """`interval`: seconds between two results of a metric of which nothing is known yet."""
        self._api = api
        self._host = host
        self._interval = interval
        self._spans = dict.fromkeys(sorted(set(metrics)), PAGE)
        self._last: dict[str, float] = {}
        self._gaps: dict[str, deque[float]] = {name: deque(maxlen=GAPS) for name in self._spans}
        self.found: set[str] = set()

    def results(self, since: float, until: float, tell: Callable[[float], None]) -> Iterator[Recorded]:
        """Oldest first, in [since, until). `tell` hears before each page from when it is."""
        start = since
        while start < until:
            tell(start)
            end = min(until, start + PAGE)
            yield from self._page(start, end)
            start = end

    def _page(self, start: float, end: float) -> list[Recorded]:
        """What came at one moment, and as often, together."""
        moments: dict[tuple[float, float], list[Metric]] = {}
        for name in self._spans:
            rows = list(self._rows(name, start, end))
            interval = self._pace(name, sorted({at for row in rows for at, _ in row["points"]}))
            for row in rows:
                for at, value in row["points"]:
                    metric = Metric(row["metric"], value, row["unit"], row["kind"], row["labels"])
                    moments.setdefault((at, interval), []).append(metric)
        return [Recorded(at, interval, metrics) for (at, interval), metrics in sorted(moments.items(), key=_when)]

    def _rows(self, name: str, start: float, end: float) -> Iterator[dict[str, Any]]:
        """Every sample of a metric, in pages so short that none is a mean of several."""
        while start < end:
            upto = min(end, start + self._spans[name])
            span = {"from": f"{start:.3f}", "to": f"{upto:.3f}"}
            rows = self._api.get("series", host=self._host, metric=name, **span)["series"]
            if upto - start > LEAST and any(row["thinned"] for row in rows):
                self._spans[name] = (upto - start) / 2
                continue
            yield from rows
            start = upto

    def _pace(self, name: str, times: list[float]) -> float:
        """Seconds between two results of this metric, as a rule: the middle of the last gaps."""
        gaps = self._gaps[name]
        for at in times:
            self.found.add(name)
            if name in self._last:
                gaps.append(at - self._last[name])
            self._last[name] = at
        return sorted(gaps)[(len(gaps) - 1) // 2] if gaps else self._interval


def _when(moment: tuple[tuple[float, float], list[Metric]]) -> tuple[float, float]:
    return moment[0]
