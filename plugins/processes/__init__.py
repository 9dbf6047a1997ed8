"""Processes by state, and the programs that take most of the CPU and of the memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from heapq import nlargest
from operator import itemgetter

from agent.plugin import Metric, Options, Probe, gauge, printable, read_file

# What a state letter of /proc/PID/stat means; an idle kernel thread (I) sleeps, too.
_STATES = {
    b"R": "running",
    b"S": "sleeping",
    b"I": "sleeping",
    b"D": "blocked",
    b"T": "stopped",
    b"t": "stopped",
    b"Z": "zombie",
}
# Columns of /proc/PID/stat behind the name.
_STATE, _USER, _SYSTEM, _THREADS, _STARTED, _RSS = 0, 11, 12, 17, 19, 21
_CHUNK = 250  # processes, about a millisecond: then others have a turn
_SHORTEST = 20  # ticks between two runs: over fewer, the kernel's counting in whole ticks says nothing about shares


_Times = tuple[bytes, bytes, bytes]  # when a process started, and its ticks in user and system mode since


class ProcessesOptions(Options, frozen=True):
    top: int = 5


class Processes(Probe):
    """Reads /proc/PID/stat of every process; CPU is since the previous run, so the first run brings none."""

    options: ProcessesOptions

    def __init__(
        self,
        options: ProcessesOptions,
        *,
        proc: str = "/proc",
        cores: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(options)
        self._proc = proc
        self._monotonic = monotonic
        self._cores = cores or os.cpu_count() or 1
        self._rate = os.sysconf("SC_CLK_TCK")
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._ticks: dict[str, _Times] | None = None
        self._time = 0.0

    async def collect(self) -> list[Metric]:
        now = self._monotonic()
        known, ticks = self._ticks or {}, {}
        letters: dict[bytes, int] = {}
        spent: dict[bytes, int] = {}
        pages: dict[bytes, int] = {}
        threads = 0
        for count, pid in enumerate(self._pids(), start=1):
            if count % _CHUNK == 0:
                await asyncio.sleep(0)
            stat = self._stat(pid)
            if stat is None:
                continue
            program, columns = stat
            letter = columns[_STATE]
            letters[letter] = letters.get(letter, 0) + 1
            threads += int(columns[_THREADS])
            ticks[pid] = times = columns[_STARTED], columns[_USER], columns[_SYSTEM]
            if times != (before := known.get(pid)):  # most have not run at all since, and cost no more than this
                spent[program] = spent.get(program, 0) + _spent(before, times)
            if columns[_RSS] != b"0":
                pages[program] = pages.get(program, 0) + int(columns[_RSS])
        metrics = self._counts(letters)
        metrics += [gauge("processes.total", len(ticks)), gauge("processes.threads", threads)]
        passed = (now - self._time) * self._rate
        if self._ticks is not None and passed >= _SHORTEST:
            capacity = passed * self._cores
            bounded = {program: min(amount, capacity) for program, amount in spent.items()}  # whole ticks overshoot
            metrics += self._top("processes.cpu_percent", "percent", bounded, 100 / capacity)
        metrics += self._top("processes.rss_bytes", "bytes", pages, self._page)
        if self._ticks is None or passed >= _SHORTEST:
            self._ticks, self._time = ticks, now
        return metrics

    def _pids(self) -> list[str]:
        return [name for name in os.listdir(self._proc) if name.isdigit()]  # noqa: PTH208 - far cheaper

    def _stat(self, pid: str) -> tuple[bytes, list[bytes]] | None:
        """The program and what stands behind its name; None if it has ended meanwhile."""
        try:
            text = read_file(f"{self._proc}/{pid}/stat")
        except (FileNotFoundError, ProcessLookupError):
            return None
        opening, closing = text.index(b"("), text.rindex(b")")  # a name may hold brackets and blanks itself
        name = text[opening + 1 : closing]
        # "kworker/3:1-events" is one of hundreds of names for one thing.
        return name.split(b"/", 1)[0] or name, text[closing + 1 :].split(None, _RSS + 1)

    def _counts(self, letters: dict[bytes, int]) -> list[Metric]:
        counts = dict.fromkeys(_STATES.values(), 0)
        for letter, count in letters.items():
            if letter in _STATES:  # else it is just being cleared away
                counts[_STATES[letter]] += count
        return [gauge(f"processes.{state}", count) for state, count in counts.items()]

    def _top(self, metric: str, unit: str, amounts: Mapping[bytes, float], factor: float) -> list[Metric]:
        largest = nlargest(self.options.top, amounts.items(), key=itemgetter(1))
        return [gauge(metric, amount * factor, unit, name=printable(name)) for name, amount in largest if amount > 0]


def _spent(before: _Times | None, times: _Times) -> int:
    """Ticks since the previous run; of a new process all of them (and a pid may have been given anew)."""
    total = int(times[1]) + int(times[2])
    if before is None or before[0] != times[0]:
        return total
    return max(0, total - int(before[1]) - int(before[2]))
