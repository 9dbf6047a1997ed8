"""State machines: the engine against a simple model, and the outbox against a Slack that fails at will."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.alerting.bulletin import is_bulletin
from agent.alerting.engine import Engine
from agent.alerting.messenger import Posted
from agent.alerting.outbox import Outbox
from agent.alerting.state import State
from agent.config.schema import ThresholdConfig
from agent.config.units import Duration, Quantity
from agent.errors import (
    AmbiguousError,
    AnewError,
    DeliveryError,
    RetryError,
    TokenError,
)
from agent.model import Incident, Metric, ProbeResult, Severity, Transition, TransitionKind
from tests.fakes.clock import ManualClock, settle
from tests.services import CI

MOUNTS = ("/", "/var")


def thresholds(bound: int = 80, *, flapping: bool = False) -> list[ThresholdConfig]:
    keys: dict[str, Any] = {"metric": "disk.used_percent", "warning": Quantity(bound), "critical": Quantity(90)}
    keys["flapping"] = flapping
    return [
        ThresholdConfig(name="plain", **keys),
        ThresholdConfig(name="clear", clear=Quantity(70), absent_for=Duration(60), **keys),
        ThresholdConfig(name="slow", hold=Duration(20), of="2 of 3", **keys),
    ]


def disk(used: float, mount: str) -> Metric:
    return Metric("disk.used_percent", used, "percent", "gauge", {"mount": mount})


def meaning(incident: Incident, transition: Transition) -> tuple[Any, ...]:
    """A pair without what differs from one engine to the next."""
    life = (incident.threshold, incident.labels, incident.started_at, incident.peak, incident.version)
    return (*life, transition.kind, transition.severity, transition.value, transition.note)


class EngineMachine(RuleBasedStateMachine):
    """Results, silence, reloads and restarts in any order: per rule, series and kind one life after another.

    A twin that is never restarted sees the same; what the two say about values is the same.
    """

    flapping = False

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.state = State(None)
        self.bound = 80
        self.engine = Engine(self.state, "web-1", self.clock)
        self.engine.start(self.wanted)
        self.twin = Engine(State(None), "web-1", self.clock)
        self.twin.start(self.wanted)
        self.open: dict[tuple[str, str, bool], Incident] = {}
        self.told: list[tuple[Incident, Transition]] = []

    @property
    def wanted(self) -> list[ThresholdConfig]:
        return thresholds(self.bound, flapping=self.flapping)

    def result(self, *metrics: Metric) -> None:
        self.clock.tick(10)
        result = ProbeResult("disk", self.clock.now(), "ok", 0.001, metrics)
        interval = 1000.0  # so slow that no silence here breaks a breach, whose length a restart knows less exactly
        self.take(self.engine.observe(result, interval), self.twin.observe(result, interval))

    def take(self, pairs: list[tuple[Incident, Transition]], twins: list[tuple[Incident, Transition]]) -> None:
        self.compare(pairs, twins)
        for incident, transition in pairs:
            key = (incident.threshold, incident.labels.get("mount", ""), incident.op == "absent")
            before = self.open.get(key)
            if transition.kind is TransitionKind.OPENED:
                assert before is None, "a second one opened without resolved between"
                assert incident.version == 1
            else:
                assert before is not None
                assert before.id == incident.id
                assert incident.version == before.version + 1
            if transition.kind is TransitionKind.RESOLVED:
                del self.open[key]
            else:
                self.open[key] = incident
            self.told.append((incident, transition))

    def compare(self, pairs: list[tuple[Incident, Transition]], twins: list[tuple[Incident, Transition]]) -> None:
        assert self.meanings(pairs) == self.meanings(twins), "a restart has changed something"

    @staticmethod
    def meanings(pairs: list[tuple[Incident, Transition]]) -> list[tuple[Any, ...]]:
        return [meaning(*pair) for pair in pairs if pair[0].op != "absent"]

    @rule(values=st.lists(st.sampled_from([10.0, 75.0, 85.0, 95.0, float("nan")]), min_size=2, max_size=2))
    def results(self, values: list[float]) -> None:
        self.result(*(disk(value, mount) for mount, value in zip(MOUNTS, values, strict=True)))
        for mount, value in zip(MOUNTS, values, strict=True):
            if value > self.bound:
                assert ("plain", mount, False) in self.open
            elif value <= self.bound:
                assert ("plain", mount, False) not in self.open
            if value == 10.0:
                assert ("clear", mount, False) not in self.open

    @rule(mount=st.sampled_from(MOUNTS))
    def one_result(self, mount: str) -> None:
        self.result(disk(85.0, mount))

    @rule(seconds=st.sampled_from([1, 30, 61]))
    def silence(self, seconds: int) -> None:
        """No data ends nothing."""
        before = {key for key in self.open if not key[2]}
        self.clock.tick(seconds)
        self.take(self.engine.tick(), self.twin.tick())
        assert before <= set(self.open)

    @rule(bound=st.sampled_from([80, 78]))
    def reload(self, bound: int) -> None:
        self.bound = bound
        self.take(self.engine.reload(self.wanted), self.twin.reload(self.wanted))

    @rule()
    def restart(self) -> None:
        """As after kill -9: only the state is left."""
        self.engine = Engine(self.state, "web-1", self.clock)
        self.engine.start(self.wanted)

    @rule()
    def ship(self) -> None:
        """Everything told is there to be shipped, once, in order of its versions."""
        waiting = self.engine.unshipped()
        assert sorted((t.incident, t.version) for _, t in waiting) == sorted(
            (t.incident, t.version) for _, t in self.told
        )
        for incident, transition in waiting:
            self.engine.mark_shipped(incident.id, transition.version)
        self.told = []
        assert self.engine.unshipped() == []

    @invariant()
    def open_ones_agree(self) -> None:
        assert {i.id: i.version for i in self.engine.incidents()} == {i.id: i.version for i in self.open.values()}


TestEngine = EngineMachine.TestCase
TestEngine.settings = settings(max_examples=700 if CI else 100, stateful_step_count=40, deadline=None)


class Channel:
    """A messenger in memory: what people see, the failures that the next calls meet, and complaints.

    A failure is the error, whether the call takes effect all the same, and how many seconds it takes.
    """

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.messages: dict[str, dict[str, Any]] = {}
        self.failures: list[tuple[DeliveryError, bool, float]] = []
        self.quiet: dict[str, float] = {}
        self.numbers = itertools.count(1)
        self.posted_at = float("-inf")
        self.complaints: list[str] = []

    async def meet(self, method: str, effect: Callable[[], None]) -> None:
        now = self.clock.monotonic()
        self.object(now < self.quiet.get(method, 0.0), "a call inside a Retry-After window")
        if not self.failures:
            effect()
            return
        error, applied, delay = self.failures.pop(0)
        if isinstance(error, RetryError) and error.after is not None:
            self.quiet[method] = now + error.after
        if applied:
            effect()
        if delay:
            await self.clock.sleep(delay)
        raise error

    def object(self, fault: bool, complaint: str) -> None:
        if fault:
            self.complaints.append(complaint)

    async def post(
        self,
        incident: Incident,
        transition: Transition | None,
        channel: str,
        thread_ts: str | None,
        nonce: str,
        *,
        mention: str = "",
        small: bool = False,
    ) -> Posted:
        now = self.clock.monotonic()
        self.object(now - self.posted_at < 1, "two posts within a second")
        self.posted_at = now
        ts = str(next(self.numbers))
        own = transition is None and not is_bulletin(incident)
        said = {"incident": incident.id, "version": incident.version, "nonce": nonce, "thread": thread_ts, "own": own}
        if transition is not None:
            own_messages = (
                other for other in self.messages.values() if other["incident"] == incident.id and other["own"]
            )
            parent = next(own_messages, {"first": 0})
            self.object(transition.version <= parent["first"], "a thread is told what its message began with")
        await self.meet("post", lambda: self.messages.update({ts: {**said, "first": incident.version}}))
        return Posted("C1", ts)

    async def edit(self, incident: Incident, channel: str, ts: str, *, mention: str = "", small: bool = False) -> None:
        gone = ts not in self.messages
        await self.meet("edit", lambda: None if gone else self.messages[ts].update(version=incident.version))
        if gone:
            raise AnewError("message_not_found")

    async def find(
        self, channel: str, nonce: str, since: float, thread_ts: str | None = None, *, at: str = ""
    ) -> Posted | None:
        await self.meet("find", lambda: None)
        for ts, said in self.messages.items():
            if said["nonce"] == nonce and said["thread"] == thread_ts:
                return Posted("C1", ts)
        return None


FAILURES = st.sampled_from(
    [
        (RetryError("ratelimited", after=3), False, 0),
        (RetryError("unreachable"), False, 0),
        (AmbiguousError("timeout"), False, 10),
        (AmbiguousError("timeout"), True, 10),
        (TokenError("invalid_auth"), False, 0),
        (DeliveryError("never_heard_of"), False, 0),
    ]
)


class OutboxMachine(RuleBasedStateMachine):
    """Whatever fails and whenever it is restarted: when faults stop, what is shown is what is so, once."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.channel = Channel(self.clock)
        self.state = State(None)
        self.incidents: list[Incident] = []
        self.removed: set[str] = set()

    def play(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    @initialize()
    def begin(self) -> None:
        self.play(self.start())

    async def start(self) -> None:
        self.outbox = Outbox(self.state, self.channel, self.clock)
        self.worker = asyncio.create_task(self.outbox.run())
        await settle()

    async def end(self) -> None:
        self.worker.cancel()
        await asyncio.gather(self.worker, return_exceptions=True)

    @rule(severity=st.sampled_from([Severity.WARNING, Severity.CRITICAL]))
    def opened(self, severity: Severity) -> None:
        number, now = len(self.incidents), self.clock.now()
        incident = Incident(
            f"inc_{number:04d}", "web-1", "Disk", "disk.used_percent", severity, severity, now, now, now, 1
        )
        self.incidents.append(incident)
        self.play(self.desire(incident))

    @precondition(lambda self: self.incidents)
    @rule(data=st.data(), severity=st.sampled_from([Severity.WARNING, Severity.CRITICAL, None]))
    def moved(self, data: st.DataObject, severity: Severity | None) -> None:
        index = data.draw(st.integers(0, len(self.incidents) - 1))
        incident = self.incidents[index]
        if incident.state == "resolved" or severity is incident.severity:
            return
        changes: dict[str, Any] = {"version": incident.version + 1, "updated_at": self.clock.now()}
        changes |= (
            {"state": "resolved", "resolved_at": self.clock.now()} if severity is None else {"severity": severity}
        )
        self.incidents[index] = msgspec.structs.replace(incident, **changes)
        self.play(self.desire(self.incidents[index]))

    async def desire(self, incident: Incident) -> None:
        self.outbox.desire(incident)
        await settle()

    @rule(failures=st.lists(FAILURES, min_size=1, max_size=4))
    def fails(self, failures: list[tuple[DeliveryError, bool, float]]) -> None:
        self.channel.failures += failures

    @precondition(lambda self: self.channel.messages)
    @rule(data=st.data())
    def deleted(self, data: st.DataObject) -> None:
        """Somebody deletes a message; an edit to come finds it gone."""
        parents = [ts for ts, said in self.channel.messages.items() if said["own"]]
        if not parents:
            return
        ts = data.draw(st.sampled_from(parents))
        incident = next(i for i in self.incidents if i.id == self.channel.messages[ts]["incident"])
        if incident.state == "open" and all(said["thread"] != ts for said in self.channel.messages.values()):
            row = next(row for row in self.outbox.shown() if row.incident == incident.id)
            if row.state == "delivered":
                del self.channel.messages[ts]
                self.removed.add(incident.id)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.play(self.clock.advance(seconds))

    @rule()
    def restart(self) -> None:
        async def again() -> None:
            await self.end()
            await self.start()

        self.play(again())

    @rule(applied=st.booleans())
    def killed_while_posting(self, applied: bool) -> None:
        """A call hangs, done or not, and the process dies before it knows."""
        self.channel.failures.insert(0, (AmbiguousError("timeout"), applied, 10))
        self.opened(Severity.CRITICAL)
        self.restart()

    @rule()
    def calm(self) -> None:
        """When faults stop, within a bounded time everything desired is shown exactly once."""
        self.channel.failures.clear()
        self.play(self.clock.advance(1500))
        parents = [said for said in self.channel.messages.values() if said["own"]]
        shown = {said["incident"]: said["version"] for said in parents}
        states = {row.incident: row.state for row in self.outbox.shown()}
        for incident in self.incidents:
            assert states[incident.id] in ("delivered", "untold")
            if states[incident.id] == "untold":
                assert incident.state == "resolved"
                assert incident.id not in shown
            elif incident.id not in self.removed:
                assert shown[incident.id] == incident.version
        assert len(shown) == len(parents), "an incident with two messages"
        nonces = [said["nonce"] for said in self.channel.messages.values()]
        assert len(nonces) == len(set(nonces)), "something said twice"

    @invariant()
    def nothing_to_complain_about(self) -> None:
        assert self.channel.complaints == []

    def teardown(self) -> None:
        if hasattr(self, "outbox"):
            self.calm()
            self.play(self.end())
        self.loop.close()


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = settings(max_examples=700 if CI else 100, stateful_step_count=30, deadline=None)
