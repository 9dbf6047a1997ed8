"""Load average: how many tasks want a CPU or wait for a disk, in all and for each core."""

from __future__ import annotations

import os

from agent.plugin import Metric, Options, Probe, gauge, read_file


class Load(Probe):
    """Reads /proc/loadavg; cores are counted once, at the start."""

    options: Options

    def __init__(self, options: Options, *, proc: str = "/proc", cores: int | None = None) -> None:
        super().__init__(options)
        self._path = f"{proc}/loadavg"
        self._cores = cores or os.cpu_count() or 1

    async def collect(self) -> list[Metric]:
        one, five, fifteen = map(float, read_file(self._path).split(None, 3)[:3])
        return [
            gauge("load.1m", one),
            gauge("load.5m", five),
            gauge("load.15m", fifteen),
            gauge("load.per_core_1m", one / self._cores),
            gauge("load.per_core_5m", five / self._cores),
            gauge("load.per_core_15m", fifteen / self._cores),
        ]
