"""Rules about change and about what is to come: lines through the past, what they foresee, and what they ignore."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alerting.engine import Engine
from agent.alerting.figure import figure
from agent.alerting.memory import Pair, TrackFact
from agent.alerting.state import State
from agent.alerting.trend import LEAST, MOST, Points, draw, words
from agent.config.decode import decode
from agent.config.schema import ThresholdConfig
from agent.model import Metric, ProbeResult
from tests.fakes.clock import ManualClock

HOUR = 3600.0


def config(**keys: Any) -> ThresholdConfig:
    """As it is read from a file."""
    found, faults = decode(ThresholdConfig, {"name": "r", "metric": "disk.used_percent", **keys}, "thresholds")
    assert found is not None
    assert faults == []
    return found


class Host:
    """An engine with one rule, and a clock that a series is played to."""

    def __init__(self, path: Path, **keys: Any) -> None:
        self.path, self.config, self.clock = path, config(**keys), ManualClock()

    async def open(self) -> Host:
        self.engine = await Engine.open(self.path / "alerts.db", [self.config], "web-1", self.clock)
        return self

    async def restart(self) -> None:
        """Only what is on the disk is left."""
        await self.engine.flush()
        await self.engine.aclose()
        await self.open()

    def play(self, course: Callable[[float], float], seconds: float, *, step: float = 60.0, **kind: Any) -> list[Pair]:
        pairs: list[Pair] = []
        for _ in range(int(seconds / step)):
            self.clock.tick(step)
            value = course(self.clock.monotonic())
            metric = Metric(self.config.metric, value, kind.get("unit", "percent"), kind.get("kind", "gauge"))
            pairs += self.engine.observe(ProbeResult("disk", self.clock.now(), "ok", 0.001, (metric,)), step)
        return pairs


def told(pairs: list[Pair]) -> list[str]:
    return [f"{transition.kind} {transition.severity}" for _, transition in pairs]


@pytest.fixture
async def disk(tmp_path: Path) -> Any:
    """A disk that is watched for being full within 4 h, once it is beyond half."""
    host = await Host(tmp_path, warning="100%", forecast="4h", floor="50%", summary="{value} full").open()
    yield host
    await host.engine.aclose()


async def test_a_disk_that_fills_is_told_before_it_is_full(disk: Host) -> None:
    """5 % an hour from 60 %: 4 h before the end, with the time in words; it ends when somebody makes room."""
    pairs = disk.play(lambda at: 60 + 5 * at / HOUR, 5 * HOUR)
    [(incident, _)] = pairs
    assert told(pairs) == ["opened warning"]
    assert 79 <= (incident.value or 0) <= 81
    assert incident.limit == 100
    assert incident.forecast == "full in 4 h"
    pairs = disk.play(lambda at: 40, 600)
    assert told(pairs) == ["resolved ok"]
    assert pairs[0][0].forecast == ""


async def test_what_is_foreseen_is_said_anew_once_an_hour(disk: Host) -> None:
    """An open incident does not go on saying what was true when it opened."""
    pairs = disk.play(lambda at: 60 + 5 * at / HOUR, 7 * HOUR)
    assert told(pairs) == ["opened warning", "evidence warning", "evidence warning"]
    values = [f"{figure(incident.value or 0, 'percent')} full" for incident, _ in pairs]
    assert [incident.summary for incident, _ in pairs] == values, "summary and value are of the same moment"
    assert [incident.forecast for incident, _ in pairs] == ["full in 4 h", "full in 3 h", "full in 2 h"]


async def test_below_the_floor_nothing_is_foreseen(disk: Host) -> None:
    """An empty disk that fills quickly is no alarm until it is beyond the floor."""
    pairs = disk.play(lambda at: 10 + 20 * at / HOUR, 3 * HOUR)
    [(incident, _)] = pairs
    assert 50 < (incident.value or 0) < 52


async def test_a_value_at_the_floor_does_not_ring_twice(disk: Host) -> None:
    """What is on stays on until it is below the floor by a tenth of the way to the bound."""
    disk.play(lambda at: 10 + 20 * at / HOUR, 3 * HOUR)
    up = disk.clock.monotonic()
    pairs = disk.play(lambda at: 48 + 5 * (at // 60 % 2) + 10 * (at - up) / HOUR, 600)
    assert [step for step in told(pairs) if not step.startswith("evidence")] == []
    assert told(disk.play(lambda at: 44, 60)) == ["resolved ok"]


async def test_noise_leads_nowhere(disk: Host) -> None:
    """However much it moves, a disk that stays where it is fills not."""
    rng = random.Random(3)
    assert disk.play(lambda at: 85 + rng.uniform(-4, 4), 24 * HOUR) == []


@pytest.mark.parametrize("jump", [10.0, 25.0, -25.0])
async def test_one_jump_is_no_trend(disk: Host, jump: float) -> None:
    """A copied file moves the disk once, and at no moment of the day after is that taken for growth."""
    rng = random.Random(4)
    assert disk.play(lambda at: 70 + rng.uniform(-0.2, 0.2) + (jump if at > 6 * HOUR else 0), 24 * HOUR) == []


async def test_a_rotated_log_neither_alarms_nor_hides(disk: Host) -> None:
    """A saw-tooth that stays in its range is no alarm; a rotation on the way up does not end one."""
    assert disk.play(lambda at: 60 + 3 * (at % HOUR) / HOUR, 24 * HOUR) == []
    began = disk.clock.monotonic()
    grows: Callable[[float], float] = lambda at: 60 + 6 * (at - began) / HOUR - (2 if at - began > 4 * HOUR else 0)  # noqa: E731
    pairs = disk.play(grows, 6 * HOUR)
    assert [step for step in told(pairs) if not step.startswith("evidence")] == ["opened warning"]


async def test_room_that_is_made_is_there_at_once(disk: Host) -> None:
    """Nobody waits half a window to be told that it is over; nor is it told again while it goes on growing slowly."""
    disk.play(lambda at: 60 + 5 * at / HOUR, 5 * HOUR)
    assert told(disk.play(lambda at: 65 + 5 * (at - 5 * HOUR) / HOUR, 1 * HOUR)) == ["resolved ok"]


async def test_series_that_ended_are_let_go_of(tmp_path: Path) -> None:
    """Of containers that come and go only those are remembered that may come back."""
    host = await Host(tmp_path, warning=90, rate="10m").open()
    for number in range(50):
        host.clock.tick(60)
        metric = Metric(host.config.metric, 5.0, "percent", labels={"container": str(number)})
        host.engine.observe(ProbeResult("disk", host.clock.now(), "ok", 0.001, (metric,)), 60)
    assert len(host.engine._watches["r"]._tracks) <= 22
    await host.engine.flush()
    assert len(host.engine.state.read("series", TrackFact)) <= 22
    await host.engine.aclose()


async def test_what_is_full_is_full(disk: Host) -> None:
    """Beyond the bound there is nothing to foresee, and no history is asked for."""
    [(incident, _)] = disk.play(lambda at: 101, 60)
    assert (incident.severity, incident.forecast) == ("warning", "")


async def test_levels_have_times_of_their_own(tmp_path: Path) -> None:
    """Each is reached when its own bound is near; the words are about the bound that is told."""
    host = await Host(tmp_path, warning="80%", critical="90%", forecast="2h").open()
    pairs = host.play(lambda at: 60 + 4 * at / HOUR, 6 * HOUR)
    assert told(pairs)[:2] == ["opened warning", "evidence warning"]
    assert "escalated critical" in told(pairs)
    first, last = pairs[0][0], next(incident for incident, step in pairs if step.kind == "escalated")
    assert first.forecast.startswith("at 80 % in ")
    assert last.forecast.startswith("at 90 % in ")
    assert abs((first.value or 0) - 72) < 1
    assert abs((last.value or 0) - 82) < 1
    await host.engine.aclose()


async def test_it_looks_down_as_well(tmp_path: Path) -> None:
    """What runs empty, with op "<"."""
    host = await Host(tmp_path, op="<", warning=0, forecast="2h", floor="40%").open()
    pairs = host.play(lambda at: 80 - 20 * at / HOUR, 3 * HOUR)
    assert told(pairs) == ["opened warning"]
    assert pairs[0][0].forecast == "empty in 2 h"
    await host.engine.aclose()


async def test_the_past_survives_a_restart(disk: Host) -> None:
    """A daemon that starts anew needs no new hours to foresee something."""
    disk.play(lambda at: 60 + 5 * at / HOUR, 3.8 * HOUR)
    await disk.restart()
    pairs = disk.play(lambda at: 60 + 5 * at / HOUR, 0.4 * HOUR)
    assert told(pairs) == ["opened warning"]


async def test_the_past_is_bounded(disk: Host) -> None:
    """However often a probe runs, a window keeps some forty points."""
    disk.play(lambda at: 60, 12 * HOUR, step=2)
    [track] = disk.engine._watches["r"]._tracks.values()
    assert [len(points.kept) <= MOST + 1 for points in track.past] == [True, True]


async def test_growth_per_hour_can_be_written(tmp_path: Path) -> None:
    """More than 1 GiB an hour over ten minutes; told in that unit; silent until half of the window is known."""
    host = await Host(tmp_path, metric="app.heap_bytes", warning="1GiB/h", clear="0.5GiB/h", rate="10m").open()
    gib = 2.0**30
    assert host.play(lambda at: 5 * gib + 0.9 * gib * at / HOUR, HOUR, unit="bytes") == []
    began = host.clock.monotonic()
    level = 5 * gib + 0.9 * gib * began / HOUR
    pairs = host.play(lambda at: level + 2 * gib * (at - began) / HOUR, 1200, unit="bytes")
    [(incident, _)] = pairs
    assert (incident.unit, incident.limit, incident.history_unit) == ("bytes/h", gib, "bytes")
    assert gib < (incident.value or 0) < 2 * gib
    end = host.clock.monotonic()
    pairs = host.play(lambda at: level + 2 * gib * (end - began) / HOUR, 1200, unit="bytes")
    assert told(pairs) == ["resolved ok"]
    await host.engine.aclose()


async def test_a_counter_that_begins_anew_does_not_fall(tmp_path: Path) -> None:
    """A restarted program counts from 0 again: that is no change of minus a million."""
    host = await Host(tmp_path, metric="app.errors", op="<", warning=-1, rate="5m").open()
    pairs = host.play(lambda at: at * 10, HOUR, unit="", kind="counter")
    pairs += host.play(lambda at: (at - HOUR) * 10, HOUR, unit="", kind="counter")
    assert pairs == []
    assert told(host.play(lambda at: -at * 10, HOUR, unit="")) == ["opened warning"], "a gauge may fall"
    await host.engine.aclose()


async def test_units_of_change_are_held_against_the_metric(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes an hour judge bytes, and nothing else."""
    host = await Host(tmp_path, metric="app.queue", warning="1GiB/h", rate="10m").open()
    assert host.play(lambda at: at * 2.0**30, HOUR, unit="percent") == []
    assert host.engine.faults() == ["thresholds.r: its bounds are in bytes/h, but app.queue is in percent"]
    await host.engine.aclose()


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"warning": "1GiB", "rate": "5m"}, "rate judges change"),
        ({"warning": 1, "rate": "5m", "forecast": "4h"}, "exclude each other"),
        ({"absent_for": "60s", "rate": "5m"}, "need a bound"),
        ({"warning": 1, "forecast": "31d"}, "at most 30 days"),
        ({"warning": "80%", "floor": "50%"}, "floor goes with forecast"),
        ({"warning": "80%", "forecast": "4h", "floor": "90%"}, "good side"),
    ],
)
def test_what_cannot_be_meant_is_refused(keys: dict[str, Any], fault: str) -> None:
    engine = Engine(State(None), "web-1", ManualClock())
    engine.start([config(**keys)])
    assert [told for told in engine.faults() if fault in told]


