"""Points for charts: raw samples or roll-ups, thinned out in SQL, joined where one ends and the other starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from agent.collector.store.schema import envelopes, marks, samples, samples_1h, samples_1m

MAX_POINTS = 5000
MAX_POINTS_PER_ANSWER = 200_000
MINUTES_ROLLED = "minutes rolled"
HOURS_ROLLED = "hours rolled"
"""Marks: the last envelope id whose samples are in the roll-ups."""

SCALE = 2.0**30
"""Values are divided by this before they are summed, and means multiplied: no sum leaves a double's range. Exact."""

Points = list[tuple[float, float]]
Sums = dict[int, dict[int, tuple[float, int]]]
"""Series id -> step number -> (sum / SCALE, count)."""


def effective_step(start: float, end: float, step: float, series: int) -> float:
    """`step`, widened so that each of so many series stays within the bounds on points."""
    points = max(1, min(MAX_POINTS, MAX_POINTS_PER_ANSWER // max(1, series)))
    return max(step, (end - start) / points)


async def points(
    connection: AsyncConnection, host: int, ids: Sequence[int], *, start: float, end: float, step: float
) -> tuple[dict[int, Points], set[int]]:
    """By series id, in [start, end). `step` 0 or not met by raw samples that are rarer: samples as they are.

    With the ids of those of which some point stands for several samples.
    """
    width = effective_step(start, end, step, len(ids))
    if width <= 60:
        return await _raw(connection, ids, start=start, end=end, width=width, exact=step <= 0)
    seconds = math.ceil(width)
    resolution = 3600 if seconds > 3600 else 60
    mark = MINUTES_ROLLED if resolution == 60 else HOURS_ROLLED
    border = _floor(await unrolled_since(connection, host, end, mark), resolution)
    sums: Sums = {}
    first, last = _floor(start, resolution), min(border, end)
    await _add_rollup(connection, sums, ids, start=first, end=last, resolution=resolution, seconds=seconds)
    await _add_raw(connection, sums, ids, start=max(start, border), end=end, seconds=seconds)
    found = {
        number: [(float(at * seconds), total / count * SCALE) for at, (total, count) in sorted(steps.items())]
        for number, steps in sums.items()
    }
    return found, {number for number, steps in sums.items() if any(count > 1 for _, count in steps.values())}


async def unrolled_since(connection: AsyncConnection, host: int, end: float, mark: str) -> float:
    """The time from which on a roll-up of this host may be missing or incomplete; `end` if none is."""
    done = (await connection.execute(select(marks.c.value).where(marks.c.name == mark))).scalar_one_or_none()
    table = envelopes.c
    query = select(func.min(table.time)).where(
        table.id > (done or 0),
        table.host_id + 0 == host,  # the few newest rows are read, not the index over all of the host's
        table.kind == "metrics",
    )
    oldest: float | None = (await connection.execute(query)).scalar_one_or_none()
    return end if oldest is None else min(end, oldest)


async def _raw(
    connection: AsyncConnection, ids: Sequence[int], *, start: float, end: float, width: float, exact: bool
) -> tuple[dict[int, Points], set[int]]:
    width_ms = max(1, round(width * 1000))
    found: dict[int, Points] = {}
    thinned: set[int] = set()
    result = await connection.execute(_raw_query(ids, start, end, width_ms))
    for series, at, first, mean, count in result:
        when = int(first) if exact else int(at) * width_ms
        found.setdefault(series, []).append((when / 1000, mean))
        if count > 1:
            thinned.add(series)
    return found, thinned


async def _add_raw(
    connection: AsyncConnection, sums: Sums, ids: Sequence[int], *, start: float, end: float, seconds: int
) -> None:
    if start >= end:
        return
    result = await connection.execute(_raw_query(ids, start, end, seconds * 1000))
    for series, at, _, mean, count in result:
        _add(sums, series, int(at), mean / SCALE * count, int(count))


def _raw_query(ids: Sequence[int], start: float, end: float, width_ms: int) -> Select[Any]:
    table = samples.c
    at = (table.time_ms // literal(width_ms)).label("at")
    return (
        select(table.series_id, at, func.min(table.time_ms), func.avg(table.value / SCALE) * SCALE, func.count())
        .where(table.series_id.in_(ids), table.time_ms >= _ms(start), table.time_ms < _ms(end))
        .group_by(table.series_id, at)
        .order_by(table.series_id, at)
    )


async def _add_rollup(
    connection: AsyncConnection,
    sums: Sums,
    ids: Sequence[int],
    *,
    start: float,
    end: float,
    resolution: int,
    seconds: int,
) -> None:
    if start >= end:
        return
    table = (samples_1m if resolution == 60 else samples_1h).c
    at = (table.bucket // literal(seconds)).label("at")
    query = (
        select(table.series_id, at, func.sum(table.mean / SCALE * table.count), func.sum(table.count))
        .where(table.series_id.in_(ids), table.bucket >= math.ceil(start), table.bucket < math.ceil(end))
        .group_by(table.series_id, at)
    )
    for series, number, total, count in await connection.execute(query):
        _add(sums, series, int(number), total, int(count))


def _add(sums: Sums, series: int, at: int, total: float, count: int) -> None:
    steps = sums.setdefault(series, {})
    before, counted = steps.get(at, (0.0, 0))
    steps[at] = before + total, counted + count


def _floor(time: float, resolution: int) -> float:
    return float(math.floor(time / resolution) * resolution)


def _ms(time: float) -> int:
    return math.ceil(time * 1000)
