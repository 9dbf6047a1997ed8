"""Deletion of what is old enough: in small portions, each its own transaction, so that ingest hardly waits."""

from __future__ import annotations

import math

from sqlalchemy import Table, delete, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from agent.collector.store.charts import HOURS_ROLLED, MINUTES_ROLLED
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

        What has yet to be rolled up stays, however old it is.
        """
        unrolled = await self._unrolled(MINUTES_ROLLED)
        gone = await self._points(samples, "time_ms", border(now, kept.samples), unrolled, 1000)
        unrolled = await self._unrolled(HOURS_ROLLED)
        gone += await self._points(samples_1m, "bucket", border(now, kept.minutes), unrolled)
        gone += await self._points(samples_1h, "bucket", border(now, kept.hours), {})
        gone += await self._incidents(now - kept.incidents)
        gone += await self._gaps(now - kept.incidents)
        await self._identities(now - max(kept.samples, IDENTITIES_KEPT))
        return gone

    async def _unrolled(self, name: str) -> dict[int, int]:
        """By host, the start of the first hour that an envelope beyond this mark touches."""
        table = envelopes.c
        async with self._engine.connect() as connection:
            query = (
                select(table.host_id, func.min(table.time))
                .where(table.id > await mark(connection, name), table.kind == "metrics")
                .group_by(table.host_id)
            )
            return {host: max(0, math.floor(time / 3600) * 3600) for host, time in await connection.execute(query)}

    async def _points(self, table: Table, column: str, before: int, unrolled: dict[int, int], unit: int = 1) -> int:
        """Those from before `before`, and of a host with something unrolled only what is older than that."""
        gone, last = 0, 0
        next_series = select(series.c.id, series.c.host_id).order_by(series.c.id).limit(SERIES_AT_ONCE)
        while True:
            async with self._engine.begin() as connection:
                bounds: dict[int, list[int]] = {}
                for number, host in await connection.execute(next_series.where(series.c.id > last)):
                    bounds.setdefault(min(before, unrolled.get(host, before)), []).append(number)
                    last = number
                if not bounds:
                    return gone
                for bound, ids in bounds.items():
                    old = delete(table).where(table.c.series_id.in_(ids), table.c[column] < bound * unit)
                    gone += (await connection.execute(old)).rowcount

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
