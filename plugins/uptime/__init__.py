"""Uptime: how long ago this machine was started."""

from __future__ import annotations

import time
from collections.abc import Callable

from agent.plugin import Metric, Options, Probe, gauge, read_file


class Uptime(Probe):
    """Reads /proc/uptime, which goes on while the machine sleeps."""

    options: Options

    def __init__(self, options: Options, *, proc: str = "/proc", now: Callable[[], float] = time.time) -> None:
        super().__init__(options)
        self._path = f"{proc}/uptime"
        self._now = now

    async def collect(self) -> list[Metric]:
        seconds = float(read_file(self._path).split(None, 1)[0])
        return [
            gauge("uptime.seconds", seconds, "seconds"),
            gauge("uptime.boot_time", round(self._now() - seconds), "seconds"),
        ]
