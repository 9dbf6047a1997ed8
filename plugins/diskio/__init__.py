"""Disk traffic: bytes, operations, waiting and busy time of every whole disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

from agent.plugin import Labels, Metric, Options, Probe, printable, read_file

_SECTOR = 512  # /proc/diskstats counts in these, whatever the disk's own sectors are

# Columns of /proc/diskstats from the fourth on.
_READS, _READ_SECTORS, _READ_MS = 0, 2, 3
_WRITES, _WRITTEN_SECTORS, _WRITE_MS = 4, 6, 7
_BUSY_MS = 9


class DiskIoOptions(Options, frozen=True):
    partitions: bool = False
    exclude: tuple[str, ...] = ("loop*", "ram*", "zram*", "sr*", "fd*")


class DiskIo(Probe):
    """Reads /proc/diskstats; rates are since the previous run, so the first run brings nothing."""

    options: DiskIoOptions

    def __init__(
        self,
        options: DiskIoOptions,
        *,
        proc: str = "/proc",
        sys: str = "/sys",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(options)
        self._path = f"{proc}/diskstats"
        self._disks = Path(sys) / "block"
        self._monotonic = monotonic
        self._labels: dict[bytes, Labels | None] = {}
        self._previous: dict[bytes, list[int]] = {}
        self._time = 0.0

    async def collect(self) -> list[Metric]:
        now = self._monotonic()
        totals = self._totals(read_file(self._path))
        elapsed = now - self._time
        metrics: list[Metric] = []
        if elapsed > 0:
            for device, current in totals.items():
                before = self._previous.get(device)
                labels = self._labels[device]
                if before is not None and labels is not None:
                    metrics += _rates(before, current, elapsed, labels)
        self._previous, self._time = totals, now
        return metrics

    def _totals(self, text: bytes) -> dict[bytes, list[int]]:
        totals: dict[bytes, list[int]] = {}
        for line in text.splitlines():
            _major, _minor, device, *columns = line.split(None, 14)
            if device not in self._labels:
                self._labels[device] = self._judge(printable(device))
            if self._labels[device] is not None:
                totals[device] = [int(column) for column in columns[:11]]
        return totals

    def _judge(self, device: str) -> Labels | None:
        """None for a device that is left out; asked once for each, since a name keeps its meaning."""
        if any(fnmatchcase(device, pattern) for pattern in self.options.exclude):
            return None
        # Only whole disks have a folder there; a slash in a name is written as an exclamation mark.
        if not self.options.partitions and not (self._disks / device.replace("/", "!")).exists():
            return None
        return {"device": device}


def _rates(before: list[int], current: list[int], elapsed: float, labels: Labels) -> list[Metric]:
    """Nothing where a total went back: another disk has taken the name, and no rate can be told."""
    delta = [new - old for old, new in zip(before, current, strict=True)]
    for column in (_READ_MS, _WRITE_MS, _BUSY_MS):
        delta[column] %= 1 << 32  # the kernel keeps milliseconds in 32 bits: they begin anew every 49.7 days
    if min(delta[_READS], delta[_READ_SECTORS], delta[_WRITES], delta[_WRITTEN_SECTORS]) < 0:
        return []
    operations = delta[_READS] + delta[_WRITES]
    waited = (delta[_READ_MS] + delta[_WRITE_MS]) / 1000
    return [
        Metric("diskio.read_bytes_per_second", delta[_READ_SECTORS] * _SECTOR / elapsed, "bytes/s", "gauge", labels),
        Metric(
            "diskio.write_bytes_per_second", delta[_WRITTEN_SECTORS] * _SECTOR / elapsed, "bytes/s", "gauge", labels
        ),
        Metric("diskio.read_operations_per_second", delta[_READS] / elapsed, "1/s", "gauge", labels),
        Metric("diskio.write_operations_per_second", delta[_WRITES] / elapsed, "1/s", "gauge", labels),
        Metric("diskio.busy_percent", min(100.0, delta[_BUSY_MS] / elapsed / 10), "percent", "gauge", labels),
        Metric("diskio.wait_seconds", waited / operations if operations else 0.0, "seconds", "gauge", labels),
    ]
