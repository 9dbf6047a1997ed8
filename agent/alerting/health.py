"""How well a host is: component scores 0-100 from its latest metrics, and one overall word. See docs/health.md."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec

from agent.alerting.grade import grade
from agent.config.scales import SCORE
from agent.model import ComponentHealth, Health, Metric, ProbeResult

COMPONENTS = ("database", "memory", "cpu", "disk", "network", "cache", "apis")
CAP_BELOW, CAP = 70.0, 84.0
"""One component below 70 keeps the overall at 84 at most."""
FRESH = 120.0
"""Seconds for which a result counts, at least; three of its own intervals if that is longer."""

Status = Literal["EXCELLENT", "GOOD", "WARNING", "CRITICAL", "UNKNOWN"]
_STATUS: tuple[tuple[float, Status], ...] = ((95, "EXCELLENT"), (85, "GOOD"), (70, "WARNING"))


def steps(value: float, table: tuple[tuple[float, float], ...]) -> float:
    """The score beside the highest bound that `value` is above; 100 when it is above none."""
    return next((score for bound, score in table if value > bound), 100.0)


MEMORY = ((90.0, 10.0), (80.0, 50.0), (70.0, 75.0))
CPU = ((95.0, 10.0), (85.0, 50.0), (70.0, 75.0))
DISK = ((95.0, 10.0), (90.0, 50.0), (80.0, 75.0))
NETWORK = ((100.0, 10.0), (10.0, 50.0), (1.0, 75.0))


class Source(msgspec.Struct, frozen=True):
    """Where a component's value comes from: the sum over `metrics` per label set, the worst of them,
    averaged over the last `results` results.
    """

    component: str
    metrics: tuple[str, ...]
    table: tuple[tuple[float, float], ...]
    results: int = 1
    accepts: Callable[[Metric], bool] = lambda _: True


def _whole(metric: Metric) -> bool:
    return not metric.labels


SOURCES = (
    Source("memory", ("memory.used_percent",), MEMORY),
    Source("cpu", ("cpu.used_percent",), CPU, results=6, accepts=_whole),
    Source("disk", ("disk.used_percent",), DISK),
    Source("network", ("network.errors_per_second", "network.drops_per_second"), NETWORK),
)


def overall(scores: Mapping[str, float | None], weights: Mapping[str, float]) -> tuple[float | None, Status]:
    """Weighted mean of what is known, and its word. A weight of 0 leaves a component out altogether."""
    counted = [(score, weights.get(name, 1.0)) for name, score in scores.items() if score is not None]
    counted = [(score, weight) for score, weight in counted if weight > 0]
    if not counted:
        return None, "UNKNOWN"
    mean = sum(score * weight for score, weight in counted) / sum(weight for _, weight in counted)
    if any(score < CAP_BELOW for score, _ in counted):
        mean = min(mean, CAP)
    return mean, next((word for bound, word in _STATUS if mean >= bound), "CRITICAL")


class HealthBook:
    """The latest of every component. `weights` as in `[health]`; what is not named there weighs 1."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = dict(weights or {})
        self._entries = {source.component: _Entry(source) for source in SOURCES}
        self._wanted = {name: self._entries[source.component] for source in SOURCES for name in source.metrics}

    def observe(self, result: ProbeResult) -> None:
        """Take in one result; costs a look-up per metric when it holds nothing of interest."""
        wanted = self._wanted
        found: dict[str, list[Metric]] = {}
        for metric in result.metrics:
            entry = wanted.get(metric.name)
            if entry is not None and entry.source.accepts(metric):
                found.setdefault(entry.source.component, []).append(metric)
        for component, metrics in found.items():
            self._entries[component].take(result.time, metrics)

    def health(self, now: float) -> Health:
        """As of `now` (unix seconds); a component without fresh data is unknown, never 100."""
        scores: dict[str, float | None] = dict.fromkeys(COMPONENTS)
        for component, entry in self._entries.items():
            scores[component] = entry.score(now)
        score, status = overall(scores, self._weights)
        components = {
            name: ComponentHealth(value, "" if value is None else grade(SCORE, value)) for name, value in scores.items()
        }
        return Health(now, None if score is None else round(score, 1), status, components)


def metrics(health: Health) -> list[Metric]:
    """The same as metrics, for thresholds and charts; what is unknown is no data."""
    scores = {"score": health.score} | {name: component.score for name, component in health.components.items()}
    return [Metric(f"health.{name}", score, "percent") for name, score in scores.items() if score is not None]


class _Entry:
    def __init__(self, source: Source) -> None:
        self.source = source
        self._values: deque[tuple[float, float]] = deque(maxlen=source.results)
        self._interval = 0.0

    def take(self, time: float, metrics: Iterable[Metric]) -> None:
        sums: dict[tuple[tuple[str, str], ...], float] = {}
        for metric in metrics:
            labels = metric.series[1]
            sums[labels] = sums.get(labels, 0.0) + metric.value
        if self._values:
            interval = time - self._values[-1][0]
            if not 0 <= interval <= max(FRESH, 3 * self._interval):  # a pause, or the clock was set: begin anew
                self._values.clear()
            self._interval = max(0.0, interval)
        self._values.append((time, max(sums.values())))

    def score(self, now: float) -> float | None:
        fresh = max(FRESH, 3 * self._interval)
        if not self._values or abs(now - self._values[-1][0]) > fresh:
            return None
        values = [value for _, value in self._values]
        return steps(sum(values) / len(values), self.source.table)
