"""A probe whose every run can be told from every other: the drop-in that the chaos agents run."""

from __future__ import annotations

import itertools

from agent.plugin import Metric, Probe, counter, gauge

_runs = itertools.count(1)


class Chaos(Probe):
    async def collect(self) -> list[Metric]:
        run = next(_runs)
        return [counter("chaos.runs", run), *(gauge("chaos.value", run * 10 + i, item=str(i)) for i in range(9))]
