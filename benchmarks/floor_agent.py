"""The floor: what asyncio, psutil, aiomqtt and APScheduler cost with nothing around them.

Eight core measurements on a schedule, each published as JSON at QoS 1. No spool, no thresholds, no
configuration: an agent in Python on these libraries cannot be smaller than this.

    python floor_agent.py PORT INTERVAL_SECONDS
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import aiomqtt
import psutil
from apscheduler.schedulers.asyncio import AsyncIOScheduler


def processes() -> dict[str, Any]:
    states: dict[str, int] = {}
    for process in psutil.process_iter(["status", "name", "memory_info", "cpu_times"]):
        states[process.info["status"]] = states.get(process.info["status"], 0) + 1
    return states


def disks() -> dict[str, Any]:
    return {part.mountpoint: psutil.disk_usage(part.mountpoint).percent for part in psutil.disk_partitions()}


MEASUREMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "cpu": lambda: psutil.cpu_times_percent()._asdict(),
    "memory": lambda: {**psutil.virtual_memory()._asdict(), "swap": psutil.swap_memory().percent},
    "load": lambda: dict(zip(("1m", "5m", "15m"), os.getloadavg(), strict=True)),
    "disk": disks,
    "diskio": lambda: {name: io._asdict() for name, io in psutil.disk_io_counters(perdisk=True).items()},
    "network": lambda: {name: io._asdict() for name, io in psutil.net_io_counters(pernic=True).items()},
    "processes": processes,
    "uptime": lambda: {"seconds": time.time() - psutil.boot_time()},
}


async def main(port: int, interval: float) -> None:
    async with aiomqtt.Client("127.0.0.1", port, identifier="floor") as client:

        async def measure(name: str) -> None:
            payload = json.dumps({"time": time.time(), "probe": name, "values": MEASUREMENTS[name]()})
            await client.publish(f"floor/{name}", payload, qos=1)

        scheduler = AsyncIOScheduler(timezone=UTC)
        for index, name in enumerate(MEASUREMENTS):
            first = datetime.now(UTC) + timedelta(seconds=index * min(interval, 2) / 8)
            scheduler.add_job(measure, "interval", [name], seconds=interval, next_run_time=first)
        scheduler.start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
