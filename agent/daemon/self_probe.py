"""What the daemon measures of itself, as the result of a probe named "agent": shipped and judged like any other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

import msgspec

from agent.clock import Clock
from agent.config.rules import OWN_PROBE
from agent.model import Metric, MetricKind, ProbeResult

_PAGE = os.sysconf("SC_PAGE_SIZE")
Figure = tuple[str, float, str, MetricKind]


class Vitals(msgspec.Struct):
    """Figures that others count for the daemon between two of its measurements."""

    lag: float = 0.0
    """The longest that the event loop was late, in seconds."""
    failing: dict[str, bool] = msgspec.field(default_factory=dict)
    """Probe -> whether its last run failed."""
    runs: int = 0

    def observe(self, result: ProbeResult) -> None:
        self.runs += 1
        self.failing[result.probe] = result.status != "ok"

    def keep(self, probes: Iterable[str]) -> None:
        """After a reload: forget the probes that are gone."""
        known = set(probes)
        self.failing = {name: failing for name, failing in self.failing.items() if name in known}


class SelfProbe:
    """`figures` gives what only the wiring can see: name, value, unit, kind."""

    def __init__(self, clock: Clock, vitals: Vitals, figures: Callable[[], list[Figure]]) -> None:
        self._clock = clock
        self._vitals = vitals
        self._figures = figures
        self._evicted: tuple[float, float] | None = None

    def measure(self, extra: Iterable[Metric] = ()) -> ProbeResult:
        began = self._clock.monotonic()
        vitals = self._vitals
        figures = self._figures()
        figures += [
            ("agent.memory_bytes", _resident(), "bytes", "gauge"),
            ("agent.cpu_seconds", time.process_time(), "seconds", "counter"),
            ("agent.loop_lag_seconds", vitals.lag, "seconds", "gauge"),
            ("agent.probe_runs", vitals.runs, "", "counter"),
            ("agent.probes_failing", sum(vitals.failing.values()), "", "gauge"),
        ]
        vitals.lag = 0.0
        metrics = [Metric(name, float(value), unit, kind) for name, value, unit, kind in figures]
        metrics += self._eviction_rate(metrics, began)
        metrics += extra
        duration = self._clock.monotonic() - began
        return ProbeResult(OWN_PROBE, self._clock.now(), "ok", duration, tuple(metrics))

    def _eviction_rate(self, metrics: list[Metric], at: float) -> list[Metric]:
        """A threshold needs what happens now, where the total only says that it once did."""
        total = next((metric.value for metric in metrics if metric.name == "agent.spool_evicted"), 0.0)
        before, self._evicted = self._evicted, (total, at)
        if before is None or at <= before[1]:
            return []
        return [Metric("agent.spool_evicted_per_second", (total - before[0]) / (at - before[1]), "1/s")]


def _resident() -> int:
    """Bytes of memory that this process holds."""
    handle = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(handle, 200).split()[1]) * _PAGE
    finally:
        os.close(handle)
