"""One batch, one transaction: identities, samples, incidents and gaps of many hosts, all or nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import delete, exc, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from agent.clock import Clock
from agent.collector.store.batch import Quarantined, Received, Written
from agent.collector.store.dialect import Dialect, EnvelopeRow, Row, SampleRow, is_race
from agent.collector.store.names import Names, canonical
from agent.collector.store.rows import IncidentDetails
from agent.collector.store.schema import envelopes, quarantine
from agent.errors import RefusedError, StoreError
from agent.model import Incident
from agent.transport.wire import GapEnvelope, IncidentEnvelope, MetricsEnvelope, encode

LATEST = 32_503_680_000.0
"""The year 3000, in unix seconds."""
QUARANTINE_ROWS = 10_000
QUARANTINE_PAYLOAD = 256 * 1024
RACES = 5
KEYS_PER_QUERY = 400

Key = tuple[int, str, int]
PROBE_COLUMNS = ("host_id", "probe", "time", "status", "duration", "error")
GAP_COLUMNS = ("host_id", "epoch", "count", "reason", "ranges", "first_time", "last_time", "received")
TRANSITION_COLUMNS = ("host_id", "incident", "version", "kind", "severity", "time", "value", "note")
INCIDENT_COLUMNS = (
    *("id", "host_id", "threshold", "metric", "labels", "severity", "peak", "grade", "state", "value", "peak_value"),
    *(
        "bound",
        "op",
        "unit",
        "summary",
        "runbook",
        "started_at",
        "fired_at",
        "updated_at",
        "resolved_at",
        "acknowledged_by",
        "details",
    ),
    "version",
)


class Writer:
    """Writes what envelopes bring. One at a time: `write` is not called again before it has returned."""

    def __init__(self, engine: AsyncEngine, dialect: Dialect, clock: Clock) -> None:
        self._engine = engine
        self._dialect = dialect
        self._clock = clock
        self._names = Names(engine, dialect, clock)

    async def write(self, batch: Sequence[Received]) -> Written:
        """Commits the batch. First as if all of it were new, which it mostly is; when the database finds an
        identity it has, once more after asking which.
        """
        for item in batch:
            if not 0 <= item.envelope.time < LATEST:  # no database could reckon with it
                raise RefusedError(f"{item.envelope.time:g} is no time")
        names = self._names
        await names.add_hosts({item.envelope.host for item in batch})
        await self._identify(batch)
        for attempt in range(RACES):
            try:
                async with self._engine.begin() as connection:
                    stored = await self._stored(connection, batch) if attempt else {}
                    written = self._sort(batch, stored)
                    await self._write_new(connection, written)
                    await self.quarantine_in(connection, [_conflict(item) for item in written.conflicts])
                return written
            except exc.DBAPIError as error:
                if attempt == RACES - 1 or not is_race(error):
                    raise
        raise StoreError("never reached")  # pragma: no cover

    async def _identify(self, batch: Sequence[Received]) -> None:
        items = []
        envelopes = []
        for item in batch:
            if isinstance(item.envelope, MetricsEnvelope):
                items.append(item)
                envelopes.append(item.envelope)
        for item, ids in zip(items, await self._names.series_ids(envelopes), strict=True):
            item.series = ids

    def forget(self) -> None:
        """Ask the database for all names anew: it may be another one now, or an older copy."""
        self._names.forget()

    async def quarantine(self, items: Sequence[Quarantined]) -> None:
        async with self._engine.begin() as connection:
            await self.quarantine_in(connection, items)

    async def quarantine_in(self, connection: AsyncConnection, items: Sequence[Quarantined]) -> None:
        """Keeps the newest QUARANTINE_ROWS, and of each payload at most QUARANTINE_PAYLOAD bytes."""
        if not items:
            return
        now = self._clock.now()
        for item in items[-QUARANTINE_ROWS:]:
            reason = f"{item.reason[:1000]} ({len(item.payload)} bytes)"
            row = (now, item.topic[:1000], item.payload[:QUARANTINE_PAYLOAD], reason)
            await self._dialect.quarantine(connection, row)
        newest = (await connection.execute(select(func.max(quarantine.c.id)))).scalar_one()
        await connection.execute(delete(quarantine).where(quarantine.c.id <= newest - QUARANTINE_ROWS))

    def _sort(self, batch: Sequence[Received], stored: dict[Key, bytes]) -> Written:
        written = Written([], [], [], 0)
        hosts = self._names.hosts
        seen = dict(stored)
        for item in batch:
            envelope = item.envelope
            key = (hosts[envelope.host], envelope.epoch, envelope.seq)
            fingerprint = seen.get(key)
            if fingerprint is None:
                seen[key] = item.fingerprint
                written.committed.append(item)
            elif fingerprint == item.fingerprint:
                written.duplicates.append(item)
            else:
                written.conflicts.append(item)
        return written

    async def _stored(self, connection: AsyncConnection, batch: Sequence[Received]) -> dict[Key, bytes]:
        """The fingerprints under the identities of the batch that the database has."""
        hosts = self._names.hosts
        keys = [(hosts[item.envelope.host], item.envelope.epoch, item.envelope.seq) for item in batch]
        table = envelopes.c
        identity = tuple_(table.host_id, table.epoch, table.seq)
        stored: dict[Key, bytes] = {}
        for start in range(0, len(keys), KEYS_PER_QUERY):
            query = select(table.host_id, table.epoch, table.seq, table.fingerprint).where(
                identity.in_(keys[start : start + KEYS_PER_QUERY])
            )
            for host, epoch, seq, fingerprint in await connection.execute(query):
                stored[host, epoch, seq] = bytes(fingerprint)
        return stored

    async def _write_new(self, connection: AsyncConnection, written: Written) -> None:
        rows = _Rows(self._names, self._clock.now())
        for item in written.committed:
            rows.add(item)
        written.samples = len(rows.samples)
        put = self._dialect
        await put.envelopes(connection, rows.envelopes)
        rows.samples.sort(key=_series)  # neighbours in the table; stable, so the last of two stays the last
        await put.samples(connection, rows.samples)
        probe_key = ("host_id", "probe")
        await put.upsert(connection, "probes", PROBE_COLUMNS, list(rows.probes.values()), key=probe_key, version="time")
        await put.upsert(
            connection, "incidents", INCIDENT_COLUMNS, rows.incidents, key=("id",), version="version", owner="host_id"
        )
        transition_key = ("host_id", "incident", "version")
        await put.upsert(
            connection, "transitions", TRANSITION_COLUMNS, rows.transitions, key=transition_key, keep=TRANSITION_COLUMNS
        )
        await put.insert(connection, "gaps", GAP_COLUMNS, rows.gaps)


class _Rows:
    """Envelopes taken apart into the rows of each table."""

    def __init__(self, names: Names, now: float) -> None:
        self._names = names
        self._now = now
        self.envelopes: list[EnvelopeRow] = []
        self.samples: list[SampleRow] = []
        self.probes: dict[tuple[int, str], Row] = {}
        self.incidents: list[Row] = []
        self.transitions: list[Row] = []
        self.gaps: list[Row] = []

    def add(self, item: Received) -> None:
        envelope = item.envelope
        host = self._names.hosts[envelope.host]
        self.envelopes.append(
            (host, envelope.epoch, envelope.seq, item.fingerprint, item.topic.channel, envelope.time, self._now)
        )
        if isinstance(envelope, MetricsEnvelope):
            self._metrics(host, envelope, item.series)
        elif isinstance(envelope, IncidentEnvelope):
            self._incident(host, envelope)
        else:
            self._gap(host, envelope)

    def _metrics(self, host: int, envelope: MetricsEnvelope, series: list[int]) -> None:
        time = round(envelope.time * 1000)
        self.samples += [(number, time, metric.value) for number, metric in zip(series, envelope.metrics, strict=True)]
        key = (host, envelope.probe)
        latest = self.probes.get(key)
        if latest is None or envelope.time >= latest[2]:
            latest_at = min(envelope.time, self._now)  # a clock that was ahead must not hold up what comes after
            self.probes[key] = (*key, latest_at, envelope.status, envelope.duration, envelope.error)

    def _incident(self, host: int, envelope: IncidentEnvelope) -> None:
        i, t = envelope.incident, envelope.transition
        self.incidents.append(
            (
                *(i.id, host, i.threshold, i.metric, canonical(i.labels), i.severity.value, i.peak.value, i.grade),
                *(i.state, i.value, i.peak_value, i.limit, i.op, i.unit, i.summary, i.runbook, i.started_at),
                *(i.fired_at, i.updated_at, i.resolved_at, i.acknowledged_by, _details(i), i.version),
            )
        )
        self.transitions.append((host, i.id, t.version, t.kind.value, t.severity.value, t.time, t.value, t.note))

    def _gap(self, host: int, envelope: GapEnvelope) -> None:
        gap = envelope.gap
        ranges = encode(gap.ranges).decode()
        self.gaps.append((host, gap.epoch, gap.count, gap.reason, ranges, gap.first_time, gap.last_time, self._now))


def _details(incident: Incident) -> str:
    return encode(msgspec.convert(incident, IncidentDetails, from_attributes=True)).decode()


def _series(row: SampleRow) -> int:
    return row[0]


def _conflict(item: Received) -> Quarantined:
    host, epoch, seq = item.identity
    return Quarantined(str(item.topic), item.payload, f"conflict: other bytes under {host} {epoch} {seq}")
