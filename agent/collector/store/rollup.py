"""Means per minute and per hour; every statement may be repeated.

What to roll is known from the envelopes that came since the last time, so samples that arrive late,
in whatever order, have their minute and hour computed anew from all that is there. Envelopes younger
than LAG seconds wait for the next time: another collector may still be committing lower ids.
A bucket from before the time that its source is kept for is written only if it is not there yet:
what is left of the source would make it worse.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterator

from sqlalchemy import exc, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from agent.collector.store.charts import HOURS_ROLLED, MINUTES_ROLLED, SCALE
from agent.collector.store.dialect import Dialect, store_error
from agent.collector.store.schema import envelopes, marks
from agent.errors import RefusedError

log = logging.getLogger(__name__)

LAG, AHEAD = 10.0, 300.0
ENVELOPES_AT_ONCE = 20_000
BUCKETS_AT_ONCE = 60
COLUMNS = ("series_id", "bucket", "min", "mean", "max", "count")


@dataclasses.dataclass(frozen=True)
class Step:
    """From one resolution to the next: `unit` is what one second is in the source's column of time."""

    mark: str
    source: str
    time: str
    unit: int
    target: str
    width: int
    values: str


MINUTES = Step(
    mark=MINUTES_ROLLED,
    source="samples",
    time="time_ms",
    unit=1000,
    target="samples_1m",
    width=60,
    values=f"MIN(s.value), AVG(s.value / {SCALE}) * {SCALE}, MAX(s.value), COUNT(*)",
)
HOURS = Step(
    mark=HOURS_ROLLED,
    source="samples_1m",
    time="bucket",
    unit=1,
    target="samples_1h",
    width=3600,
    values=f"MIN(s.min), SUM(s.mean / {SCALE} * s.count) / SUM(s.count) * {SCALE}, MAX(s.max), SUM(s.count)",
)


def border(now: float, kept: float) -> int:
    """Rows from before this unix second may be gone; always the start of an hour, so no bucket is cut in two."""
    return math.floor((now - kept) / 3600) * 3600


class Rollup:
    """Works in portions, each in a transaction of its own; the mark moves when a portion is done."""

    def __init__(self, engine: AsyncEngine, dialect: Dialect) -> None:
        self._engine = engine
        self._dialect = dialect

    async def minutes(self, now: float, samples_kept: float) -> bool:
        """Rolls the next portion of samples up; whether there is more."""
        return await self._advance(MINUTES, now, samples_kept, None)

    async def hours(self, now: float, minutes_kept: float) -> bool:
        """The same with minutes, as far as `minutes` has come."""
        async with self._engine.connect() as connection:
            limit = await mark(connection, MINUTES_ROLLED)
        return await self._advance(HOURS, now, minutes_kept, limit)

    async def _advance(self, step: Step, now: float, kept: float, limit: int | None) -> bool:
        async with self._engine.connect() as connection:
            done = await mark(connection, step.mark)
            last, count, touched = await _touched(connection, step, done, now, limit)
        if count == 0:
            return False
        first_whole = border(now, kept)
        for host, buckets in sorted(touched.items()):
            for start, end in runs(sorted(buckets), step.width, first_whole):
                await self._roll_run(step, host, start, end, replace=start >= first_whole)
        async with self._engine.begin() as connection:
            await self._dialect.upsert(
                connection, "marks", ("name", "value"), [(step.mark, last)], key=("name",), version="value"
            )
        return count == ENVELOPES_AT_ONCE

    async def _roll_run(self, step: Step, host: int, start: int, end: int, *, replace: bool) -> None:
        """One host's values that the database cannot sum must not hold up all others: they stay as they are."""
        try:
            async with self._engine.begin() as connection:
                await self._roll(connection, step, host, start, end, replace=replace)
        except (exc.DBAPIError, OverflowError) as error:
            if isinstance(error, exc.DBAPIError) and not isinstance(store_error(error), RefusedError):
                raise
            log.warning("roll-up refused", extra={"host": host, "start": start, "end": end, "error": str(error)[:200]})

    async def _roll(
        self, connection: AsyncConnection, step: Step, host: int, start: int, end: int, *, replace: bool
    ) -> None:
        divide = "DIV" if self._dialect.mysql else "/"
        width = step.width * step.unit
        # CROSS JOIN: SQLite then goes from the host's series to their points, never the other way round
        statement = (
            f"INSERT INTO {step.target} ({', '.join(COLUMNS)}) "  # noqa: S608 - our own names and numbers
            f"SELECT s.series_id, (s.{step.time} {divide} {width}) * {step.width} AS start, {step.values} "
            f"FROM series CROSS JOIN {step.source} s ON s.series_id = series.id "
            f"WHERE series.host_id = :host AND s.{step.time} >= :first AND s.{step.time} < :last "
            f"GROUP BY s.series_id, start"
        )
        keep = () if replace else COLUMNS
        tail = self._dialect.conflict(step.target, COLUMNS, key=("series_id", "bucket"), keep=keep)
        values = {"host": host, "first": start * step.unit, "last": end * step.unit}
        await connection.execute(text(statement + tail), values)


async def mark(connection: AsyncConnection, name: str) -> int:
    """The last envelope id that is done, 0 before the first."""
    value = (await connection.execute(select(marks.c.value).where(marks.c.name == name))).scalar_one_or_none()
    return value or 0


async def _touched(
    connection: AsyncConnection, step: Step, done: int, now: float, limit: int | None
) -> tuple[int, int, dict[int, set[int]]]:
    """The next envelopes' last id, their number, and by host the starts of the buckets that they touch."""
    table = envelopes.c
    query = select(table.id, table.host_id, table.kind, table.time, table.received).where(table.id > done)
    if limit is not None:
        query = query.where(table.id <= limit)
    last, count = done, 0
    touched: dict[int, set[int]] = {}
    for number, host, kind, time, received in await connection.execute(
        query.order_by(table.id).limit(ENVELOPES_AT_ONCE)
    ):
        if now - LAG < received <= now + AHEAD:  # else our own clock was ahead then: that must hold up nothing
            break
        last, count = number, count + 1
        if kind == "metrics":
            touched.setdefault(host, set()).add(math.floor(round(time * 1000) / 1000 / step.width) * step.width)
    return last, count, touched


def runs(starts: list[int], width: int, first_whole: int) -> Iterator[tuple[int, int]]:
    """Neighbouring buckets as (start, end), at most BUCKETS_AT_ONCE in one, never across `first_whole`."""
    begin = end = None
    for start in starts:
        if begin is not None and start == end and start - begin < BUCKETS_AT_ONCE * width and start != first_whole:
            end = start + width
            continue
        if begin is not None and end is not None:
            yield begin, end
        begin, end = start, start + width
    if begin is not None and end is not None:
        yield begin, end
