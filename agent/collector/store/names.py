"""Ids of hosts and series, remembered: the hot path asks the database only for names it has not met.

New ids are committed on their own, before the batch that needs them, so a batch that is rolled back
leaves nothing wrong in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from agent.clock import Clock
from agent.collector.store.dialect import Dialect
from agent.collector.store.schema import hosts, series
from agent.model import Labels, Metric
from agent.transport.wire import MetricsEnvelope

SeriesKey = str | tuple[object, ...]
"""The name alone, or name and label pairs in the order they came: two orders, two keys, one id."""

MAX_REMEMBERED = 1_000_000
PER_STATEMENT = 400


def series_key(metric: Metric) -> SeriesKey:
    return (metric.name, *metric.labels.items()) if metric.labels else metric.name


def series_hash(name: str, labels: Labels) -> str:
    """32 hex characters for name and labels, whatever their order."""
    return hashlib.blake2b(msgspec.json.encode([name, sorted(labels.items())]), digest_size=16).hexdigest()


def canonical(labels: Labels) -> str:
    return msgspec.json.encode(dict(sorted(labels.items()))).decode()


class Names:
    """`hosts` by name; `series` by host id, then by `series_key`."""

    def __init__(self, engine: AsyncEngine, dialect: Dialect, clock: Clock) -> None:
        self._engine = engine
        self._dialect = dialect
        self._clock = clock
        self.hosts: dict[str, int] = {}
        self.series: dict[int, dict[SeriesKey, int]] = {}
        self._remembered = 0

    def forget(self) -> None:
        self.hosts.clear()
        self.series.clear()
        self._remembered = 0

    async def add_hosts(self, names: Iterable[str]) -> None:
        missing = sorted({name for name in names if name not in self.hosts})
        if not missing:
            return
        now = self._clock.now()
        rows = [(name, now, now, "", "", 0, "", "{}") for name in missing]
        columns = ("name", "first_seen", "last_seen", "state", "epoch", "session", "version", "labels")
        async with self._engine.begin() as connection:
            known = await self._find_hosts(connection, missing)
            rows = [row for row in rows if row[0] not in known]
            await self._dialect.upsert(connection, "hosts", columns, rows, key=("name",), keep=columns)
            new = await self._find_hosts(connection, [row[0] for row in rows])
        self.hosts.update(known | new)

    @staticmethod
    async def _find_hosts(connection: AsyncConnection, names: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for part in _parts(names):
            rows = await connection.execute(select(hosts.c.name, hosts.c.id).where(hosts.c.name.in_(part)))
            found.update((name, number) for name, number in rows)
        return found

    async def series_ids(self, envelopes: Sequence[MetricsEnvelope]) -> list[list[int]]:
        """The ids of each envelope's metrics, in their order; its host is known already."""
        if self._remembered > MAX_REMEMBERED:  # label values without end must not eat our memory
            self.series.clear()
            self._remembered = 0
        return await self._series_ids(envelopes)

    async def _series_ids(self, envelopes: Sequence[MetricsEnvelope]) -> list[list[int]]:
        unknown: dict[tuple[int, str], Metric] = {}
        keys: list[tuple[int, SeriesKey, str]] = []
        ids: list[list[int]] = []
        for envelope in envelopes:
            host = self.hosts[envelope.host]
            known = self.series.setdefault(host, {})
            try:
                ids.append([known[series_key(metric)] for metric in envelope.metrics])
            except KeyError:
                for metric in envelope.metrics:
                    key = series_key(metric)
                    if key not in known:
                        digest = series_hash(metric.name, metric.labels)
                        unknown[host, digest] = metric
                        keys.append((host, key, digest))
        if not unknown:
            return ids
        found = await self._insert(unknown)
        for host, key, digest in keys:
            self.series[host][key] = found[host, digest]
        self._remembered += len(keys)
        return await self._series_ids(envelopes)

    async def _insert(self, wanted: dict[tuple[int, str], Metric]) -> dict[tuple[int, str], int]:
        """Their ids. Only what is new or has changed is written: on MySQL each upserted row takes an id for good."""
        async with self._engine.connect() as connection:
            known = await self._find(connection, wanted)
        found = {key: row[0] for key, row in known.items() if row[1:] == (wanted[key].unit, wanted[key].kind)}
        missing = {key: metric for key, metric in wanted.items() if key not in found}
        if not missing:
            return found
        columns = ("host_id", "hash", "metric", "labels", "unit", "kind")
        rows = [
            (host, digest, metric.name, canonical(metric.labels), metric.unit, metric.kind)
            for (host, digest), metric in sorted(missing.items(), key=lambda item: item[0])
        ]
        async with self._engine.begin() as connection:
            key = ("host_id", "hash")
            await self._dialect.upsert(connection, "series", columns, rows, key=key, keep=("metric", "labels"))
            found |= {key: row[0] for key, row in (await self._find(connection, missing)).items()}
        return found

    @staticmethod
    async def _find(
        connection: AsyncConnection, wanted: Iterable[tuple[int, str]]
    ) -> dict[tuple[int, str], tuple[int, str, str]]:
        """Id, unit and kind of what the database has of these."""
        by_host: dict[int, list[str]] = {}
        for host, digest in wanted:
            by_host.setdefault(host, []).append(digest)
        found: dict[tuple[int, str], tuple[int, str, str]] = {}
        table = series.c
        for host, digests in by_host.items():
            for part in _parts(digests):
                query = select(table.hash, table.id, table.unit, table.kind).where(
                    table.host_id == host, table.hash.in_(part)
                )
                for digest, number, unit, kind in await connection.execute(query):
                    found[host, digest] = number, unit, kind
        return found


def _parts(values: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(values), PER_STATEMENT):
        yield values[start : start + PER_STATEMENT]
