"""When probes run. The only importer of apscheduler.

APScheduler asks `datetime.now(timezone)` for the time and nothing else, so the timezone is where a
clock can be passed in: `_SteadyTime` answers with monotonic time. Its whole time axis is then one that
nobody can set, and a wall clock set back or forward changes nothing for intervals. Cron lines mean the
wall clock; they are planned onto the steady axis, and anew when the wall clock was seen to jump.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import msgspec
from apscheduler.events import EVENT_JOB_MAX_INSTANCES, JobSubmissionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from agent.clock import Clock
from agent.errors import PluginError
from agent.model import Evidence, Labels, ProbeResult, ProbeStatus
from agent.probing.crontab import FORM, fields
from agent.probing.plan import PlannedProbe
from agent.probing.runner import Runner

SPREAD = 2.0
"""Seconds over which first runs are spread evenly, or the probe's interval if that is shorter."""
LONGEST = 600.0
"""Seconds: failing probes are tried again at least this often (or at their interval, if that is longer)."""
STOP = 3.0
"""Seconds that stopping may take, whatever probes do."""
LOOK = 5.0
"""Seconds between looks at the wall clock while there are cron lines."""
JUMP = 1.0
"""Seconds by which wall and monotonic clock must part to be a jump; slewing stays far below."""

_log = logging.getLogger(__name__)
_library = logging.getLogger(f"{__name__}.apscheduler")
_library.setLevel(logging.ERROR)  # it tells every firing and every skip; we count them


class ProbeState(msgspec.Struct, frozen=True):
    """How one probe stands. `status` is "" before its first run; times are unix seconds.

    `failures` are those in a row; `skipped` runs fell due while the one before still ran.
    """

    name: str
    status: ProbeStatus | str
    error: str
    failures: int
    skipped: int
    last_run: float | None
    next_run: float | None


