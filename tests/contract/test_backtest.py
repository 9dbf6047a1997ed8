"""A recorded day, judged live, stored, and played again: transition for transition the same."""

from __future__ import annotations

import asyncio
import functools
import math
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from agent.alerting.engine import Engine
from agent.alerting.memory import Pair
from agent.alerting.replay import Replay
from agent.alerting.state import State
from agent.cli.api import Api
from agent.cli.samples import pages
from agent.collector.live import Hub
from agent.collector.stats import Stats
from agent.collector.web import make_app
from agent.config.decode import decode
from agent.config.schema import Config, MaintenanceConfig, ThresholdConfig
from agent.model import Metric, ProbeResult
from tests.contract.stores import Opened, sample
from tests.fakes.clock import ManualClock
from tests.fakes.collector import FakeFleet, host_entry

DAY, EVERY = 86400, 30
TABLES: list[dict[str, Any]] = [
    {"name": "disk", "metric": "disk.used_percent", "warning": "80%", "critical": "90%", "clear": "78%"},
    {"name": "held", "metric": "disk.used_percent", "warning": "80%", "for": "5m", "match": {"mount": "/var"}},
    {"name": "few", "metric": "cpu.used_percent", "warning": "90%", "of": "3 of 5", "depends_on": ["disk"]},
    {"name": "flaps", "metric": "cpu.used_percent", "warning": "50%"},
    {"name": "jumpy", "metric": "cpu.used_percent", "warning": "50%", "flapping": False},
    {"name": "silent", "metric": "cache.hit_percent", "op": "<", "warning": "85%", "absent_for": "90s"},
    {"name": "grows", "metric": "log.used_bytes", "warning": "100MiB/h", "clear": "50MiB/h", "rate": "10m"},
    {"name": "soon", "metric": "log.used_bytes", "warning": "3GiB", "forecast": "2h", "floor": "1GiB"},
    {"name": "never", "metric": "app.up", "absent_for": "10m", "absent": "critical"},
]


def rules() -> list[ThresholdConfig]:
    found = []
    for table in TABLES:
        config, faults = decode(ThresholdConfig, table, "thresholds")
        assert config is not None, faults
        found.append(config)
    return found


MAINTENANCE = [
    MaintenanceConfig(name="night", match="threshold=disk", days="mon-sun", hours="02:00-05:00", timezone="UTC")
]


def results(start: float) -> Iterator[tuple[ProbeResult, str]]:
    """A day of four probes: a rising and falling disk, a nervous CPU, a cache that is away at times, a log that grows
    and is rotated.

    A value that is no number is what a run that fails brings: nothing.
    """
    rng = random.Random(20)
    for second in range(EVERY, DAY, EVERY):
        time, phase = start + second, second / DAY
        root, var = 70 + 25 * math.sin(phase * 9), 60 + 30 * phase + rng.uniform(-3, 3)
        mounts = (("/", root), ("/var", var))
        if not 0.2 < phase < 0.25:  # the probe hangs for more than an hour
            disk = [Metric("disk.used_percent", used, "percent", labels={"mount": mount}) for mount, used in mounts]
            yield _result(time, "disk", disk)
        busy = rng.choice([10.0, 95.0]) if 0.5 < phase < 0.6 else 40 + 60 * rng.random() ** 3
        yield _result(time, "cpu", [Metric("cpu.used_percent", math.nan if rng.random() < 0.02 else busy, "percent")])
        grown = 2.0**20 * (120 * (second % 30_000) / 3600 + 2000 * phase)
        yield _result(time, "log", [Metric("log.used_bytes", grown, "bytes")])
        if int(phase * 40) % 7:
            yield _result(time, "cache", [Metric("cache.hit_percent", rng.gauss(88, 3), "percent")])


def _result(time: float, probe: str, metrics: list[Metric]) -> tuple[ProbeResult, str]:
    good = tuple(metric for metric in metrics if math.isfinite(metric.value))
    return ProbeResult(probe, time, "ok" if good else "error", 0.001, good), probe


@functools.cache
def live(start: float) -> list[Pair]:
    """What a daemon says of it, second by second."""
    clock = ManualClock(start)
    engine = Engine(State(None), "web-1", clock)
    engine.start(rules(), MAINTENANCE)
    due: dict[float, list[ProbeResult]] = {}
    for result, _ in results(start):
        due.setdefault(result.time, []).append(result)
    pairs: list[Pair] = []
    for _ in range(DAY):
        clock.tick(1)
        pairs += engine.tick()
        for result in due.get(clock.now(), ()):
            pairs += engine.observe(result, EVERY)
    return pairs


def meaning(pair: Pair) -> tuple[Any, ...]:
    incident, step = pair
    series = incident.threshold, incident.op, tuple(sorted(incident.labels.items()))
    times = step.time, incident.started_at, incident.fired_at, incident.resolved_at
    held = incident.muted.partition("inc_")[0]
    return (*series, step.kind, step.severity, step.value, incident.version, *times, incident.peak_value, held)


def meanings(pairs: list[Pair]) -> list[tuple[Any, ...]]:
    """In order of time; of what happens in the same second to different series, the store knows no order."""
    return sorted((meaning(pair) for pair in pairs), key=lambda said: (said[7], repr(said[:3]), said[6]))


@pytest.fixture
async def api(db: Opened) -> AsyncIterator[tuple[Api, float]]:
    """A collector over the store in which that day is."""
    start = db.clock.now()
    batch = [
        sample(seq, *result.metrics, time=result.time, probe=probe, status=result.status)
        for seq, (result, probe) in enumerate(results(start), start=1)
    ]
    for first in range(0, len(batch), 500):
        await db.store.write(batch[first : first + 500])
    fleet = FakeFleet(db.clock)
    fleet.entries = [host_entry()]
    db.clock.tick(DAY)
    app = make_app(db.store.reader, fleet, Hub(), Config(), Stats(store_up=True, broker_up=True), clock=db.clock)
    async with TestServer(app) as server:
        yield Api(str(server.make_url("/"))), start


async def test_a_replay_says_what_the_live_engine_said(api: tuple[Api, float]) -> None:
    """Kind, severity, time, value and series of every transition, read back through the API."""
    asked, start = api

    def again() -> Replay:
        replay = Replay("web-1", rules(), start, MAINTENANCE)
        metrics = sorted({str(table["metric"]) for table in TABLES})
        for until, page in pages(asked, "web-1", metrics, start, start + DAY):
            replay.feed(page, until)
        replay.end(start + DAY)
        return replay

    replay = await asyncio.to_thread(again)
    said, expected = meanings(replay.pairs), meanings(live(start))
    kinds = {str(step.kind) for _, step in replay.pairs}
    print(f"{replay.samples} samples, {len(expected)} transitions: {sorted(kinds)}")
    assert said == expected
    assert kinds >= {"opened", "escalated", "deescalated", "resolved", "flapping", "steady", "muted", "unmuted"}
    assert {incident.threshold for incident, _ in replay.pairs} == {str(table["name"]) for table in TABLES}
