"""Envelopes as the store gets them, and a store to put them into."""

from __future__ import annotations

import dataclasses
from typing import Any

from sqlalchemy import text

from agent.collector.store import Received, Store
from agent.config.schema import RetentionConfig
from agent.model import Incident, Metric, Severity, Transition, TransitionKind
from agent.transport import wire
from tests.fakes.clock import ManualClock

EPOCH = "0123456789abcdef" * 2
OTHER = "f" * 32
T0 = 1_790_000_040.0  # the start of a minute
DAY = 86400.0
KEPT = RetentionConfig()


def received(envelope: wire.AnyEnvelope, channel: str = "metrics", item: str = "cpu") -> Received:
    payload = wire.encode(envelope)
    return Received(wire.Topic(envelope.host, channel, item), envelope, payload, wire.fingerprint(payload))


def sample(seq: int, *metrics: Metric, host: str = "web-1", time: float = T0, **more: Any) -> Received:
    values = {"schema": 1, "epoch": EPOCH, "probe": "cpu", "status": "ok", "duration": 0.1} | more
    return received(wire.MetricsEnvelope(host=host, seq=seq, time=time, metrics=metrics, **values))


def incident(version: int = 1, *, host: str = "web-1", seq: int = 1, **more: Any) -> Received:
    values: dict[str, Any] = {
        "id": "i-1",
        "threshold": "cpu-busy",
        "metric": "cpu.used_percent",
        "severity": Severity.WARNING,
        "peak": Severity.WARNING,
        "started_at": T0,
        "fired_at": T0,
        "updated_at": T0 + version,
    } | more
    what = Incident(host=host, version=version, labels={"core": "0"}, value=91.5, limit=90.0, op=">", **values)
    kind = TransitionKind.OPENED if version == 1 else TransitionKind.ESCALATED
    step = Transition(what.id, version, kind, what.severity, T0 + version, what.value)
    envelope = wire.IncidentEnvelope(schema=1, host=host, epoch=EPOCH, seq=seq, time=T0, incident=what, transition=step)
    return received(envelope, "incidents", what.id)


@dataclasses.dataclass
class Opened:
    url: str
    store: Store
    clock: ManualClock

    async def all(self, query: str) -> list[tuple[Any, ...]]:
        async with self.store._engine.connect() as connection:
            return [tuple(row) for row in await connection.execute(text(query))]

    async def run(self, statement: str) -> None:
        async with self.store._engine.begin() as connection:
            await connection.execute(text(statement))


async def every_incident(db: Opened) -> list[Any]:
    return (await db.store.reader.incidents(limit=1000))[0]


async def roll(db: Opened, seconds: float = 60.0) -> None:
    """A while later everything that came is rolled up."""
    db.clock.tick(seconds)
    while await db.store.roll_minutes(db.clock.now(), KEPT.samples):
        pass
    while await db.store.roll_hours(db.clock.now(), KEPT.minutes):
        pass
