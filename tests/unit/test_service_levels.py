"""The agent.toml that ships: its thresholds can be meant, and what they promise is what they do."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.alerting.engine import Engine
from agent.alerting.state import State
from agent.alerting.threshold import compile_rule
from agent.config.load import load
from agent.config.schema import ThresholdConfig
from agent.model import Metric, ProbeResult
from tests.fakes.clock import ManualClock

AGENT_TOML = Path(__file__).parents[2] / "agent.toml"


@pytest.fixture
def shipped() -> tuple[ThresholdConfig, ...]:
    return load(AGENT_TOML).thresholds


def test_every_threshold_that_ships_compiles(shipped: tuple[ThresholdConfig, ...]) -> None:
    """None is refused, and each says in its summary what is the matter."""
    assert shipped
    assert [fault for threshold in shipped for fault in compile_rule(threshold)[1]] == []
    assert [threshold.name for threshold in shipped if not threshold.summary] == []


def test_memory_above_80_percent_is_told(shipped: tuple[ThresholdConfig, ...], clock: ManualClock) -> None:
    """Not at 80, and within half a minute of results every ten seconds above it."""
    engine = Engine(State(None), "web-1", clock)
    engine.start(shipped)
    opened = {}
    for used in (80.0, 80.5):
        for _ in range(4):
            clock.tick(10)
            metric = Metric("memory.used_percent", used, "percent")
            for incident, _ in engine.observe(ProbeResult("memory", clock.now(), "ok", 0.001, (metric,))):
                opened[used] = incident
    assert list(opened) == [80.5]
    assert opened[80.5].fired_at - opened[80.5].started_at < 30
    assert engine.faults() == []


def test_a_disk_that_fills_is_told_hours_before(shipped: tuple[ThresholdConfig, ...], clock: ManualClock) -> None:
    """From 60 % at 5 % an hour, noise included: after the floor, and before the bound on the value itself."""
    engine = Engine(State(None), "web-1", clock)
    engine.start(shipped)
    pairs = []
    for minute in range(60 * 5):
        clock.tick(60)
        used = 60 + minute / 12 + minute % 7 / 20
        metric = Metric("disk.used_percent", used, "percent", labels={"mount": "/srv"})
        pairs += engine.observe(ProbeResult("disk", clock.now(), "ok", 0.001, (metric,)), 60)
    incident = pairs[0][0]
    assert (incident.threshold, incident.severity) == ("disk-full-soon", "warning")
    assert incident.forecast.startswith("full in 4 h")
    assert 80 < (incident.value or 0) < 82
