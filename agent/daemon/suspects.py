"""What took most when a threshold was crossed, from the last results of the probes that know: no look is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import nlargest
from typing import NamedTuple

from agent.alerting.figure import figure
from agent.model import Evidence, Labels, Metric, ProbeResult

SHOWN = 5
"""Lines of one piece of evidence."""
OLDEST = 180.0
"""Seconds after which a result says nothing of the moment any more."""


class Ranking(NamedTuple):
    """Series of `metrics`, added up by their label `label`, largest first."""

    title: str
    metrics: tuple[str, ...]
    label: str


CPU = Ranking("Top processes by CPU", ("processes.cpu_percent",), "name")
MEMORY = Ranking("Top processes by memory", ("processes.rss_bytes",), "name")
TRAFFIC = Ranking(
    "Busiest interfaces", ("network.receive_bytes_per_second", "network.transmit_bytes_per_second"), "interface"
)
DEVICES = Ranking("Busiest disks", ("diskio.busy_percent",), "device")

_BY_PLUGIN: dict[str, Callable[[str, Labels], tuple[Ranking, ...]]] = {
    "cpu": lambda _metric, _labels: (CPU,),
    "load": lambda _metric, _labels: (CPU,),
    "memory": lambda _metric, _labels: (MEMORY,),
    "pressure": lambda _metric, labels: {"cpu": (CPU,), "memory": (MEMORY,)}.get(
        labels.get("resource", ""), (DEVICES,)
    ),
    "network": lambda _metric, _labels: (TRAFFIC,),
    "diskio": lambda _metric, _labels: (DEVICES, CPU),
}
_KEPT = frozenset(metric for ranking in (CPU, MEMORY, TRAFFIC, DEVICES) for metric in ranking.metrics)


class Suspects:
    """Keeps of each probe's last result the few metrics that name somebody."""

    def __init__(self) -> None:
        self._latest: dict[str, tuple[float, tuple[Metric, ...]]] = {}

    def observe(self, result: ProbeResult, at: float) -> None:
        """`at`: monotonic seconds."""
        named = tuple(metric for metric in result.metrics if metric.name in _KEPT)
        if named:
            self._latest[result.probe] = at, named

    def evidence(self, metric: str, labels: Labels, at: float) -> tuple[Evidence, ...]:
        """Nothing for metrics of which nobody is likely behind it, and where no recent result tells."""
        rankings = _BY_PLUGIN.get(metric.partition(".")[0])
        if rankings is None:
            return ()
        recent = [one for seen, named in self._latest.values() if at - seen <= OLDEST for one in named]
        told = [Evidence(ranking.title, _lines(ranking, recent)) for ranking in rankings(metric, labels)]
        return tuple(evidence for evidence in told if evidence.lines)


def _lines(ranking: Ranking, recent: Iterable[Metric]) -> tuple[str, ...]:
    sums: dict[str, float] = {}
    unit = ""
    for metric in recent:
        if metric.name in ranking.metrics and (name := metric.labels.get(ranking.label)):
            sums[name] = sums.get(name, 0.0) + metric.value
            unit = metric.unit
    largest = nlargest(SHOWN, ((amount, name) for name, amount in sums.items() if amount > 0))
    return table([(name, figure(amount, unit)) for amount, name in largest])


def table(rows: list[tuple[str, str]]) -> tuple[str, ...]:
    """One line for each, the second column right-aligned; a name is cut in its middle, where it tells least."""
    shown = [(_cut(name, 60), text) for name, text in rows]
    name_width = max((len(name) for name, _ in shown), default=0)
    text_width = max((len(text) for _, text in shown), default=0)
    return tuple(f"{name:<{name_width}}  {text:>{text_width}}" for name, text in shown)


def _cut(name: str, limit: int) -> str:
    half = (limit - 1) // 2
    return name if len(name) <= limit else f"{name[:half]}…{name[-half:]}"
