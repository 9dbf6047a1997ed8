"""When probes run, in virtual time: grid, spread, back-off, cron, reload and clocks that people set."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.model import Metric, ProbeResult
from agent.plugin import Options, Probe
from agent.probing.crontab import fields
from agent.probing.plan import PlannedProbe
from agent.probing.scheduler import LONGEST, Scheduler, cron_fault
from tests.fakes.clock import ManualClock, settle

DAY = 86400.0


class Scripted(Probe):
    """Notes when it runs; `fail` makes it raise, `hold` makes it wait."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(Options())
        self.clock = clock
        self.runs: list[float] = []
        self.opened = self.closed = 0
        self.fail = False
        self.hold: asyncio.Event | None = None
        self.close_after: asyncio.Event | None = None

    async def open(self) -> None:
        self.opened += 1

    async def collect(self) -> list[Metric]:
        self.runs.append(self.clock.monotonic())
        if self.hold is not None:
            await self.hold.wait()
        if self.fail:
            raise OSError("broken")
        return []

    async def aclose(self) -> None:
        if self.close_after is not None:
            await self.close_after.wait()
        self.closed += 1


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock(now=datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC).timestamp())
        self.results: list[ProbeResult] = []
        self.scheduler = Scheduler(self.clock, self.results.append)
        self.probes: dict[str, Scripted] = {}

    def plan(self, name: str, interval: float | None = 10.0, cron: str = "", jitter: float = 0.0, key: object = "k"):
        self.probes[name] = probe = Scripted(self.clock)
        return PlannedProbe(name, lambda: probe, interval, cron, 3600.0, jitter, (name, interval, cron, key))

    def state(self, name: str):
        return next(state for state in self.scheduler.states() if state.name == name)


@pytest.fixture
async def bench():
    bench = Bench()
    yield bench
    await bench.scheduler.stop()


async def test_runs_keep_to_a_grid(bench):
    """Run after run at exactly one interval, with no lag."""
    bench.scheduler.apply([bench.plan("a")])
    bench.scheduler.start()
    await bench.clock.advance(95)
    assert bench.probes["a"].runs == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    lags = [m.value for result in bench.results for m in result.metrics if m.name == "probe.lag"]
    assert len(lags) == 10
    assert max(lags) < 0.001
    assert bench.scheduler.last_run == 90
    assert bench.state("a").next_run == pytest.approx(bench.clock.now() + 5)


async def test_first_runs_are_spread(bench):
    """Eight probes do not start in the same instant, but evenly within two seconds; a quick one within its interval."""
    bench.scheduler.start()
    bench.scheduler.apply([*(bench.plan(f"p{i}") for i in range(7)), bench.plan("quick", 0.8)])
    await bench.clock.advance(2)
    assert [bench.probes[f"p{i}"].runs for i in range(7)] == [[i / 4] for i in range(7)]
    assert bench.probes["quick"].runs[0] == pytest.approx(0.7)


async def test_lag_is_how_late_a_run_starts(bench):
    """A loop that was held up for three seconds shows in probe.lag, and what was missed is not run afterwards."""
    bench.scheduler.apply([bench.plan("a", 1.0)])
    bench.scheduler.start()
    await bench.clock.advance(0.5)
    bench.clock.tick(3.25)  # nobody is woken: due at 1, it is 3.75 now
    await bench.clock.advance(0.1)
    lag = [m.value for m in bench.results[-1].metrics if m.name == "probe.lag"]
    assert lag == [pytest.approx(2.75, abs=0.01)]
    await bench.clock.advance(2.0)
    assert bench.probes["a"].runs == pytest.approx([0, 3.75, 4, 5])


async def test_a_run_in_progress_is_never_doubled(bench):
    """What falls due meanwhile is left out and counted; afterwards the grid is as it was."""
    bench.scheduler.apply([bench.plan("a")])
    bench.scheduler.start()
    await bench.clock.advance(5)
    bench.probes["a"].hold = asyncio.Event()
    await bench.clock.advance(30)  # due at 10, 20, 30
    assert bench.probes["a"].runs == [0, 10]
    assert bench.state("a").skipped == 2
    bench.probes["a"].hold.set()
    await bench.clock.advance(20)
    assert bench.probes["a"].runs == [0, 10, 40, 50]


async def test_failures_back_off_and_success_resets(bench, caplog):
    """10 s, then 20, 40 … up to ten minutes; one success and it is 10 s again. Two log lines in all."""
    caplog.set_level(logging.INFO)
    bench.scheduler.apply([bench.plan("a")])
    bench.scheduler.start()
    probe = bench.probes["a"]
    probe.fail = True
    await bench.clock.advance(3000)
    waits = [b - a for a, b in zip(probe.runs, probe.runs[1:], strict=False)]
    assert waits == [20, 40, 80, 160, 320, LONGEST, LONGEST, LONGEST]
    assert bench.state("a").failures == 9
    assert (bench.state("a").status, bench.state("a").error) == ("error", "OSError: broken")
    probe.fail = False
    done = len(probe.runs)
    await bench.clock.advance(700)
    waits = [b - a for a, b in zip(probe.runs[done:], probe.runs[done + 1 :], strict=False)]
    assert len(waits) >= 9
    assert set(waits) == {10}
    assert bench.state("a").failures == 0
    lines = [record.message for record in caplog.records if record.name.startswith("agent.")]
    assert lines == ["probe failed", "probe works again"]


