"""A state machine: storms, while a host and a collector take the writing from each other, and one is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from agent.alerting.bulletin import is_bulletin
from agent.alerting.messenger import Posted
from agent.alerting.outbox import Outbox
from agent.alerting.state import State
from agent.errors import AmbiguousError
from agent.model import Incident, Severity, Transition
from tests.fakes.clock import ManualClock, settle
from tests.services import CI
from tests.unit.test_alert_machine import FAILURES, Channel

REPORT_EVERY = 0.3


class Thread(Channel):
    """Remembers what each message says."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.says: dict[str, Incident] = {}

    async def post(self, incident: Incident, transition: Transition | None, *rest: Any, **keys: Any) -> Posted:
        posted = await super().post(incident, transition, *rest, **keys)
        self.says[posted.ts] = incident
        return posted

    async def edit(self, incident: Incident, channel: str, ts: str, **keys: Any) -> None:
        await super().edit(incident, channel, ts, **keys)
        self.says[ts] = incident


class StormMachine(RuleBasedStateMachine):
    """Whoever writes and whoever dies: each incident is told once, and a storm says "over" when all of it is."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.channel = Thread(self.clock)
        self.incidents: list[Incident] = []
        self.states = {"host": State(None), "collector": State(None)}
        self.workers: dict[str, asyncio.Task[None]] = {}
        self.collects = False

    def play(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    @initialize(collects=st.booleans())
    def begin(self, collects: bool) -> None:
        async def both() -> None:
            self.host, self.collector = self.start("host"), self.start("collector")
            await settle()

        self.play(both())
        if collects:
            self.hands_over()

    def start(self, name: str) -> Outbox:
        may = (lambda row: is_bulletin(row.incident) or self.collects) if name == "collector" else None
        outbox = Outbox(self.states[name], self.channel, self.clock, storm_after=3, may=may)
        self.workers[name] = asyncio.create_task(outbox.run())
        return outbox

    async def show(self, incident: Incident) -> None:
        self.host.desire(incident)
        if self.collects:
            self.collector.desire(incident)
        await settle()

    @rule(number=st.integers(1, 8))
    def opened(self, number: int) -> None:
        for _ in range(number):
            name, now, warning = f"inc_{len(self.incidents):04d}", self.clock.now(), Severity.WARNING
            incident = Incident(name, "web-1", "Disk", "disk.used_percent", warning, warning, now, now, now, 1)
            self.incidents.append(incident)
            self.play(self.show(incident))

    @precondition(lambda self: self.incidents)
    @rule(data=st.data(), number=st.integers(1, 8))
    def resolved(self, data: st.DataObject, number: int) -> None:
        for _ in range(number):
            self.end(data.draw(st.integers(0, len(self.incidents) - 1)))

    def end(self, index: int) -> None:
        incident, now = self.incidents[index], self.clock.now()
        if incident.state == "open":
            changes: dict[str, Any] = {"version": 2, "updated_at": now, "state": "resolved", "resolved_at": now}
            self.incidents[index] = msgspec.structs.replace(incident, **changes)
            self.play(self.show(self.incidents[index]))

    @rule(seconds=st.sampled_from([0.3, 1.2, 6.0, 15.0]))
    def time_passes(self, seconds: float) -> None:
        """The collector tells the host of what it does, as soon as it does."""
        for _ in range(round(seconds / REPORT_EVERY) if self.collects else 1):
            self.play(self.clock.advance(REPORT_EVERY if self.collects else seconds))
            self.report()

    def report(self) -> None:
        if self.collects:
            self.host.adopt(self.collector.shown())

    @precondition(lambda self: not self.collects)
    @rule()
    def hands_over(self) -> None:
        async def handed() -> None:
            holding = asyncio.create_task(self.host.hold())
            await self.clock.advance(15)
            await holding
            slips = {slip.incident: slip for slip in self.host.shown()}
            self.collector.drop(lambda row: not is_bulletin(row.incident) and row.id not in slips)
            self.collector.adopt(slips.values())
            self.collects = True
            for incident in self.incidents:
                if incident.id in slips:
                    self.collector.desire(incident, told=slips[incident.id])
            await settle()

        self.play(handed())

    @precondition(lambda self: self.collects)
    @rule(last_word=st.booleans())
    def takes_back(self, last_word: bool) -> None:
        """The collector lives, but can no longer write; its call ends first."""

        async def taken() -> None:
            self.collects = False
            await self.clock.advance(15)
            if last_word:
                self.host.adopt(self.collector.shown())
            self.collector.release(lambda row: not is_bulletin(row.incident))
            self.host.doubt()
            self.host.resume(gently=True)
            await settle()

        self.play(taken())

    @precondition(lambda self: self.collects)
    @rule(waits=st.booleans())
    def killed(self, waits: bool) -> None:
        """The collector dies, perhaps with a child in the wires; the host waits for it, or takes over."""

        async def again() -> None:
            self.workers["collector"].cancel()
            await asyncio.gather(self.workers["collector"], return_exceptions=True)
            self.collects = False
            self.collector = self.start("collector")
            self.collector.release(lambda row: not is_bulletin(row.incident))
            self.host.doubt()
            if not waits:
                self.host.resume(gently=True)
            await settle()

        self.play(again())
        if waits:
            self.hands_over()

    @rule(failures=st.lists(FAILURES, min_size=1, max_size=3))
    def fails(self, failures: list[Any]) -> None:
        self.channel.failures += failures

    @rule()
    def hangs(self) -> None:
        """A call takes effect, and its answer is lost."""
        self.channel.failures.insert(0, (AmbiguousError("timeout"), True, 10))

    @rule()
    def calm(self) -> None:
        self.channel.failures.clear()
        if not self.collects:
            self.hands_over()
        self.play(self.clock.advance(1500))
        self.report()
        posted = [said for said in self.channel.messages.values() if said["own"]]
        shown = {said["incident"]: said["version"] for said in posted}
        untold = {slip.incident for slip in self.collector.shown() if slip.state == "untold"}
        for incident in self.incidents:
            assert incident.state == "resolved" if incident.id in untold else shown[incident.id] == incident.version
        nonces = [said["nonce"] for said in self.channel.messages.values()]
        assert len(nonces) == len(set(nonces)), "something said twice"
        assert len(shown) == len(posted), "an incident with two messages"
        for storm in (said for said in self.channel.says.values() if said.metric == "storm"):
            self.judge(storm)

    def judge(self, storm: Incident) -> None:
        rows = [*self.host._rows.values(), *self.collector._rows.values()]
        still = {row.id for row in rows if row.bulletin == storm.id}
        still &= {incident.id for incident in self.incidents if incident.state == "open"}
        assert (storm.state == "open") == bool(still), storm.summary
        if still:
            assert f"{len(still)} warning open" in storm.summary

    def teardown(self) -> None:
        if hasattr(self, "host"):
            self.calm()
            for index in range(len(self.incidents)):
                self.end(index)
            self.calm()

            async def stop() -> None:
                for worker in self.workers.values():
                    worker.cancel()
                await asyncio.gather(*self.workers.values(), return_exceptions=True)

            self.play(stop())
        self.loop.close()


TestStorm = StormMachine.TestCase
TestStorm.settings = settings(max_examples=200 if CI else 30, stateful_step_count=15, deadline=None)
