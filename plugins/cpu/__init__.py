"""CPU time by mode, as a share of what all cores could give, and of each core on demand."""

from __future__ import annotations

from agent.plugin import Labels, Metric, Options, Probe, read_file

# The columns of /proc/stat. `guest` and `guest_nice` follow, and are contained in user and nice.
_USER, _NICE, _SYSTEM, _IDLE, _IOWAIT, _IRQ, _SOFTIRQ, _STEAL = range(8)


class CpuOptions(Options, frozen=True):
    per_core: bool = False


class Cpu(Probe):
    """Reads /proc/stat; shares are of the time since the previous run, so the first run brings nothing."""

    options: CpuOptions

    def __init__(self, options: CpuOptions, *, proc: str = "/proc") -> None:
        super().__init__(options)
        self._path = f"{proc}/stat"
        self._previous: dict[str, list[int]] = {}

    async def collect(self) -> list[Metric]:
        ticks = self._ticks(read_file(self._path))
        metrics: list[Metric] = []
        for core, now in ticks.items():
            before = self._previous.get(core)
            if before is not None:
                metrics += _shares(before, now, {"core": core} if core else {})
        self._previous = ticks
        return metrics

    def _ticks(self, stat: bytes) -> dict[str, list[int]]:
        """Core ("" for all together) -> ticks by mode."""
        ticks: dict[str, list[int]] = {}
        for line in stat.split(b"\n"):
            if not line.startswith(b"cpu"):
                break  # the cpu lines come first; behind them is a very long one
            name, *columns = line.split(None, 9)
            ticks[name[3:].decode()] = [int(column) for column in columns[:8]]
            if not self.options.per_core:
                break
        return ticks


def _shares(before: list[int], now: list[int], labels: Labels) -> list[Metric]:
    # The kernel lets idle and iowait of a core go back a little, and all of them when a core comes back.
    spent = [max(0, new - old) for old, new in zip(before, now, strict=True)]
    total = sum(spent)
    if total == 0:
        return []

    def share(name: str, *modes: int) -> Metric:
        return Metric(name, 100.0 * sum(spent[mode] for mode in modes) / total, "percent", "gauge", labels)

    return [
        share("cpu.used_percent", _USER, _NICE, _SYSTEM, _IRQ, _SOFTIRQ, _STEAL),
        share("cpu.user_percent", _USER),
        share("cpu.nice_percent", _NICE),
        share("cpu.system_percent", _SYSTEM),
        share("cpu.iowait_percent", _IOWAIT),
        share("cpu.irq_percent", _IRQ, _SOFTIRQ),
        share("cpu.steal_percent", _STEAL),
        share("cpu.idle_percent", _IDLE),
    ]
