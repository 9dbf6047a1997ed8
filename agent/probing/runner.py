"""Run one probe once: deadline, errors, self-metrics. Whatever a probe does, a ProbeResult comes out."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from agent.clock import Clock
from agent.errors import PluginError
from agent.model import Evidence, Labels, Metric, ProbeResult, ProbeStatus
from agent.plugin import Probe
from agent.probing.plan import PlannedProbe
from agent.probing.screen import screen

GRACE = 0.25
"""Seconds that a cancelled run has to clean up; after that it is left alone, and no other is started beside it."""
EVIDENCE = 10.0
"""Seconds for a probe's `evidence`."""
CLOSE = 2.0
"""Seconds for a probe's `aclose`."""
_LONGEST = 500
_MOST_EVIDENCE, _MOST_LINES = 4, 20


class _Outcome(NamedTuple):
    status: ProbeStatus
    metrics: tuple[Metric, ...] = ()
    error: str = ""


class Runner:
    """One probe's life: created and opened at the first run (again at the next where that failed), closed at the end.

    Runs must not overlap; the scheduler sees to it. The deadline counts in the loop's own time.
    """

    def __init__(self, planned: PlannedProbe, clock: Clock) -> None:
        self._planned = planned
        self._clock = clock
        self._probe: Probe | None = None
        self._opened = False
        self._closed = False
        self._task: asyncio.Task[_Outcome] | None = None
        self._labels = {"probe": planned.name}

    async def run(self, lag: float = 0.0) -> ProbeResult:
        """One run. `lag`: seconds from when it was due to now. Raises nothing but CancelledError."""
        time, started = self._clock.now(), self._clock.monotonic()
        outcome = await self._attempt()
        duration = self._clock.monotonic() - started
        own = (
            Metric("probe.up", float(outcome.status == "ok"), "", "gauge", self._labels),
            Metric("probe.duration", duration, "seconds", "gauge", self._labels),
            Metric("probe.lag", lag, "seconds", "gauge", self._labels),
        )
        metrics = (*outcome.metrics, *own)
        return ProbeResult(self._planned.name, time, outcome.status, duration, metrics, outcome.error)

    async def evidence(self, metric: str, labels: Labels) -> tuple[Evidence, ...]:
        """What the probe says is behind a crossing; PluginError where it fails or takes longer than EVIDENCE."""
        probe = self._probe
        if probe is None or not self._opened or type(probe).evidence is Probe.evidence:
            return ()
        asked = asyncio.create_task(_testify(probe, metric, labels))
        try:
            done, _ = await asyncio.wait({asked}, timeout=EVIDENCE)
        finally:
            asked.cancel()
        if not done:
            raise PluginError(f"no evidence within {EVIDENCE:g} s")
        return asked.result()

    async def aclose(self) -> None:
        """Cancel a run under way and close the probe, within GRACE and CLOSE; nothing is raised for it."""
        self._closed = True
        if self._task is not None:
            await _end(self._task)
        probe, self._probe = self._probe, None  # let go of it: its thread ends with it
        if probe is not None and self._opened:
            self._opened = False
            closing = asyncio.create_task(_close(probe))
            await asyncio.wait({closing}, timeout=CLOSE)
            closing.cancel()

    async def _attempt(self) -> _Outcome:
        if self._closed:
            return _Outcome("error", error="the probe is closed")
        if self._task is not None and not self._task.done():
            return _Outcome("timeout", error="an earlier run has not ended though it was cancelled")
        self._task = task = asyncio.create_task(self._collect())
        try:
            done, _ = await asyncio.wait({task}, timeout=self._planned.timeout)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            await _end(task)
            return _Outcome("timeout", error=f"no result within {self._planned.timeout:g} s")
        if task.cancelled():
            return _Outcome("error", error="CancelledError: the run was cancelled from within")
        return task.result()

    async def _collect(self) -> _Outcome:
        """The border: a plugin's error of any kind, `sys.exit` too, is the result of its run."""
        try:
            if self._probe is None:
                self._probe = self._planned.create()
            if not self._opened:
                await self._probe.open()
                self._opened = True
            return _Outcome("ok", screen(await self._probe.collect()))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - the border of a probe's run, whatever it brings
            return _Outcome("error", error=told(error))


def told(error: BaseException) -> str:
    """`FileNotFoundError: …` in one short line that UTF-8 can carry, even where the error's own text cannot be made."""
    try:
        text = str(error)[:_LONGEST]
    except Exception:  # noqa: BLE001 - the plugin's own __str__
        text = ""
    line = " ".join(text.split())
    name = type(error).__name__
    return (f"{name}: {line}" if line else name).encode(errors="replace").decode()


async def _testify(probe: Probe, metric: str, labels: Labels) -> tuple[Evidence, ...]:
    """The border, as with a run; what is no evidence is none."""
    try:
        found = await probe.evidence(metric, dict(labels))
        return tuple(
            Evidence(_carried(one.title), tuple(_carried(line) for line in one.lines[:_MOST_LINES]))
            for one in list(found)[:_MOST_EVIDENCE]
        )
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the border of a probe's run
        raise PluginError(told(error)) from None


def _carried(text: str) -> str:
    """Short enough, and such that UTF-8 can carry it; what is no text is refused with a TypeError."""
    return str.encode(text[:_LONGEST], errors="replace").decode()


async def _end(task: asyncio.Task[_Outcome]) -> None:
    """Cancel, and wait a moment only: a coroutine may ignore it for ever."""
    task.cancel()
    await asyncio.wait({task}, timeout=GRACE)


async def _close(probe: Probe) -> None:
    try:
        await probe.aclose()
    except (Exception, SystemExit):  # noqa: BLE001 - the border of a probe's run; it is gone in any case
        return
