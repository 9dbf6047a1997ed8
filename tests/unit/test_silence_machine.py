"""Silences among breaches, time, acknowledgements and restarts: nothing is lost, and what may be told is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.alerting.engine import Engine
from agent.alerting.outbox import Outbox
from agent.alerting.state import State
from agent.config.schema import ThresholdConfig
from agent.config.units import Quantity
from agent.model import Incident, Metric, ProbeResult, Severity, Transition, TransitionKind
from tests.fakes.clock import ManualClock, settle
from tests.services import CI
from tests.unit.test_alert_machine import MOUNTS, Channel, disk

RULES = [
    ThresholdConfig("Disk", "disk.used_percent", warning=Quantity(80), critical=Quantity(90), flapping=False),
    ThresholdConfig("Full", "disk.used_percent", critical=Quantity(90), flapping=False),
]
BOUNDS = {"Disk": 80.0, "Full": 90.0}
MATCHES: dict[str, Callable[[Incident], bool]] = {
    "*": lambda _: True,
    "Disk": lambda incident: incident.threshold == "Disk",
    "mount=/var": lambda incident: incident.labels["mount"] == "/var",
    "threshold=Full,mount=/": lambda incident: (incident.threshold, incident.labels["mount"]) == ("Full", "/"),
}


@dataclass
class Hush:
    """What the model knows of a silence."""

    covers: Callable[[Incident], bool]
    until: float


@dataclass
class Model:
    values: dict[str, float] = field(default_factory=dict)
    open: dict[str, Incident] = field(default_factory=dict)
    every: dict[str, Incident] = field(default_factory=dict)
    free: set[str] = field(default_factory=set)
    """Incidents that at some time were open and not muted."""
    silences: dict[str, Hush] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def muted(self, incident: Incident, now: float) -> bool:
        return any(now < hush.until and hush.covers(incident) for hush in self.silences.values())


class SilenceMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.channel = Channel(self.clock)
        self.state = State(None)
        self.model = Model()

    @initialize()
    def begin(self) -> None:
        self.loop.run_until_complete(self.start())

    async def start(self) -> None:
        self.engine = Engine(self.state, "web-1", self.clock)
        self.engine.start(RULES)
        self.outbox = Outbox(self.state, self.channel, self.clock, storm_after=1000)
        self.worker = asyncio.create_task(self.outbox.run())
        await settle()

    async def end(self) -> None:
        self.worker.cancel()
        await asyncio.gather(self.worker, return_exceptions=True)

    def pass_time(self, seconds: float) -> None:
        """And look at once whether a silence is over, as the daemon does every second."""
        self.loop.run_until_complete(self.clock.advance(seconds))
        self.take(self.engine.tick())

    def take(self, pairs: list[tuple[Incident, Transition]]) -> None:
        model = self.model
        for incident, transition in pairs:
            before = model.every.get(incident.id)
            assert incident.version == transition.version == (1 if before is None else before.version + 1)
            assert (before is None) is (transition.kind is TransitionKind.OPENED)
            assert before is None or before.state == "open"
            if transition.kind in (TransitionKind.MUTED, TransitionKind.UNMUTED):
                assert before is not None
                assert incident.muted != before.muted
                assert bool(incident.muted) is (transition.kind is TransitionKind.MUTED)
            model.every[incident.id] = incident
            if incident.state == "open":
                model.open[incident.id] = incident
            else:
                del model.open[incident.id]
            if not incident.muted:
                model.free.add(incident.id)
            self.outbox.desire(incident)

    # -- what happens

    @rule(value=st.sampled_from([10.0, 85.0, 95.0]), mount=st.sampled_from(MOUNTS))
    def result(self, value: float, mount: str) -> None:
        """A breach, a rise or calm."""
        self.pass_time(10)
        self.model.values[mount] = value
        metrics: tuple[Metric, ...] = (disk(value, mount),)
        self.take(self.engine.observe(ProbeResult("disk", self.clock.now(), "ok", 0.001, metrics), 10.0))

    @rule(match=st.sampled_from(sorted(MATCHES)), seconds=st.sampled_from([5.0, 60.0, 3600.0]))
    def silence(self, match: str, seconds: float) -> None:
        self.hush(match, MATCHES[match], seconds)

    @precondition(lambda self: self.model.open)
    @rule(data=st.data())
    def silence_one(self, data: st.DataObject) -> None:
        wanted = data.draw(st.sampled_from(sorted(self.model.open)))
        self.hush(wanted, lambda incident: incident.id == wanted, 60.0)

    def hush(self, match: str, covers: Callable[[Incident], bool], seconds: float) -> None:
        silence, pairs = self.engine.silence(match, seconds, "ada", "why not")
        self.model.silences[silence.id] = Hush(covers, self.clock.now() + seconds)
        self.take(pairs)

    @precondition(lambda self: self.engine.silences())
    @rule(data=st.data())
    def unsilence(self, data: st.DataObject) -> None:
        silence = data.draw(st.sampled_from([silence.id for silence in self.engine.silences()]))
        del self.model.silences[silence]
        self.take(self.engine.unsilence(silence, "bob"))

    @precondition(lambda self: self.model.open)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        wanted = data.draw(st.sampled_from(sorted(self.model.open)))
        pairs = self.engine.acknowledge(wanted, "ada")
        assert [t.kind for _, t in pairs] == [TransitionKind.ACKNOWLEDGED] * (wanted not in self.model.taken)
        self.model.taken.add(wanted)
        self.take(pairs)

    @rule(seconds=st.sampled_from([1.0, 10.0, 61.0, 3601.0]))
    def time_passes(self, seconds: float) -> None:
        self.pass_time(seconds)

    @rule()
    def restart(self) -> None:
        """As after kill -9: only the state is left."""
        self.loop.run_until_complete(self.end())
        self.begin()
        self.take(self.engine.tick())

    # -- what must be so

    @rule()
    def look(self) -> None:
        """When all is told, each incident that may be told has one message that is true, and no other has any."""
        self.loop.run_until_complete(self.clock.advance(120))
        messages = [said for said in self.channel.messages.values() if said["own"]]
        shown = {said["incident"]: said["version"] for said in messages}
        assert len(shown) == len(messages), "an incident with two messages"
        assert set(shown) <= self.model.free, "told in spite of a silence"
        assert {each.id for each in self.model.open.values() if not each.muted} <= set(shown), "not told"
        assert shown == {told: self.model.every[told].version for told in shown}
        self.take(self.engine.tick())

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "engine"):
            return
        opened = {incident.id: incident for incident in self.engine.incidents()}
        assert opened == self.model.open
        assert sorted((i.threshold, i.labels["mount"]) for i in opened.values()) == sorted(
            (name, mount)
            for name, bound in BOUNDS.items()
            for mount, value in self.model.values.items()
            if value > bound
        )
        for incident in opened.values():
            wanted = Severity.CRITICAL if self.model.values[incident.labels["mount"]] > 90 else Severity.WARNING
            assert incident.severity is wanted
            assert bool(incident.muted) is self.model.muted(incident, self.clock.now())
            assert bool(incident.acknowledged_by) is (incident.id in self.model.taken)
        assert self.channel.complaints == []

    @invariant()
    def the_silences_are_those_asked_for(self) -> None:
        now = self.clock.now()
        if hasattr(self, "engine"):
            held = {silence for silence, hush in self.model.silences.items() if now < hush.until}
            assert {silence.id for silence in self.engine.silences()} == held

    def teardown(self) -> None:
        if hasattr(self, "worker"):
            self.look()
            self.loop.run_until_complete(self.end())
        self.loop.close()


TestSilences = SilenceMachine.TestCase
TestSilences.settings = settings(max_examples=500 if CI else 60, stateful_step_count=30, deadline=None)
