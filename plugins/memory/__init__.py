"""Memory and swap: what is there, what is left, and how long tasks wait for it."""

from __future__ import annotations

import contextlib

from agent.plugin import Metric, Options, Probe, gauge, read_file


class Memory(Probe):
    """Reads /proc/meminfo, and /proc/pressure/memory where the kernel has it."""

    options: Options

    def __init__(self, options: Options, *, proc: str = "/proc") -> None:
        super().__init__(options)
        self._meminfo = f"{proc}/meminfo"
        self._pressure = f"{proc}/pressure/memory"

    async def collect(self) -> list[Metric]:
        text = b"\n" + read_file(self._meminfo)
        total, available = _size(text, b"MemTotal"), _size(text, b"MemAvailable")
        swap_total = _size(text, b"SwapTotal")
        swap_used = swap_total - _size(text, b"SwapFree")
        metrics = [
            gauge("memory.total_bytes", total, "bytes"),
            gauge("memory.available_bytes", available, "bytes"),
            gauge("memory.free_bytes", _size(text, b"MemFree"), "bytes"),
            gauge("memory.used_bytes", total - available, "bytes"),
            gauge("memory.used_percent", 100 * (total - available) / total, "percent"),
            gauge(
                "memory.cached_bytes",
                sum(_size(text, key) for key in (b"Cached", b"Buffers", b"SReclaimable")),
                "bytes",
            ),
            gauge("memory.shared_bytes", _size(text, b"Shmem"), "bytes"),
            gauge("memory.dirty_bytes", _size(text, b"Dirty"), "bytes"),
            gauge("memory.swap_total_bytes", swap_total, "bytes"),
            gauge("memory.swap_used_bytes", swap_used, "bytes"),
        ]
        if swap_total:  # of no swap, no share is used
            metrics.append(gauge("memory.swap_used_percent", 100 * swap_used / swap_total, "percent"))
        with contextlib.suppress(OSError):  # a kernel without pressure stall information
            some = read_file(self._pressure).split(None, 2)[1]
            metrics.append(gauge("memory.pressure_percent", float(some.removeprefix(b"avg10=")), "percent"))
        return metrics


def _size(text: bytes, key: bytes) -> int:
    """Bytes; looks for the one line, which is cheaper than to take all fifty of them apart."""
    start = text.find(b"\n" + key + b":")
    if start < 0:
        raise ValueError(f"/proc/meminfo has no {key.decode()}")
    start += len(key) + 2
    return int(text[start : text.index(b"kB", start)]) * 1024