times = st.lists(st.floats(0, 1e5), min_size=LEAST, max_size=MOST, unique=True)


@given(times, st.randoms(use_true_random=False))
def test_a_line_keeps_its_order(found: list[float], rng: random.Random) -> None:
    """Low, middle and high slope in this order, whatever the points."""
    line = draw([(at, rng.uniform(-1e6, 1e6)) for at in sorted(found)])
    assert line.low <= line.slope <= line.high


@given(st.floats(-100, 100), st.floats(-1e3, 1e3), st.integers(LEAST, MOST))
def test_a_line_is_found_exactly(slope: float, level: float, count: int) -> None:
    line = draw([(at * 60.0, level + slope * at * 60.0) for at in range(count)])
    assert math.isclose(line.slope, slope, abs_tol=1e-6)
    assert math.isclose(line.level, level + slope * (count - 1) * 60.0, abs_tol=1e-3)


@given(st.floats(0.001, 1), st.integers(0, 39), st.floats(-1000, 1000))
def test_one_wild_point_moves_no_line(slope: float, wild: int, by: float) -> None:
    """One in forty is outvoted."""
    found = [(at * 60.0, slope * at * 60.0) for at in range(40)]
    found[wild] = (found[wild][0], found[wild][1] + by)
    assert math.isclose(draw(found).slope, slope, rel_tol=1e-6)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ((9 * HOUR, 6 * HOUR, 14 * HOUR), "9 h (6-14 h)"),
        ((9 * HOUR, 6 * HOUR, math.inf), "9 h (6 h or later)"),
        ((90 * 60, 80 * 60, 100 * 60), "90 min (80-100 min)"),
        ((80 * HOUR, 70 * HOUR, 100 * HOUR), "3 d (3-4 d)"),
        ((4 * HOUR, 4 * HOUR, 4.2 * HOUR), "4 h"),
        ((math.inf, 4 * HOUR, math.inf), ""),
    ],
)
def test_how_long_in_words(found: tuple[float, float, float], said: str) -> None:
    assert words(found) == said


def test_points_of_one_moment_are_one() -> None:
    """Two results within a part of the window count once, whatever the clock does."""
    kept = Points(4000)
    for _ in range(1000):
        kept.add(5.0, 1.0)
    assert kept.kept == [(5.0, 1.0)]