async def test_a_slow_probe_is_not_hurried_by_failing(bench):
    """An interval longer than ten minutes stays what it is."""
    bench.scheduler.apply([bench.plan("a", 3600.0)])
    bench.scheduler.start()
    bench.probes["a"].fail = True
    await bench.clock.advance(3600 * 3 + 1)
    assert bench.probes["a"].runs == [0, 3600, 7200, 10800]


@pytest.mark.parametrize("seconds", [DAY, -DAY, 3.0, -3600.0])
async def test_a_wall_clock_that_is_set_changes_nothing(bench, seconds):
    """A day back or forward: intervals neither stop nor burst."""
    bench.scheduler.apply([bench.plan("a")])
    bench.scheduler.start()
    await bench.clock.advance(25)
    bench.clock.set_back(seconds)
    await bench.clock.advance(30)
    assert bench.probes["a"].runs == [0, 10, 20, 30, 40, 50]


def walls(bench: Bench, name: str) -> list[str]:
    return [f"{datetime.fromtimestamp(r.time, UTC):%d %H:%M:%S}" for r in bench.results if r.probe == name]


async def test_cron_runs_at_the_wall_clocks_minutes(bench):
    """Each minute once, at its full minute."""
    bench.scheduler.apply([bench.plan("a", None, "* * * * *"), bench.plan("b", None, "*/2 * * * *")])
    bench.scheduler.start()
    await bench.clock.advance(240)
    assert walls(bench, "a") == ["01 12:01:00", "01 12:02:00", "01 12:03:00", "01 12:04:00"]
    assert walls(bench, "b") == ["01 12:02:00", "01 12:04:00"]


async def test_cron_follows_a_wall_clock_that_is_set_back(bench):
    """A day back: it does not wait a day, but runs at the next full minute of the new time."""
    bench.scheduler.apply([bench.plan("a", None, "* * * * *")])
    bench.scheduler.start()
    await bench.clock.advance(45)
    bench.clock.set_back(DAY)
    await bench.clock.advance(120)
    assert walls(bench, "a") == ["01 12:01:00", "28 12:02:00", "28 12:03:00"]


async def test_cron_follows_a_wall_clock_that_is_set_forward(bench):
    """A day forward: no burst of what the jump left out, and the next is on time."""
    bench.scheduler.apply([bench.plan("a", None, "0 * * * *"), bench.plan("b", None, "30 12 * * *")])
    bench.scheduler.start()
    await bench.clock.advance(60)
    bench.clock.set_back(-DAY)
    await bench.clock.advance(3600)
    assert walls(bench, "a") == ["02 13:00:00"]
    assert walls(bench, "b") == ["02 12:30:00"]


async def test_an_unchanged_probe_is_not_touched_by_a_reload(bench):
    """It is neither closed nor opened nor out of its rhythm; changed ones are replaced, removed ones closed."""
    first = [bench.plan("same"), bench.plan("changed"), bench.plan("gone")]
    bench.scheduler.apply(first)
    bench.scheduler.start()
    await bench.clock.advance(25)
    same, changed, gone = (bench.probes[name] for name in ("same", "changed", "gone"))
    bench.scheduler.apply([bench.plan("new"), first[0], bench.plan("changed", key="other")])
    await bench.clock.advance(10)
    assert same.runs == [0, 10, 20, 30]
    assert (same.opened, same.closed) == (1, 0)
    assert (changed.closed, gone.closed) == (1, 1)
    assert len(changed.runs) == 3
    assert bench.probes["changed"].opened == 1
    assert bench.probes["new"].runs[0] == 25
    assert [state.name for state in bench.scheduler.states()] == ["new", "same", "changed"]


async def test_a_replacement_waits_until_the_old_one_is_closed(bench):
    """Two of one probe never hold the same thing at once."""
    bench.scheduler.apply([bench.plan("a")])
    bench.scheduler.start()
    await bench.clock.advance(1)
    old = bench.probes["a"]
    old.close_after = asyncio.Event()
    bench.scheduler.apply([bench.plan("a", key="other")])
    await bench.clock.advance(1)
    assert bench.probes["a"].opened == 0
    old.close_after.set()
    await settle()
    assert (old.closed, bench.probes["a"].opened) == (1, 1)


