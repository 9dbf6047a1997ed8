"""What the daemon knows beyond the present value: joins witness, inquiry and picture."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from agent.alerting.memory import Pair
from agent.clock import Clock
from agent.config.schema import ThresholdConfig
from agent.daemon.inquiry import Inquiry, Tell
from agent.daemon.witness import Witness
from agent.model import Evidence, Incident, Labels
from agent.probing.scheduler import Scheduler
from agent.slack import picture


class Insight:
    """`observe` every result before it is judged, `consider` what came of it; `run` looks into it."""

    def __init__(self, thresholds: Iterable[ThresholdConfig], scheduler: Scheduler, clock: Clock, tell: Tell) -> None:
        """`tell` is handed what was found out after an incident was told, with the incident's id."""
        self.witness = Witness(clock, thresholds)
        self.observe = self.witness.observe
        self.reload = self.witness.reload
        self._scheduler = scheduler
        self._clock = clock
        self._inquiry = Inquiry(self._ask, tell)

    def consider(self, pairs: list[Pair]) -> None:
        self._inquiry.consider(pairs)

    async def run(self) -> None:
        await self._inquiry.run()

    async def draw(self, incident: Incident) -> bytes:
        """The hour until now; or the one that the incident carries, where nothing newer is known."""
        if history := self.witness.history(incident.metric, incident.labels):
            incident = replace(incident, history=history, fired_at=self._clock.now())
        return await picture.draw(incident)

    async def _ask(self, metric: str, labels: Labels) -> tuple[Evidence, ...]:
        probe = self.witness.probe(metric, labels)
        return await self._scheduler.evidence(probe, metric, labels) if probe else ()
