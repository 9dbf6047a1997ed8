"""A machine that was written down: a folder of /proc and /sys for each moment, and a clock turned by hand."""

import asyncio
import inspect
import os
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from agent.plugin import Metric, Options, Probe

DATA = Path(__file__).parent / "data"
PLUGINS = Path(__file__).parents[2] / "plugins"
NAMES = sorted(folder.name for folder in PLUGINS.iterdir() if (folder / "__init__.py").exists())


def probe_type(name: str) -> type[Probe]:
    [entry] = entry_points(group="tocsin.probes", name=name)
    return entry.load()


class Machine:
    """`proc` and `sys` stay the same paths, whatever moment they show."""

    def __init__(self, plugin: str, directory: Path) -> None:
        self.plugin = plugin
        self.seconds = 1000.0
        self._link = directory / "moment"
        self.parts: dict[str, Any] = {
            "proc": f"{self._link}/proc",
            "sys": f"{self._link}/sys",
            "cores": 2,
            "monotonic": lambda: self.seconds,
            "now": lambda: 1_790_000_000.0 + self.seconds,
            "statvfs": lambda path: filled(),
        }

    def at(self, moment: str, after: float = 10.0) -> None:
        folder = DATA / self.plugin / moment
        assert folder.is_dir(), folder
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(folder)
        self.seconds += after

    def probe(self, options: Options | None = None) -> Probe:
        """The plugin's probe on this machine, with the default options unless others are given."""
        kind = probe_type(self.plugin)
        wanted = inspect.signature(kind).parameters
        parts = {name: part for name, part in self.parts.items() if name in wanted}
        return kind(options or kind.options_type()(), **parts)


def filled(*, blocks: int = 1000, free: int = 400, available: int = 350, files: int = 200, read_only: bool = False):
    """What statvfs says of a file system with blocks of 4 KiB, a quarter of its inodes left."""
    flags = os.ST_RDONLY if read_only else 0
    return os.statvfs_result((4096, 4096, blocks, free, available, files, files // 4, files // 4, flags, 255))


def values(metrics: list[Metric], **labels: str) -> dict[str, float]:
    """Name -> value of the metrics with exactly these labels."""
    return {metric.name: metric.value for metric in metrics if metric.labels == labels}


async def collect_until(probe: Probe, condition: Callable[[list[Metric]], Any]) -> list[Metric]:
    """The first run for which the condition holds; within 30 s."""
    async with asyncio.timeout(30):
        while True:
            metrics = await probe.collect()
            if condition(metrics):
                return metrics
            await asyncio.sleep(0.01)


def plugin_module(name: str) -> Any:
    return import_module(f"plugins.{name}")
