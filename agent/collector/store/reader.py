"""What is asked of the store: bounded answers, all parameters bound."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgspec
from sqlalchemy import Select, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from agent.collector.store.charts import MAX_POINTS, points
from agent.collector.store.guard import guarded
from agent.collector.store.rows import (
    Counts,
    GapRow,
    HostRow,
    IncidentDetails,
    IncidentRow,
    ProbeRow,
    SeriesRow,
    TransitionRow,
)
from agent.collector.store.schema import envelopes, gaps, hosts, incidents, probes, quarantine, series, transitions
from agent.model import Severity

__all__ = ["MAX_POINTS", "MAX_SERIES", "Reader"]

MAX_SERIES = 200
MAX_ROWS = 1000
LATEST = 32_503_680_000.0
"""The year 3000: later times are nobody's."""

_INCIDENTS = select(
    *(column for column in incidents.c if column.name not in ("host_id", "labels", "bound")),
    incidents.c.bound.label("limit"),
    incidents.c.labels,
    hosts.c.name.label("host"),
).join_from(incidents, hosts, incidents.c.host_id == hosts.c.id)


class Reader:
    """Reads of the collector's database. Every method raises StoreError when it cannot be reached."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def hosts(self) -> list[HostRow]:
        """Every host ever heard, by name."""
        found = []
        for row in await self._rows(select(*hosts.c).order_by(hosts.c.name)):
            values = row | {"host": row["name"], "labels": msgspec.json.decode(row["labels"])}
            values["health"] = msgspec.json.decode(row["health"]) if row["health"] else None
            found.append(_struct(HostRow, values))
        return found

    async def series(self, host: str, metric: str, start: float, end: float, step: float = 0) -> list[SeriesRow]:
        """Series of `metric` (may end in `*`) with points in [start, end), at most MAX_SERIES of them.

        `step` in seconds: 0 is raw samples; else means per step, from roll-ups where it is over 60 s.
        The step is widened so that no series has more than MAX_POINTS. Series without points are left out.
        """
        start, end = max(0.0, start), min(end, LATEST)
        if not start < end:
            return []
        chosen = select(series, hosts.c.id.label("host_number")).join_from(
            series, hosts, and_(series.c.host_id == hosts.c.id, hosts.c.name == host)
        )
        chosen = chosen.where(
            series.c.metric.startswith(metric[:-1], autoescape=True)
            if metric.endswith("*")
            else series.c.metric == metric
        )
        async with self._connection() as connection:
            result = await connection.execute(chosen.order_by(series.c.metric, series.c.id).limit(MAX_SERIES))
            rows = result.mappings().all()
            if not rows:
                return []
            ids = [row["id"] for row in rows]
            found, thinned = await points(connection, rows[0]["host_number"], ids, start=start, end=end, step=step)
        return [
            SeriesRow(
                row["metric"],
                row["unit"],
                row["kind"],
                msgspec.json.decode(row["labels"]),
                found[row["id"]],
                row["id"] in thinned,
            )
            for row in rows
            if row["id"] in found
        ]

    async def incidents(
        self,
        host: str | None = None,
        state: Literal["open", "resolved"] | None = None,
        limit: int = 100,
        cursor: str = "",
    ) -> tuple[list[IncidentRow], str]:
        """Newest first; the second value is the cursor of the next page, "" after the last.

        ValueError for a cursor that is not one of ours.
        """
        limit = max(1, min(limit, MAX_ROWS))
        query = _INCIDENTS.order_by(incidents.c.fired_at.desc(), incidents.c.id.desc()).limit(limit + 1)
        if host is not None:
            query = query.where(hosts.c.name == host)
        if state is not None:
            query = query.where(incidents.c.state == state)
        if cursor:
            fired, _, last = cursor.partition("~")
            before = float(fired)
            if not math.isfinite(before):
                raise ValueError(f"cursor: {fired!r} is no time")
            table = incidents.c
            query = query.where(or_(table.fired_at < before, and_(table.fired_at == before, table.id < last)))
        found = [_incident(row) for row in await self._rows(query)]
        if len(found) <= limit:
            return found, ""
        return found[:limit], f"{found[limit - 1].fired_at!r}~{found[limit - 1].id}"

    async def incident(self, incident: str) -> IncidentRow | None:
        found = await self._rows(_INCIDENTS.where(incidents.c.id == incident))
        return _incident(found[0]) if found else None

    async def open_of(self, threshold: str, metric: str) -> list[IncidentRow]:
        """The open ones of this threshold about this metric, oldest first."""
        table = incidents.c
        query = _INCIDENTS.where(table.state == "open", table.threshold == threshold, table.metric == metric)
        return [_incident(row) for row in await self._rows(query.order_by(table.id))]

    async def open_incidents(self) -> list[tuple[str, str, int, Severity]]:
        """(host, incident id, version, severity) of every open one."""
        query = (
            select(hosts.c.name, incidents.c.id, incidents.c.version, incidents.c.severity)
            .join_from(incidents, hosts, incidents.c.host_id == hosts.c.id)
            .where(incidents.c.state == "open")
        )
        async with self._connection() as connection:
            found = await connection.execute(query)
            return [(name, incident, version, Severity(severity)) for name, incident, version, severity in found]

    async def transitions(self, incident: str) -> list[TransitionRow]:
        """The timeline of one incident, oldest first; empty if there is none of that id."""
        own = and_(transitions.c.host_id == incidents.c.host_id, transitions.c.incident == incidents.c.id)
        query = (
            select(*(column for column in transitions.c if column.name != "host_id"))
            .join_from(transitions, incidents, own)
            .where(incidents.c.id == incident)
            .order_by(transitions.c.version)
            .limit(MAX_ROWS)
        )
        return [_struct(TransitionRow, row) for row in await self._rows(query)]

    async def gaps(self, host: str | None = None, limit: int = 100) -> list[GapRow]:
        """Newest first."""
        query = select(*gaps.c, hosts.c.name.label("host")).join_from(gaps, hosts, gaps.c.host_id == hosts.c.id)
        if host is not None:
            query = query.where(hosts.c.name == host)
        rows = await self._rows(query.order_by(gaps.c.id.desc()).limit(max(1, min(limit, MAX_ROWS))))
        return [
            _struct(GapRow, row | {"ranges": msgspec.json.decode(row["ranges"], type=list[tuple[int, int]])})
            for row in rows
        ]

    async def probes(self, host: str) -> list[ProbeRow]:
        """The latest run of each probe of the host, by probe name."""
        query = (
            select(*probes.c, hosts.c.name.label("host"))
            .join_from(probes, hosts, probes.c.host_id == hosts.c.id)
            .where(hosts.c.name == host)
            .order_by(probes.c.probe)
            .limit(MAX_ROWS)
        )
        return [_struct(ProbeRow, row) for row in await self._rows(query)]

    async def counts(self) -> Counts:
        """Of `envelopes` the highest number given out so far; the others are rows now."""
        tables = {"hosts": hosts, "series": series, "incidents": incidents, "gaps": gaps, "quarantine": quarantine}
        columns = [select(func.count()).select_from(table).scalar_subquery().label(n) for n, table in tables.items()]
        still_open = select(func.count()).select_from(incidents).where(incidents.c.state == "open")
        columns.append(still_open.scalar_subquery().label("incidents_open"))
        columns.append(select(func.coalesce(func.max(envelopes.c.id), 0)).scalar_subquery().label("envelopes"))
        [row] = await self._rows(select(*columns))
        found: Counts = _struct(Counts, row)
        return found

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        async with guarded(), self._engine.connect() as connection:
            yield connection

    async def _rows(self, query: Select[Any]) -> list[dict[str, Any]]:
        async with self._connection() as connection:
            return [dict(row) for row in (await connection.execute(query)).mappings()]


def _struct(kind: Any, values: Any) -> Any:
    """The row as `kind`, without the columns that it has no field for."""
    return kind(**{name: values[name] for name in kind.__struct_fields__})


def _incident(row: dict[str, Any]) -> IncidentRow:
    details = msgspec.json.decode(row.pop("details") or "{}", type=IncidentDetails)
    values = row | msgspec.structs.asdict(details) | {"labels": msgspec.json.decode(row["labels"])}
    found: IncidentRow = _struct(IncidentRow, values)
    return found
