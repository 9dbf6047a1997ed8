"""Rules about change and about what is to come, in any order with silence, reloads and restarts."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.alerting.engine import Engine
from agent.alerting.memory import Pair
from agent.alerting.state import State
from agent.config.decode import decode
from agent.config.schema import ThresholdConfig
from agent.model import Incident, Metric, ProbeResult, TransitionKind
from tests.fakes.clock import ManualClock
from tests.services import CI

TABLES: list[dict[str, Any]] = [
    {"name": "rate", "warning": "30%/h", "critical": "60%/h", "clear": "10%/h", "rate": "10m"},
    {"name": "soon", "warning": "90%", "critical": "100%", "forecast": "1h", "floor": "40%"},
    {"name": "falls", "op": "<", "warning": "20%", "forecast": "30m", "for": "2m"},
]


def rules() -> list[ThresholdConfig]:
    found = []
    for table in TABLES:
        config, faults = decode(ThresholdConfig, {"metric": "disk.used_percent", **table}, "thresholds")
        assert config is not None, faults
        found.append(config)
    return found


class CourseMachine(RuleBasedStateMachine):
    """Per rule one life after another, versions without a gap, whatever the past; and a restart says nothing by itself.

    What is known of the past is what the file has of it, at most a minute less.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.state, self.value = ManualClock(), State(None), 50.0
        self.start()
        self.open: dict[str, Incident] = {}

    def start(self) -> None:
        self.engine = Engine(self.state, "web-1", self.clock)
        self.engine.start(rules())

    def take(self, pairs: list[Pair]) -> None:
        for incident, transition in pairs:
            before = self.open.get(incident.threshold)
            if transition.kind is TransitionKind.OPENED:
                assert before is None, "a second one opened without resolved between"
                assert incident.version == 1
            else:
                assert before is not None
                assert (incident.id, incident.version) == (before.id, before.version + 1)
            self.open[incident.threshold] = incident
            if transition.kind is TransitionKind.RESOLVED:
                del self.open[incident.threshold]
                assert not incident.forecast
            self.engine.mark_shipped(incident.id, transition.version)

    @rule(step=st.sampled_from([-20.0, -1.0, -0.2, 0.0, 0.2, 1.0, 20.0]), times=st.integers(1, 40))
    def goes_on(self, step: float, times: int) -> None:
        for _ in range(times):
            self.value = min(100.0, max(0.0, self.value + step))
            self.clock.tick(60)
            metric = Metric("disk.used_percent", self.value, "percent")
            self.take(self.engine.observe(ProbeResult("disk", self.clock.now(), "ok", 0.001, (metric,)), 60))

    @rule(seconds=st.sampled_from([30, 600, 7200]))
    def silent(self, seconds: int) -> None:
        """No data ends nothing, and begins nothing."""
        self.clock.tick(seconds)
        assert self.engine.tick() == []

    @rule()
    def restart(self) -> None:
        """As after kill -9: only the state is left."""
        self.start()

    @rule()
    def reload(self) -> None:
        assert self.engine.reload(rules()) == []

    @rule(name=st.sampled_from([str(table["name"]) for table in TABLES]))
    def explain(self, name: str) -> None:
        assert self.engine.explain(name)[0] == f"{name}: disk.used_percent"

    @invariant()
    def open_ones_agree(self) -> None:
        assert {i.id: i.version for i in self.engine.incidents()} == {i.id: i.version for i in self.open.values()}


TestCourses = CourseMachine.TestCase
TestCourses.settings = settings(max_examples=300 if CI else 30, stateful_step_count=25, deadline=None)
