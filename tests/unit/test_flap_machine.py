"""The engine with flapping on against a model that knows it, whatever comes in between."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from agent.alerting.flapping import STILL, Flaps, follow
from agent.model import Incident, Severity, Transition, TransitionKind
from tests.services import CI
from tests.unit.test_alert_machine import MOUNTS, EngineMachine, disk

RULES = ("plain", "clear", "slow")


class FlapMachine(EngineMachine):
    """As its base, and: one incident for as long as a series flaps, which does not fall or end before it is steady."""

    flapping = True

    def __init__(self) -> None:
        super().__init__()
        self.flaps = dict.fromkeys(MOUNTS, STILL)
        """Of the rule whose severity follows from the last value alone."""

    def take(self, pairs: list[tuple[Incident, Transition]], twins: list[tuple[Incident, Transition]]) -> None:
        for incident, transition in pairs:
            before = self.open.get((incident.threshold, incident.labels.get("mount", ""), incident.op == "absent"))
            flapped = before is not None and before.flapping
            match transition.kind:
                case TransitionKind.FLAPPING:
                    assert not flapped
                    assert incident.flapping
                case TransitionKind.STEADY:
                    assert flapped
                    assert not incident.flapping
                case TransitionKind.ESCALATED:
                    assert incident.flapping is flapped
                case TransitionKind.OPENED:
                    assert not incident.flapping
                case _:
                    assert not flapped or transition.note == "threshold changed", "it moved while it flapped"
            super().take([(incident, transition)], [])
        assert self.meanings(pairs) == self.meanings(twins), "a restart has changed something"

    def compare(self, pairs: list[tuple[Incident, Transition]], twins: list[tuple[Incident, Transition]]) -> None:
        """Done for all of them at once."""

    @rule(values=st.lists(st.sampled_from([10.0, 85.0, 95.0, math.nan]), min_size=2, max_size=2))
    def results(self, values: list[float]) -> None:
        at = self.clock.monotonic() + 10
        self.result(*(disk(value, mount) for mount, value in zip(MOUNTS, values, strict=True)))
        for mount, value in zip(MOUNTS, values, strict=True):
            if not math.isnan(value):
                self.check(mount, value, at)

    def check(self, mount: str, value: float, at: float) -> None:
        present = Severity.CRITICAL if value > 90 else Severity.WARNING if value > self.bound else Severity.OK
        flaps = self.flaps[mount] = follow(self.flaps[mount], present, at)
        incident = self.open.get(("plain", mount, False))
        if not flaps.on:
            assert (Severity.OK if incident is None else incident.severity) is present
            assert incident is None or not incident.flapping
        else:
            assert incident is not None
            assert incident.flapping
            assert incident.severity.rank >= present.rank

    @rule(mount=st.sampled_from(MOUNTS))
    def one_result(self, mount: str) -> None:
        super().one_result(mount)
        self.check(mount, 85.0, self.clock.monotonic())

    @rule(mount=st.sampled_from(MOUNTS), times=st.integers(2, 12))
    def to_and_fro(self, mount: str, times: int) -> None:
        for index in range(times):
            value = 85.0 if index % 2 else 10.0
            self.result(disk(value, mount))
            self.check(mount, value, self.clock.monotonic())

    @rule(mount=st.sampled_from(MOUNTS), value=st.sampled_from([10.0, 85.0]))
    def steady(self, mount: str, value: float) -> None:
        """After 21 results that are the same nothing flaps."""
        for _ in range(21):
            self.result(disk(value, mount))
            self.check(mount, value, self.clock.monotonic())
        assert self.flaps[mount] in (STILL, Flaps((2,) * 21, at=self.flaps[mount].at))
        for name in RULES:
            incident = self.open.get((name, mount, False))
            assert (incident is None) is (value == 10.0)
            assert incident is None or not incident.flapping

    @rule(bound=st.sampled_from([80, 78]))
    def reload(self, bound: int) -> None:
        if bound != self.bound:
            self.flaps = dict.fromkeys(MOUNTS, STILL)
        super().reload(bound)


TestFlapping = FlapMachine.TestCase
TestFlapping.settings = settings(max_examples=400 if CI else 60, stateful_step_count=40, deadline=None)
