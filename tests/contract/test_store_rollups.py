"""Roll-ups, retention and ranges, on every store."""

from __future__ import annotations

import pytest

from agent.collector.store import Received
from agent.collector.store.reader import MAX_POINTS, MAX_SERIES
from agent.model import Metric
from tests.contract.stores import DAY, KEPT, T0, Opened, every_incident, incident, roll, sample


def ramp(first: int, count: int, *, start: float = T0, every: float = 10.0, host: str = "web-1") -> list[Received]:
    """Sample n has the value n; its seq is n + 1."""
    return [
        sample(n + 1, Metric("m", float(n)), host=host, time=start + n * every) for n in range(first, first + count)
    ]


def expected(numbers: range, step: int, every: int = 10) -> dict[float, float]:
    steps: dict[float, list[int]] = {}
    for n in numbers:
        steps.setdefault((T0 + n * every) // step * step, []).append(n)
    return {at: sum(values) / len(values) for at, values in steps.items()}


@pytest.mark.parametrize("step", [30, 60, 120, 600, 7200])
async def test_steps_are_means_rolled_up_or_not(db: Opened, step: int) -> None:
    """Before the first roll-up, after it, and with a fresh end after it: the same chart, never an empty end."""
    await db.store.write(ramp(0, 1000))
    end = T0 + 20000

    async def points() -> dict[float, float]:
        [row] = await db.store.reader.series("web-1", "m", T0 - 7200, end, step)
        return dict(row.points)

    assert await points() == pytest.approx(expected(range(1000), step))
    await roll(db)
    assert await points() == pytest.approx(expected(range(1000), step))
    await db.store.write(ramp(1000, 50))
    assert await points() == pytest.approx(expected(range(1050), step))


async def test_a_series_says_whether_its_points_are_samples(db: Opened) -> None:
    """Who asks for samples must not take means for them: a wider window, or a step, may have thinned them."""
    await db.store.write(ramp(0, 1000))
    end = T0 + 20000
    for start, step, thinned in ((T0, 0, False), (T0, 5, False), (T0, 30, True), (T0 - 100_000, 0, True)):
        [row] = await db.store.reader.series("web-1", "m", start, end, step)
        assert row.thinned is thinned, (start, step)
    await roll(db)
    [row] = await db.store.reader.series("web-1", "m", T0 - 7200, end, 120)
    assert row.thinned


async def test_a_rollup_holds_min_mean_max_and_count(db: Opened) -> None:
    """Per minute from samples, per hour from minutes, weighted by their counts."""
    await db.store.write(ramp(0, 9) + ramp(0, 9, host="db-1", start=T0 + 5))
    await roll(db)
    rows = await db.all("SELECT bucket, min, mean, max, count FROM samples_1m ORDER BY series_id, bucket")
    assert rows == [(T0, 0, 2.5, 5, 6), (T0 + 60, 6, 7, 8, 3), (T0, 0, 2.5, 5, 6), (T0 + 60, 6, 7, 8, 3)]
    hours = await db.all("SELECT bucket, min, mean, max, count FROM samples_1h")
    assert hours == [(T0 // 3600 * 3600, 0, 4.0, 8, 9)] * 2


async def test_late_samples_are_rolled_again(db: Opened) -> None:
    """Newest first, the rest later, in any order: in the end the roll-ups are those of all samples."""
    everything = ramp(0, 60)
    for portion in (everything[40:], everything[:10], everything[10:40][::-1], everything[5:15]):
        await db.store.write(portion)
        await roll(db)
    rows = await db.all("SELECT bucket, mean, count FROM samples_1m ORDER BY bucket")
    assert rows == [(T0 + 60 * n, 6 * n + 2.5, 6) for n in range(10)]
    assert await db.all("SELECT SUM(count), MIN(min), MAX(max) FROM samples_1h") == [(60, 0, 59)]


async def test_what_is_just_arriving_waits(db: Opened) -> None:
    """Within the lag another collector may be committing lower ids: nothing is marked as done yet."""
    await db.store.write(ramp(0, 6))
    await roll(db, seconds=1)
    assert await db.all("SELECT COUNT(*) FROM samples_1m") == [(0,)]
    await roll(db)
    assert await db.all("SELECT COUNT(*) FROM samples_1m") == [(1,)]


async def test_retention_deletes_per_resolution(db: Opened) -> None:
    """Each resolution for as long as it is kept, and a roll-up survives its source."""
    await db.store.write([*ramp(0, 6), incident(1, seq=100), incident(1, seq=101, id="i-2", state="resolved")])
    await roll(db)
    assert await db.store.prune(db.clock.now(), KEPT) == 0
    counts = []
    for days in (4, 31, 740):
        await db.store.prune(T0 + days * DAY, KEPT)
        counts.append(
            [(await db.all(f"SELECT COUNT(*) FROM {t}"))[0][0] for t in ("samples", "samples_1m", "samples_1h")]
        )
    assert counts == [[0, 1, 1], [0, 0, 1], [0, 0, 0]]
    assert [row.id for row in await every_incident(db)] == ["i-1"]
    assert await db.store.reader.transitions("i-2") == []
    assert await db.all("SELECT COUNT(*) FROM envelopes") == [(0,)]


async def test_the_largest_numbers_stop_no_rollup(db: Opened) -> None:
    """Sums of what is near the end of a double's range overflow; means do not, and the others' roll-ups go on."""
    huge = [sample(n + 1, Metric("m", 1.7e308 * sign), time=T0 + n * 10) for n, sign in enumerate((1, 1, -1))]
    await db.store.write([*huge, *ramp(0, 9, host="db-1")])
    await roll(db)
    assert await db.all("SELECT mean, count FROM samples_1m ORDER BY mean") == [
        (2.5, 6),
        (7, 3),
        (pytest.approx(1.7e308 / 3), 3),
    ]
    assert await db.all("SELECT count FROM samples_1h ORDER BY count") == [(3,), (9,)]
    [row] = await db.store.reader.series("web-1", "m", T0, T0 + 60, 30)
    assert row.points == [(T0, pytest.approx(1.7e308 / 3))]
    for step in (60, 120, 7200):
        [row] = await db.store.reader.series("web-1", "m", T0 - 7200, T0 + 7200, step)
        assert [value for _, value in row.points] == [pytest.approx(1.7e308 / 3)]


async def test_a_clock_that_was_ahead_holds_up_nothing(db: Opened) -> None:
    """One envelope that was received in the future: what came after it is rolled up, and not deleted unrolled."""
    db.clock.tick(30 * DAY)
    await db.store.write([sample(9999, Metric("m", 1.0), time=T0)])
    db.clock.set_back(30 * DAY)
    await db.store.write(ramp(0, 360))
    await roll(db)
    assert len(await db.all("SELECT * FROM samples_1m")) == 60
    db.clock.tick(4 * DAY)
    await roll(db)
    await db.store.prune(db.clock.now(), KEPT)
    assert len(await db.all("SELECT * FROM samples_1m")) == 60


async def test_nothing_is_deleted_before_it_is_rolled_up(db: Opened) -> None:
    """What came too old to be kept waits for its roll-up; another host's is deleted meanwhile."""
    await db.store.write(ramp(0, 6, host="db-1"))
    await roll(db)
    db.clock.tick(4 * DAY)
    await db.store.write(ramp(0, 6))
    assert await db.store.prune(db.clock.now(), KEPT) == 6
    await roll(db)
    assert await db.store.prune(db.clock.now(), KEPT) == 6
    assert await db.all("SELECT count FROM samples_1m") == [(6,), (6,)]


async def test_a_time_that_is_none_stops_no_rollup(db: Opened) -> None:
    """One that an older release let in, without a metric: it is passed over, and the rest is rolled up."""
    await db.store.write([sample(9999, time=T0)])
    await db.run("UPDATE envelopes SET time = 1e17")
    await db.store.write(ramp(0, 6))
    await roll(db)
    assert await db.all("SELECT count FROM samples_1m") == [(6,)]
    assert await db.all("SELECT count FROM samples_1h") == [(6,)]


async def test_an_old_straggler_spoils_no_rollup(db: Opened) -> None:
    """A sample from a time whose samples are deleted changes no bucket that is there, and makes one where none is."""
    await db.store.write(ramp(0, 6))
    await roll(db)
    db.clock.tick(4 * DAY)
    await db.store.prune(db.clock.now(), KEPT)
    await db.store.write([sample(77, Metric("m", 1000.0), time=T0 + 7), sample(78, Metric("m", 5.0), time=T0 + 61)])
    await roll(db)
    rows = await db.all("SELECT bucket, mean, count FROM samples_1m ORDER BY bucket")
    assert rows == [(T0, 2.5, 6), (T0 + 60, 5.0, 1)]


async def test_an_answer_is_bounded(db: Opened) -> None:
    """At most MAX_SERIES series, at most MAX_POINTS points each, whatever is asked for."""
    await db.store.write([sample(n, Metric("m", 1.0, labels={"n": str(n)})) for n in range(1, MAX_SERIES + 20)])
    assert len(await db.store.reader.series("web-1", "m", T0 - 60, T0 + 60)) == MAX_SERIES
    await db.store.write(ramp(1000, 6000, every=0.5, host="db-1"))
    [row] = await db.store.reader.series("db-1", "m", T0, T0 + 5000)
    assert 2500 <= len(row.points) <= MAX_POINTS
    assert sum(value for _, value in row.points) / len(row.points) == pytest.approx(3999.5, rel=1e-3)


@pytest.mark.parametrize(("start", "end"), [(T0, T0), (T0 + 5, T0), (-1e300, -1), (T0, float("nan"))])
async def test_ranges_without_time_are_empty(db: Opened, start: float, end: float) -> None:
    """No answer and no error for a range that holds nothing."""
    await db.store.write(ramp(0, 6))
    assert await db.store.reader.series("web-1", "m", start, end) == []
