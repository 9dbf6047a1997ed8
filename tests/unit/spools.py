"""A spool with the fewest words around it, for the tests of spool and shipper."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from agent.config.schema import SpoolConfig
from agent.config.units import Duration, Percent, Size
from agent.model import Incident, Metric, ProbeResult, Severity, Transition, TransitionKind
from agent.transport.spool import Item, Priority, Spool
from agent.transport.wire import GapEnvelope, IncidentEnvelope, MetricsEnvelope, Topic, decode
from tests.fakes.clock import ManualClock

HOST = "web-1"
EPOCH = "a" * 32
LATER = "b" * 32
MIB = 1024 * 1024


def config(max_bytes: int = 64 * MIB, max_age: float = 72 * 3600, min_free: float = 0) -> SpoolConfig:
    return SpoolConfig(max_bytes=Size(max_bytes), max_age=Duration(max_age), min_free_disk=Percent(min_free))


class Bench:
    """A spool with the fewest words around it."""

    def __init__(self, directory: Path, clock: ManualClock, settings: SpoolConfig) -> None:
        self.directory = directory
        self.clock = clock
        self.settings = settings
        self.spool: Spool

    async def open(self, epoch: str = EPOCH) -> Spool:
        self.epoch = epoch
        self.spool = await Spool.open(self.directory, self.settings, epoch, self.clock)
        return self.spool

    def sample(self, size: int = 10) -> int:
        now = self.clock.now()
        result = ProbeResult("p", now, "ok", 0.1, (Metric("p.x", 1.0, labels={"pad": "x" * size}),))
        return self.spool.put(
            Topic(HOST, "metrics", "p"),
            lambda seq: MetricsEnvelope.of(HOST, self.epoch, seq, result),
            priority=Priority.METRICS,
            time=now,
        )

    def incident(self, name: str = "i1", *, version: int = 1, resolved: bool = False, size: int = 0) -> int:
        now = self.clock.now()
        incident = Incident(
            id=name,
            host=HOST,
            threshold="t",
            metric="m",
            severity=Severity.WARNING,
            peak=Severity.WARNING,
            started_at=now,
            fired_at=now,
            updated_at=now,
            version=version,
            state="resolved" if resolved else "open",
            summary="s" * size,
        )
        kind = TransitionKind.RESOLVED if resolved else TransitionKind.OPENED
        transition = Transition(name, version, kind, Severity.WARNING, now)
        return self.spool.put(
            Topic(HOST, "incidents", name),
            lambda seq: IncidentEnvelope(
                schema=1, host=HOST, epoch=self.epoch, seq=seq, time=now, incident=incident, transition=transition
            ),
            priority=Priority.INCIDENT,
            time=now,
            retain=True,
        )

    async def send(self, limit: int = 10_000, backlog: int = 10_000) -> list[Item]:
        items = await self.spool.take(limit, backlog=backlog)
        for item in items:
            item.sent = True
        return items

    @property
    def file(self) -> Path:
        return self.directory / "spool.db"

    async def crash(self, into: Path) -> Bench:
        """What a kill -9 leaves on disk now, as a spool of its own; the old one is closed, its memory forgotten."""
        await asyncio.to_thread(shutil.copytree, self.directory, into)
        await self.spool.aclose()
        return Bench(into, self.clock, self.settings)


def seqs(items) -> list[int]:
    return [item.seq for item in items]


def gap_sums(items) -> dict[str, set[int]]:
    """What these gap items speak for, by epoch; fails when two speak for the same envelope or miscount."""
    told: dict[str, set[int]] = {}
    for item in items:
        if item.priority == Priority.GAP:
            gap = decode(item.payload, GapEnvelope).gap
            numbers = {n for first, last in gap.ranges for n in range(first, last + 1)}
            assert gap.count == len(numbers)
            assert not told.setdefault(gap.epoch, set()) & numbers
            told[gap.epoch] |= numbers
    return told
