"""Pressure stall information: how much time tasks lose because cpu, memory or io is short."""

from __future__ import annotations

import time
from collections.abc import Callable

from agent.plugin import Labels, Metric, Options, Probe, read_file

# Of the cpu, "full" has no meaning for a whole machine (some task always runs): the kernel writes zeros.
_LINES = {"cpu": ("some",), "memory": ("some", "full"), "io": ("some", "full")}


class Pressure(Probe):
    """Reads /proc/pressure; a kernel without it (before 4.20, or started with psi=0) brings no metrics."""

    options: Options

    def __init__(
        self, options: Options, *, proc: str = "/proc", monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(options)
        self._paths = {resource: f"{proc}/pressure/{resource}" for resource in _LINES}
        self._monotonic = monotonic
        self._previous: dict[tuple[str, str], tuple[float, int]] = {}

    async def collect(self) -> list[Metric]:
        metrics: list[Metric] = []
        for resource, path in self._paths.items():
            try:
                text = read_file(path)
            except OSError:  # not built in, switched off, or switched off for this resource
                continue
            labels = {"resource": resource}
            for line in text.splitlines():
                kind, average, *_, total = line.decode().split()
                if kind in _LINES[resource]:
                    name = f"pressure.{kind}_percent"
                    metrics.append(Metric(name, float(average.removeprefix("avg10=")), "percent", "gauge", labels))
                    metrics += self._stalled(kind, int(total.removeprefix("total=")), labels)
        return metrics

    def _stalled(self, kind: str, total: int, labels: Labels) -> list[Metric]:
        """The exact share of the time since the previous run; `total` is in microseconds."""
        now = self._monotonic()
        key = kind, labels["resource"]
        before, old = self._previous.get(key, (now, total))
        self._previous[key] = now, total
        if now <= before or total < old:
            return []
        share = min(100.0, (total - old) / (now - before) / 1e4)
        return [Metric(f"pressure.{kind}_stalled_percent", share, "percent", "gauge", labels)]