async def test_a_removed_probe_has_no_last_word(bench, caplog):
    """The run that a reload cut short is no result, and nothing to log."""
    bench.scheduler.apply([bench.plan("a")])
    bench.scheduler.start()
    bench.probes["a"].hold = asyncio.Event()
    await bench.clock.advance(1)
    bench.scheduler.apply([])
    await settle()
    assert bench.results == []
    assert caplog.records == []
    assert bench.probes["a"].closed == 1
    assert bench.scheduler.states() == []


async def test_a_result_that_cannot_be_handled_stops_nothing(bench, monkeypatch):
    """An error in `on_result` costs that result, not the schedule."""
    handled: list[float] = []

    def handle(result: ProbeResult) -> None:
        handled.append(result.time)
        raise RuntimeError("wiring")

    monkeypatch.setattr(bench.scheduler, "_on_result", handle)
    bench.scheduler.apply([bench.plan("a")])
    bench.scheduler.start()
    await bench.clock.advance(35)
    assert len(handled) == 4


async def test_stopping_closes_all_and_leaves_no_task():
    """Whether a probe rests, runs or hangs in closing; and stopping what never started is fine too."""
    before = asyncio.all_tasks()
    await Scheduler(ManualClock(), lambda _: None).stop()
    bench = Bench()
    bench.scheduler.apply([bench.plan("rests"), bench.plan("runs"), bench.plan("cron", None, "* * * * *")])
    bench.scheduler.start()
    bench.probes["runs"].hold = asyncio.Event()
    await bench.clock.advance(5)
    await asyncio.wait_for(bench.scheduler.stop(), 30)
    await settle()
    assert (bench.probes["rests"].closed, bench.probes["runs"].closed) == (1, 1)
    assert asyncio.all_tasks() == before


@settings(max_examples=25)
@given(
    interval=st.sampled_from([0.1, 0.3, 1.0, 7.0, 10.0]),
    jitter=st.floats(0, 1),
    turns=st.lists(
        st.one_of(
            st.tuples(st.just("advance"), st.floats(0.01, 5)),
            st.tuples(st.just("set"), st.floats(-2 * DAY, 2 * DAY)),
            st.tuples(st.just("fail"), st.booleans()),
        ),
        max_size=12,
    ),
)
async def test_no_history_stops_or_bursts_the_schedule(interval, jitter, turns):
    """Whatever the clocks and the probe have done: never two runs in one slot, and soon the next run after success."""
    bench = Bench()
    bench.scheduler.apply([bench.plan("a", interval, jitter=jitter * interval)])
    bench.scheduler.start()
    probe = bench.probes["a"]
    for what, value in turns:
        if what == "advance":
            await bench.clock.advance(value)
        elif what == "set":
            bench.clock.set_back(value)
        else:
            probe.fail = value
    grid = [round((at - jitter * interval / 2) / interval, 3) for at in probe.runs] if jitter == 0 else []
    assert len(set(grid)) == len(grid)
    assert len(probe.runs) <= bench.clock.monotonic() / interval + 1
    probe.fail = False
    wait = bench.state("a").next_run - bench.clock.now()
    assert 0 <= wait <= LONGEST + 2 * interval
    await bench.clock.advance(wait + 0.01)
    done = len(probe.runs)
    await bench.clock.advance(10.5 * interval)
    assert 9 <= len(probe.runs) - done <= 12
    await bench.scheduler.stop()


@pytest.mark.parametrize(
    ("line", "weekdays"),
    [
        ("0 3 * * 0", "sun"),
        ("0 3 * * 7", "sun"),
        ("0 3 * * 1-5", "mon,tue,wed,thu,fri"),
        ("0 3 * * 0-2", "sun,mon,tue"),
        ("0 3 * * 5-7", "fri,sat,sun"),
        ("0 3 * * fri-mon", "fri,sat,sun,mon"),
        ("0 3 * * */2", "sun,tue,thu,sat"),
        ("0 3 * * 1,3,WED", "mon,wed"),
        ("0 3 * * 3/2", "wed,fri"),
        ("0 3 * * *", "*"),
    ],
)
def test_weekdays_are_those_of_crontab(line, weekdays):
    """Sunday is 0 and 7, which the scheduling library counts otherwise."""
    assert fields(line)[4] == weekdays
    assert cron_fault(line) == ""


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "not 0 fields"),
        ("* * * *", "not 4 fields"),
        ("@daily", "not 1 fields"),
        ("61 * * * *", "higher than the maximum"),
        ("x * * * *", "unrecognized"),
        ("0 0 31 2 *", "no day is like this"),
        ("0 0 1 * 1", "exclude each other"),
        ("0 0 * * 8", "weekday '8' is not understood"),
        ("0 0 * * abc", "weekday 'abc' is not understood"),
        ("*/0 * * * *", "higher than 0"),
    ],
)
def test_a_cron_line_that_is_wrong_says_so(line, reason):
    """Every fault is a sentence for a person, never an exception."""
    assert reason in cron_fault(line)
