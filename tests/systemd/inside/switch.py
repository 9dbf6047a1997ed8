"""A probe with a switch: while /run/tocsin-block is there, it blocks the whole event loop for ever."""

import os
import time
from pathlib import Path

from agent.plugin import Metric, Probe, gauge

SWITCH = Path("/run/tocsin-block")


class Switch(Probe):
    async def collect(self) -> list[Metric]:
        if SWITCH.exists():  # noqa: ASYNC240
            time.sleep(100_000)  # noqa: ASYNC251 # this is the fault
        level = float(Path("/run/tocsin-level").read_text())  # noqa: ASYNC240
        return [gauge("switch.level", level), gauge("switch.notify_socket", float("NOTIFY_SOCKET" in os.environ))]
