"""Who asked for what, and how it came out: rows that are only ever added, and the chain that holds them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from agent.collector.store import chain as chains
from agent.collector.store.chain import FIRST, AuditEntry, AuditRow, ChainState
from agent.collector.store.guard import guarded
from agent.collector.store.schema import audit, claims
from agent.errors import RefusedError

AT_ONCE = 1000
ATTEMPTS = 10
CLAIMS_KEPT = 86400.0
"""Seconds; far longer than Slack repeats anything."""


class AuditLog:
    """The audit tables. Every method raises StoreError when the database is away."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def append(self, chain: str, entries: Sequence[AuditEntry]) -> None:
        """All or none. Of two writers of one chain the second is refused by its key, and takes its turn again."""
        for attempt in range(ATTEMPTS):
            try:
                async with guarded(), self._engine.begin() as connection:
                    await self._append(connection, chain, entries)
                return
            except RefusedError:
                if attempt == ATTEMPTS - 1:
                    raise

    async def _append(self, connection: AsyncConnection, chain: str, entries: Sequence[AuditEntry]) -> None:
        last = select(audit.c.seq, audit.c.hash).where(audit.c.chain == chain).order_by(audit.c.seq.desc()).limit(1)
        row = (await connection.execute(last)).first()
        seq, before = (0, FIRST) if row is None else (int(row[0]), str(row[1]))
        values = []
        for entry in entries:
            seq += 1
            text = chains.written(entry)
            before = chains.linked(before, chain, seq, text)
            values.append({"chain": chain, "seq": seq, "entry": text, "hash": before, **_columns(chains.read(text))})
        await connection.execute(insert(audit), values)

    async def page(
        self, *, actor: str = "", verb: str = "", host: str = "", limit: int = 100, cursor: str = ""
    ) -> tuple[list[AuditRow], str]:
        """Newest first, over all collectors; the second value is the next page's cursor, "" after the last.

        `actor` is a whole one, the id after its colon, or the name behind it. ValueError for a cursor that is not
        one of ours.
        """
        table = audit.c
        query = select(audit).order_by(table.time.desc(), table.chain, table.seq.desc()).limit(limit + 1)
        if actor:
            query = query.where(_named(actor))
        if verb:
            query = query.where(table.verb == verb)
        if host:
            query = query.where(table.hosts.contains(f" {host} ", autoescape=True))
        if cursor:
            query = query.where(_after(cursor))
        rows = [_row(row) for row in await self._rows(query)]
        if len(rows) <= limit:
            return rows, ""
        last = rows[limit - 1]
        return rows[:limit], f"{last.entry.time!r}~{last.seq}~{last.chain}"

    async def verify(self) -> list[ChainState]:
        """Every chain from its first row on, as the database has it now."""
        names = [row["chain"] for row in await self._rows(select(audit.c.chain).distinct().order_by(audit.c.chain))]
        return [await self._verify(name) for name in names]

    async def _verify(self, chain: str) -> ChainState:
        rows, before = 0, FIRST
        async for row in self._chain(chain):
            rows += 1
            why = _fault(row, rows, before)
            if why:
                return ChainState(chain, rows, before, rows, why)
            before = row["hash"]
        return ChainState(chain, rows, before)

    async def _chain(self, chain: str) -> AsyncIterator[dict[str, Any]]:
        last = -1 << 62
        while True:
            query = select(audit).where(audit.c.chain == chain, audit.c.seq > last).order_by(audit.c.seq).limit(AT_ONCE)
            rows = await self._rows(query)
            for row in rows:
                yield row
            if len(rows) < AT_ONCE:
                return
            last = rows[-1]["seq"]

    async def claim(self, key: str, now: float, window: float) -> bool:
        """True for the one who asks first; for the others `window` seconds later again. Holds for all collectors."""
        async with guarded(5.0):
            try:
                async with self._engine.begin() as connection:
                    renewed = update(claims).where(claims.c.key == key, claims.c.time <= now - window).values(time=now)
                    if (await connection.execute(renewed)).rowcount:
                        return True
                    await connection.execute(insert(claims).values(key=key, time=now))
            except IntegrityError:
                return False
            return True

    async def prune(self, now: float) -> None:
        """Old claims; of the audit itself nothing is ever deleted here."""
        async with guarded(), self._engine.begin() as connection:
            await connection.execute(delete(claims).where(claims.c.time < now - CLAIMS_KEPT))

    async def count(self) -> int:
        [row] = await self._rows(select(func.count().label("rows")).select_from(audit))
        return int(row["rows"])

    async def _rows(self, query: Select[Any]) -> list[dict[str, Any]]:
        async with guarded(), self._engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(query)).mappings()]


def _columns(entry: AuditEntry) -> dict[str, Any]:
    """What is asked for by column, taken from what is hashed."""
    return {
        "time": entry.time,
        "actor": entry.actor,
        "verb": entry.verb,
        "hosts": f" {' '.join(entry.hosts)} ",
        "outcome": entry.outcome,
    }


def _fault(row: dict[str, Any], seq: int, before: str) -> str:
    if row["seq"] != seq:
        return f"row {seq} is missing"
    if chains.linked(before, row["chain"], row["seq"], row["entry"]) != row["hash"]:
        return "the hash does not follow from the row and the one before"
    try:
        columns = _columns(chains.read(row["entry"]))
    except ValueError:
        return "the entry cannot be read"
    wrong = [name for name, value in columns.items() if row[name] != value]
    return f"{wrong[0]} is not what the entry says" if wrong else ""


def _row(row: dict[str, Any]) -> AuditRow:
    return AuditRow(row["chain"], row["seq"], row["hash"], chains.read(row["entry"]))


def _named(actor: str) -> ColumnElement[bool]:
    """Of `slack:U0123 (ada)` all of it, `slack:U0123`, `U0123` and `ada`."""
    column = audit.c.actor
    ends = (f":{actor}", f" ({actor})")
    return or_(
        *(column == actor, column.startswith(f"{actor} (", autoescape=True)),
        *(column.endswith(end, autoescape=True) for end in ends),
        column.contains(f":{actor} (", autoescape=True),
    )


def _after(cursor: str) -> Any:
    text, _, rest = cursor.partition("~")
    number, _, chain = rest.partition("~")
    before, seq, table = float(text), int(number), audit.c
    if not math.isfinite(before):
        raise ValueError(f"cursor: {text!r} is no time")
    same = and_(table.time == before, or_(table.chain > chain, and_(table.chain == chain, table.seq < seq)))
    return or_(table.time < before, same)
