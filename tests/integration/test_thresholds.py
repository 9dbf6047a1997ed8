"""The backtest says what the live engine did; on a real store, through the real API."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from agent.alerting.engine import Engine
from agent.alerting.memory import Pair
from agent.alerting.replay import Replayed, judge, replay
from agent.alerting.state import State
from agent.cli import thresholds as cli
from agent.cli.api import Api
from agent.cli.recording import Recording
from agent.collector.fleet import Fleet
from agent.collector.live import Hub
from agent.collector.stats import Stats
from agent.collector.store import Store
from agent.collector.web import make_app
from agent.config.schema import Config, ThresholdConfig
from agent.config.units import Duration, Quantity
from agent.errors import UsageError
from agent.model import Metric, ProbeResult
from tests.contract.stores import T0, sample
from tests.fakes.clock import ManualClock
from tests.unit.test_engine import rule

DAY = 86400
RULES = [
    rule("disk", metric="disk.used_percent", warning="80%", critical="90%", clear="75%"),
    rule("busy", metric="cpu.used_percent", warning="85%", of="2 of 3", hold=60),
    rule("edge", metric="edge.value", warning=50),
    rule("backup", metric="backup.age_seconds", warning=5000, absent_for=900),
    rule("cert", metric="cert.left_seconds", op="<", warning=1000, hold=600),
    ThresholdConfig(name="growth", metric="log.used_bytes", warning=Quantity(2000.0), rate=Duration(300)),
]


def recorded() -> Iterator[tuple[int, list[Metric]]]:
    """A day: slow waves, a full disk, a value that comes and goes about its bound, now and then no number, a probe that
    falls silent, a log that grows and is rotated; every ten seconds, with gaps; one probe every five minutes. Always
    the same.
    """
    die = random.Random(7)
    for second in range(0, DAY, 10):
        if 30_000 <= second < 30_900:
            continue  # the host was off
        wave = math.sin(second / 5000)
        yield (
            second,
            [
                Metric("disk.used_percent", round(78 + 14 * wave, 3), "percent", labels={"mount": "/"}),
                Metric("disk.used_percent", round(40 + second / 2500, 3), "percent", labels={"mount": "/srv"}),
                Metric("cpu.used_percent", round(60 + 30 * wave + die.uniform(-20, 20), 3), "percent"),
                Metric("edge.other", math.nan),
            ],
        )
        flapping = 40_000 <= second < 43_000
        edge = 60.0 if flapping and second // 60 % 2 else 20.0
        yield second + 3, [Metric("edge.value", math.nan if second % 170 == 0 else edge)]
        if not 50_000 <= second < 53_000:
            yield second + 5, [Metric("backup.age_seconds", float(second % 7200), "seconds")]
        grown = 1000.0 * (second % 20_000) + (2_000_000 * math.floor(second / 9000))
        yield second + 7, [Metric("log.used_bytes", grown, "bytes")]
        if second % 300 == 0:
            yield second + 9, [Metric("cert.left_seconds", 500.0 if second % 20_000 < 3000 else 5000.0, "seconds")]


def interval(metrics: list[Metric]) -> float:
    return 300.0 if metrics[0].name == "cert.left_seconds" else 10.0


def live() -> list[Pair]:
    """As the daemon does it: each result as it comes, and a look at the clock in every second without one."""
    clock = ManualClock()
    clock.set_back(clock.now() - T0)
    engine = Engine(State(None), "web-1", clock, random.Random(0))
    engine.start(RULES)
    results = dict(recorded())
    pairs: list[Pair] = []
    for second in range(DAY):
        if second in results:
            pairs += engine.observe(
                ProbeResult("x", clock.now(), "ok", 0.0, tuple(results[second])), interval(results[second])
            )
        else:
            pairs += engine.tick()
        clock.tick(1)
    return pairs


def essence(pairs: list[Pair]) -> list[tuple[object, ...]]:
    """Kind, severity, time, value, series of every transition."""
    return [
        (t.kind, t.severity, round(t.time - T0, 3), t.value, i.threshold, i.metric, tuple(sorted(i.labels.items())))
        for i, t in pairs
    ]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[TestServer]:
    """A collector's API over a store that has the day."""
    clock = ManualClock()
    store = Store(f"sqlite:///{tmp_path / 'day.db'}", None, clock)
    await store.migrate()
    batch = [
        sample(number, *(one for one in metrics if math.isfinite(one.value)), time=T0 + second)
        for number, (second, metrics) in enumerate(recorded(), start=1)
    ]
    for start in range(0, len(batch), 1000):
        await store.write(batch[start : start + 1000])
    fleet = Fleet(clock, Hub(), 45.0)
    fleet.heard("web-1")
    made = TestServer(make_app(store.reader, fleet, Hub(), Config(), Stats(), clock=clock))
    await made.start_server()
    yield made
    await made.close()
    await store.aclose()


async def test_transition_for_transition(server: TestServer) -> None:
    """What the live engine did on the same samples, and what it would have cost."""
    api = Api(str(server.make_url("")))

    def replayed() -> Replayed:
        recording = Recording(api, "web-1", [config.metric for config in RULES], 10.0)
        return replay(RULES, (), "web-1", recording.results(T0, T0 + DAY, lambda _: None), until=T0 + DAY)

    pairs, faults = await asyncio.to_thread(replayed)
    assert not faults
    expected = essence(live())
    assert {kind for kind, *_ in expected} >= {"opened", "escalated", "deescalated", "resolved", "flapping", "steady"}
    assert {name for *_, name, _, _ in expected} == {config.name for config in RULES}
    assert essence(pairs) == expected
    verdicts = {verdict.rule: verdict for verdict in judge(pairs, [config.name for config in RULES])}
    assert verdicts["edge"].flapped == 1
    assert verdicts["edge"].messages <= 6
    assert verdicts["backup"].incidents


async def test_the_command(
    server: TestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('[[thresholds]]\nname = "disk"\nmetric = "disk.used_percent"\nwarning = "80%"\ncritical = "90%"\n')
    monkeypatch.setattr(cli.time, "time", lambda: T0 + DAY)
    arguments = argparse.Namespace(
        action="test",
        config=file,
        names=[],
        last="1d",
        host="",
        json=False,
        url=str(server.make_url("")),
        token_file=None,
    )
    assert await asyncio.to_thread(cli.main, arguments) == 0
    said, aside = capsys.readouterr()
    assert not aside
    assert "web-1" in said
    assert "critical" in said
    assert "mount=/" in said
    arguments.json = True
    assert await asyncio.to_thread(cli.main, arguments) == 0
    [verdict] = json.loads(capsys.readouterr().out)["web-1"]
    assert verdict["threshold"] == "disk"
    assert verdict["incidents"]
    arguments.names = ["dsik"]
    with pytest.raises(UsageError, match="disk"):
        cli.main(arguments)