class Scheduler:
    """Runs probes on their schedules and hands every result to `on_result`, in the loop's thread.

    `last_run` is the monotonic time at which the last run of any probe ended (at first: of creation).
    """

    def __init__(self, clock: Clock, on_result: Callable[[ProbeResult], None]) -> None:
        self._clock = clock
        self._on_result = on_result
        self._time = _SteadyTime(clock)
        self._jobs = _Jobs(self._time)
        self._jobs.add_listener(self._skipped, EVENT_JOB_MAX_INSTANCES)
        self._entries: dict[str, _Entry] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._serial = 0
        self._watch: asyncio.Task[None] | None = None
        self.last_run = clock.monotonic()

    def start(self) -> None:
        """Begin; to be called in a running loop, before or after the first `apply`."""
        self._jobs.start()

    def apply(self, planned: Sequence[PlannedProbe]) -> None:
        """Run exactly these from now on. A probe whose `key` is unchanged is not touched."""
        wanted = {probe.name: probe for probe in planned}
        ended: dict[str, asyncio.Task[None]] = {}
        for name, entry in list(self._entries.items()):
            if name not in wanted or wanted[name].key != entry.planned.key:
                ended[name] = self._end(self._entries.pop(name))
        new = [probe for name, probe in wanted.items() if name not in self._entries]
        for index, probe in enumerate(new):
            self._add(probe, index / len(new), ended.get(probe.name))
        self._entries = {name: self._entries[name] for name in wanted}
        if self._watch is None and any(probe.cron for probe in planned):
            self._watch = asyncio.create_task(self._watch_wall())

    async def stop(self) -> None:
        """End every run and close every probe, within STOP seconds; what hangs longer is left behind."""
        if self._watch is not None:
            self._watch.cancel()
        for name in list(self._entries):
            self._end(self._entries.pop(name))
        if self._closing:
            _, late = await asyncio.wait(self._closing, timeout=STOP)
            for task in late:
                task.cancel()
        self._jobs.end()
        await asyncio.sleep(0)  # the library ends at the loop's next turn

    def states(self) -> list[ProbeState]:
        """How every probe stands, in the order of the configuration."""
        return [self._state(entry) for entry in self._entries.values()]

    async def evidence(self, probe: str, metric: str, labels: Labels) -> tuple[Evidence, ...]:
        """What this probe says is behind a crossing of its own series; nothing where there is no such probe."""
        entry = self._entries.get(probe)
        if entry is None:
            return ()
        try:
            return await entry.runner.evidence(metric, labels)
        except PluginError as error:
            _log.warning("no evidence", extra={"probe": probe, "error": str(error)})
            return ()

    def _state(self, entry: _Entry) -> ProbeState:
        due = getattr(entry.job, "next_run_time", None)  # there is none before the start
        wait = None if due is None else self._time.seconds(due) - self._clock.monotonic()
        return ProbeState(
            entry.planned.name,
            entry.status,
            entry.error,
            entry.failures,
            entry.skipped,
            entry.last_run,
            None if wait is None else self._clock.now() + wait,
        )

    def _add(self, planned: PlannedProbe, share: float, after: asyncio.Task[None] | None) -> None:
        now = self._clock.monotonic()
        trigger: _Every | _Cron
        if planned.interval is None:
            trigger = _Cron(planned, self._clock, self._time)
            first = trigger.get_next_fire_time(None, self._time.at(now))
        else:
            trigger = _Every(planned, now + share * min(planned.interval, SPREAD), self._time)
            first = self._time.at(trigger.anchor)
        self._serial += 1
        entry = _Entry(planned, Runner(planned, self._clock), trigger, after)
        self._entries[planned.name] = entry
        entry.job = self._jobs.add_job(
            self._fire,
            trigger,
            args=(entry,),
            id=f"{planned.name}#{self._serial}",  # the one it replaces may still be ending
            next_run_time=first,
            misfire_grace_time=None,
            coalesce=True,
            max_instances=1,
        )

    def _end(self, entry: _Entry) -> asyncio.Task[None]:
        entry.job.remove()
        task = asyncio.create_task(entry.runner.aclose(), name=f"close-{entry.planned.name}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    async def _fire(self, entry: _Entry) -> None:
        if entry.after is not None:
            await asyncio.wait({entry.after})
            entry.after = None
        if not self._runs(entry):
            return
        due = self._time.seconds(entry.trigger.fired)
        result = await entry.runner.run(max(0.0, self._clock.monotonic() - due))
        self.last_run = self._clock.monotonic()
        if not self._runs(entry):
            return
        self._note(entry, result)
        if isinstance(entry.trigger, _Every) and entry.trigger.pace(entry.failures):
            entry.job.modify(next_run_time=entry.trigger.get_next_fire_time(None, self._time.at(self.last_run)))
        self._on_result(result)

    def _runs(self, entry: _Entry) -> bool:
        """Whether it is still wanted; a reload may have come between."""
        return self._entries.get(entry.planned.name) is entry

    def _note(self, entry: _Entry, result: ProbeResult) -> None:
        """Keep how it stands, and log when that has changed."""
        failed = result.status != "ok"
        if failed and entry.failures == 0:
            told = {"probe": result.probe, "status": result.status, "error": result.error}
            _log.warning("probe failed", extra=told)
        elif not failed and entry.failures:
            _log.info("probe works again", extra={"probe": result.probe, "failures": entry.failures})
        entry.failures = entry.failures + 1 if failed else 0
        entry.status, entry.error, entry.last_run = result.status, result.error, result.time

    def _skipped(self, event: JobSubmissionEvent) -> None:
        entry = self._entries.get(event.job_id.rpartition("#")[0])
        if entry is not None:
            entry.skipped += 1

    async def _watch_wall(self) -> None:
        apart = self._clock.now() - self._clock.monotonic()
        while True:
            await self._clock.sleep(LOOK)
            seen = self._clock.now() - self._clock.monotonic()
            if abs(seen - apart) < JUMP:
                apart = seen  # slewing adds up
                continue
            _log.warning("the wall clock was set; cron lines are planned anew", extra={"seconds": seen - apart})
            apart = seen
            now = self._time.at(self._clock.monotonic())
            for entry in self._entries.values():
                if isinstance(entry.trigger, _Cron):
                    entry.job.modify(next_run_time=entry.trigger.get_next_fire_time(None, now))


def cron_fault(line: str) -> str:
    """What is wrong with a crontab line; "" where nothing is."""
    try:
        trigger = _crontab(line)
        if trigger.get_next_fire_time(None, datetime.now(UTC)) is None:
            return f"{FORM}; no day is like this"
    except ValueError as error:
        text = str(error)
        return text if text.startswith(("expected", "day of")) else f"{FORM}; {text[:1].lower()}{text[1:200]}"
    return ""


def _crontab(line: str) -> Any:
    from apscheduler.triggers.cron import CronTrigger  # noqa: PLC0415 - few have a cron line, all would carry it

    return CronTrigger.from_crontab(" ".join(fields(line)), timezone=UTC)


class _Entry(msgspec.Struct):
    planned: PlannedProbe
    runner: Runner
    trigger: _Every | _Cron
    after: asyncio.Task[None] | None
    """The closing of the probe that this one replaces."""
    job: Any = None
    status: str = ""
    error: str = ""
    failures: int = 0
    skipped: int = 0
    last_run: float | None = None


class _SteadyTime(tzinfo):
    """A "time zone" in which it is always monotonic time: `datetime.now(steady)` never jumps."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._origin = datetime(2000, 1, 1, tzinfo=self)

    def utcoffset(self, _: datetime | None) -> timedelta:
        return timedelta(0)

    def dst(self, _: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, _: datetime | None) -> str:
        return "steady"

    def fromutc(self, _: datetime) -> datetime:
        return self.at(self._clock.monotonic())

    def at(self, monotonic: float) -> datetime:
        return self._origin + timedelta(seconds=monotonic)

    def seconds(self, moment: datetime) -> float:
        return (moment - self._origin).total_seconds()


class _Jobs(AsyncIOScheduler):  # type: ignore[misc] # the library ships no types
    """The library's scheduler on a clock of ours: its two hooks for waiting, without a detour over threads."""

    def __init__(self, time: _SteadyTime) -> None:
        self._sleep = time._clock.sleep  # noqa: SLF001 - one thing in two classes
        self._sleeper: asyncio.Task[None] | None = None
        super().__init__(timezone=time, logger=_library)

    def end(self) -> None:
        """Stop for good; nothing runs any more."""
        self._stop_timer()
        if self.running:
            self.remove_all_jobs()
            self.shutdown(wait=False)

    def wakeup(self) -> None:
        self._stop_timer()
        self._start_timer(self._process_jobs())

    def _start_timer(self, wait_seconds: float | None) -> None:
        self._stop_timer()
        if wait_seconds is not None:
            self._sleeper = asyncio.create_task(self._wait(wait_seconds))

    def _stop_timer(self) -> None:
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None:
            sleeper.cancel()

    async def _wait(self, seconds: float) -> None:
        await self._sleep(seconds)
        self._sleeper = None  # it is us: not to be cancelled
        self.wakeup()


class _Every(BaseTrigger):  # type: ignore[misc]
    """A grid of moments `every` apart from `anchor` on (monotonic seconds), each up to `jitter` later."""

    def __init__(self, planned: PlannedProbe, anchor: float, time: _SteadyTime) -> None:
        self._interval = self.every = planned.interval or LONGEST
        self._jitter = planned.jitter
        self._time = time
        self.anchor = anchor
        self.fired = time.at(anchor)

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """The first moment after both; what was missed is left out."""
        seconds = self._time.seconds(now)
        if previous is not None:
            self.fired = previous
            seconds = max(seconds, self._time.seconds(previous))
        return self._time.at(self.anchor + (self._slot(seconds) + 1) * self.every + random.uniform(0, self._jitter))

    def pace(self, failures: int) -> bool:
        """Double the interval with each failure in a row; whether that changes when it is due next."""
        slower: float = self._interval * 2 ** min(failures, 30)
        every = max(self._interval, min(slower, LONGEST))
        if every == self.every:
            return False
        self.anchor += self._slot(self._time.seconds(self.fired)) * self.every
        self.every = every
        return True

    def _slot(self, seconds: float) -> int:
        """Which one `seconds` is in; a datetime is cut to microseconds, so a little early is in time."""
        return int((seconds + 1e-4 - self.anchor) // self.every)


class _Cron(BaseTrigger):  # type: ignore[misc]
    """The moments of a crontab line by the wall clock, in UTC, told in steady time."""

    def __init__(self, planned: PlannedProbe, clock: Clock, time: _SteadyTime) -> None:
        self._trigger = _crontab(planned.cron)
        self._jitter = planned.jitter
        self._clock = clock
        self._time = time
        self._due: datetime | None = None
        self._last: datetime | None = None
        self.fired = time.at(clock.monotonic())

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        if previous is not None and previous != self.fired:
            self.fired, self._last = previous, self._due
        wall = datetime.fromtimestamp(self._clock.now(), UTC)
        after = wall if previous is None else wall + timedelta(milliseconds=1)  # never this very instant again
        if self._last is not None and abs(self._last - wall) < timedelta(seconds=30):
            after = max(wall, self._last + timedelta(seconds=1))  # not the same minute twice
        self._due = self._trigger.get_next_fire_time(None, after)
        if self._due is None:
            return None
        wait = (self._due - wall).total_seconds() + random.uniform(0, self._jitter)
        return self._time.at(self._time.seconds(now) + wait)
