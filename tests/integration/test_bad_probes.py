"""One bad probe harms nothing else: real clock, real threads, a good probe beside four bad ones."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.log import BoundedStream
from agent.model import Metric, ProbeResult
from agent.plugin import Options, Probe, gauge
from agent.probing.plan import PlannedProbe
from agent.probing.scheduler import Scheduler

INTERVAL = 0.1
DEADLINE = 0.5
FLOOD = 100 * 1024 * 1024
MIB = 1024 * 1024


class Good(Probe):
    async def collect(self) -> list[Metric]:
        return [gauge("good.value", 1)]


class Sleeps(Probe):
    async def collect(self) -> list[Metric]:
        await asyncio.sleep(1e6)
        return []


class Raises(Probe):
    async def collect(self) -> list[Metric]:
        raise OSError("x" * MIB)


class Prints(Probe):
    async def collect(self) -> list[Metric]:
        """100 MB of lines in every run, in chunks, as a plugin with a forgotten debug print does."""
        chunk = ("y" * 127 + "\n") * 512
        for _ in range(FLOOD // len(chunk)):
            print(chunk, end="")
            await asyncio.sleep(0)
        raise ValueError("printed it all")


class Blocks(Probe):
    async def collect(self) -> list[Metric]:
        await self.in_thread(_forever.wait)
        return []


_forever = threading.Event()


@pytest.fixture
def hung() -> Iterator[None]:
    _forever.clear()
    yield
    _forever.set()


def planned(kind: type[Probe]) -> PlannedProbe:
    name = kind.__name__.lower()
    return PlannedProbe(name, lambda: kind(Options()), INTERVAL, "", DEADLINE, 0.0, name)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def value(result: ProbeResult, name: str) -> float:
    return next(metric.value for metric in result.metrics if metric.name == name)


async def until(true, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what it waits for tells nobody
            await asyncio.sleep(0.05)


async def test_bad_probes_are_marked_and_harm_nobody(hung, caplog):
    """The good one keeps its schedule; each bad one is marked and backs off; threads and memory stay bounded."""
    results: dict[str, list[ProbeResult]] = {
        kind.__name__.lower(): [] for kind in (Good, Sleeps, Raises, Prints, Blocks)
    }
    scheduler = Scheduler(SystemClock(), lambda result: results[result.probe].append(result))
    threads = threading.active_count()
    with contextlib.redirect_stdout(BoundedStream("stdout")):  # type: ignore[type-var] # it is all that print needs
        stream = sys.stdout
        scheduler.start()
        scheduler.apply([planned(kind) for kind in (Good, Sleeps, Raises, Prints, Blocks)])
        await until(lambda: all(results.values()))
        gc.collect()
        before, began = resident(), time.monotonic()
        await until(lambda: all(len(results[name]) >= 3 for name in results) and len(results["good"]) >= 30)
        lasted = time.monotonic() - began
        grown = resident() - before
    states = {state.name: state for state in scheduler.states()}
    running = threading.active_count() - threads
    stopping = time.monotonic()
    await scheduler.stop()
    assert time.monotonic() - stopping < 5

    good = results["good"]
    lags = sorted(value(result, "probe.lag") for result in good)
    median, worst = lags[len(lags) // 2], lags[-1]
    expected = lasted / INTERVAL
    print(f"\nfor {lasted:.1f} s beside four bad probes: {len(good)} good runs (grid: {expected:.0f}), lag median")
    print(f"{median * 1000:.2f} ms, worst {worst * 1000:.1f} ms; {grown / MIB:+.1f} MiB; {running} thread more")
    print({name: (state.status, state.failures) for name, state in states.items()}, f"{stream.suppressed:,} suppressed")
    assert {result.status for result in good} == {"ok"}
    assert median < INTERVAL / 2
    assert worst < INTERVAL * 10
    assert len(good) > expected / 2

    assert {name: state.status for name, state in states.items() if name != "prints"} == {
        "good": "ok",
        "sleeps": "timeout",
        "raises": "error",
        "blocks": "error",
    }
    assert states["prints"].status != "ok"  # an error or, on a busy machine, a timeout
    assert [result.status for result in results["blocks"]][:3] == ["timeout", "error", "error"]
    for name in ("sleeps", "raises", "prints", "blocks"):
        starts = [result.time for result in results[name]]
        waits = [later - earlier for earlier, later in itertools.pairwise(starts)]
        assert states[name].failures == len(starts)
        slowed = INTERVAL * 2 ** len(waits)  # the interval before the last run; half of it for a busy machine
        assert waits[-1] > slowed / 2, f"{name} does not back off: {waits}"
        assert all(value(result, "probe.up") == 0 for result in results[name])

    assert running == 1
    assert grown < 16 * MIB
    assert stream.suppressed > FLOOD / 4
    assert all(len(result.error) < 1000 for result in results["raises"])
    printed = [record for record in caplog.records if record.name.startswith("agent.log")]
    assert sum(len(str(getattr(record, "text", ""))) for record in printed) < MIB
    failed = sorted(record.probe for record in caplog.records if record.message == "probe failed")
    assert failed == ["blocks", "prints", "raises", "sleeps"]
