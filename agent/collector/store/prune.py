"""Deletion of what is old enough: in small portions, each its own transaction, so that ingest hardly waits."""

from __future__ import annotations

from sqlalchemy import Table, delete, select
from sqlalchemy.ext.asyncio import AsyncEngine

from agent.collector.store.charts import HOURS_ROLLED
from agent.collector.store.rollup import border, mark
from agent.collector.store.schema import (
    envelopes,
    gaps,
    incidents,
    samples,
    samples_1h,
    samples_1m,
    series,
    transitions,
)
from agent.config.schema import RetentionConfig

SERIES_AT_ONCE = 100
ROWS_AT_ONCE = 2000
IDENTITIES_KEPT = 14 * 86400
"""Seconds for which a resent envelope is known at least: far longer than a spool keeps one by default."""


class Prune:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def run(self, now: float, kept: RetentionConfig) -> int:
        """Deletes all that `kept` says is old; returns the number of rows, identities left out.

        Samples are to be rolled up before.
        """
        gone = await self._points(samples, "time_ms", border(now, kept.samples) * 1000)
        gone += await self._points(samples_1m, "bucket", border(now, kept.minutes))
        gone += await self._points(samples_1h, "bucket", border(now, kept.hours))
        gone += await self._incidents(now - kept.incidents)
        gone += await self._gaps(now - kept.incidents)
        await self._identities(now - max(kept.samples, IDENTITIES_KEPT))
        return gone

    async def _points(self, table: Table, column: str, before: int) -> int:
        gone, last = 0, 0
        next_series = select(series.c.id).order_by(series.c.id).limit(SERIES_AT_ONCE)
        while True:
            async with self._engine.begin() as connection:
                ids = list((await connection.execute(next_series.where(series.c.id > last))).scalars())
                if not ids:
                    return gone
                old = delete(table).where(table.c.series_id.in_(ids), table.c[column] < before)
                gone += (await connection.execute(old)).rowcount
            last = ids[-1]

    async def _incidents(self, before: float) -> int:
        gone = 0
        old = select(incidents.c.id, incidents.c.host_id).where(
            incidents.c.state == "resolved", incidents.c.updated_at < before
        )
        while True:
            async with self._engine.begin() as connection:
                ids = [number for number, _ in await connection.execute(old.limit(ROWS_AT_ONCE))]
                if not ids:
                    return gone
                await connection.execute(delete(transitions).where(transitions.c.incident.in_(ids)))
                gone += (await connection.execute(delete(incidents).where(incidents.c.id.in_(ids)))).rowcount

    async def _gaps(self, before: float) -> int:
        async with self._engine.begin() as connection:
            return (await connection.execute(delete(gaps).where(gaps.c.received < before))).rowcount

    async def _identities(self, before: float) -> None:
        """Ids rise with the time of receipt, near enough: from the lowest up until one is too young."""
        table = envelopes.c
        while True:
            async with self._engine.begin() as connection:
                rolled = await mark(connection, HOURS_ROLLED)
                query = (
                    select(table.id, table.received).where(table.id <= rolled).order_by(table.id).limit(ROWS_AT_ONCE)
                )
                portion = [number for number, received in await connection.execute(query) if received < before]
                if portion:
                    await connection.execute(delete(envelopes).where(table.id <= max(portion), table.received < before))
            if len(portion) < ROWS_AT_ONCE:
                return
