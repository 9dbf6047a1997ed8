"""What every store must do, whichever database is behind it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from agent.collector.store import HostRow, Quarantined, Received, Store
from agent.collector.store import writer as writer_module
from agent.collector.store.reader import MAX_POINTS, MAX_SERIES
from agent.collector.store.schema import metadata
from agent.config.schema import RetentionConfig
from agent.errors import RefusedError, StoreError
from agent.model import Gap, Incident, Metric, Severity, Transition, TransitionKind
from agent.transport import wire
from tests.fakes.clock import ManualClock

EPOCH = "0123456789abcdef" * 2
OTHER = "f" * 32
T0 = 1_790_000_040.0  # the start of a minute


def received(envelope: wire.AnyEnvelope, channel: str = "metrics", item: str = "cpu") -> Received:
    payload = wire.encode(envelope)
    return Received(wire.Topic(envelope.host, channel, item), envelope, payload, wire.fingerprint(payload))


def sample(seq: int, *metrics: Metric, host: str = "web-1", time: float = T0, **more: Any) -> Received:
    values = {"schema": 1, "epoch": EPOCH, "probe": "cpu", "status": "ok", "duration": 0.1} | more
    return received(wire.MetricsEnvelope(host=host, seq=seq, time=time, metrics=metrics, **values))


def incident(version: int = 1, *, host: str = "web-1", seq: int = 1, **more: Any) -> Received:
    values: dict[str, Any] = {
        "id": "i-1",
        "threshold": "cpu-busy",
        "metric": "cpu.used_percent",
        "severity": Severity.WARNING,
        "peak": Severity.WARNING,
        "started_at": T0,
        "fired_at": T0,
        "updated_at": T0 + version,
    } | more
    what = Incident(host=host, version=version, labels={"core": "0"}, value=91.5, limit=90.0, op=">", **values)
    kind = TransitionKind.OPENED if version == 1 else TransitionKind.ESCALATED
    step = Transition(what.id, version, kind, what.severity, T0 + version, what.value)
    envelope = wire.IncidentEnvelope(schema=1, host=host, epoch=EPOCH, seq=seq, time=T0, incident=what, transition=step)
    return received(envelope, "incidents", what.id)


@dataclasses.dataclass
class Opened:
    url: str
    store: Store
    clock: ManualClock

    async def all(self, query: str) -> list[tuple[Any, ...]]:
        async with self.store._engine.connect() as connection:
            return [tuple(row) for row in await connection.execute(text(query))]


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.services)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    database: str = request.getfixturevalue("mariadb").url
    return database


@pytest.fixture
async def db(url: str, clock: ManualClock) -> AsyncIterator[Opened]:
    opened = await Store.open(url, clock=clock)
    yield Opened(url, opened, clock)
    await opened.aclose()


async def test_migrations_lead_to_the_schema(db: Opened) -> None:
    """The revisions end where schema.py says, and a second start finds nothing to do."""

    def differences(connection: Any) -> list[Any]:
        # SQLite knows affinities only, so types can be compared on MySQL alone
        options = {"version_table": "tocsin_version", "compare_type": connection.dialect.name != "sqlite"}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    await db.store.migrate()
    async with db.store._engine.connect() as connection:
        found = await connection.run_sync(differences)
    assert found == []


async def test_two_collectors_migrate_at_once(url: str) -> None:
    """Both come up, whoever was first."""
    stores = await asyncio.gather(Store.open(url), Store.open(url))
    for opened in stores:
        assert (await opened.reader.counts()).hosts == 0
        await opened.aclose()


async def test_samples_come_back_as_they_went_in(db: Opened) -> None:
    """Values, units, kinds and labels of several hosts survive the way through the database."""
    hostile = {"mount": "/a'; DROP TABLE samples; --", "note": '<img onerror>"\\%s ☃'}
    batch = [
        sample(
            1, Metric("disk.used_percent", 71.25, "percent", labels=hostile), Metric("net.bytes", 5.0, kind="counter")
        ),
        sample(1, Metric("disk.used_percent", 1e-9), host="db-1"),
        sample(2, Metric("disk.used_percent", -3.5, "percent", labels=hostile), time=T0 + 10.123),
    ]
    written = await db.store.write(batch)
    assert (written.committed, written.duplicates, written.conflicts, written.samples) == (batch, [], [], 4)
    [row] = await db.store.reader.series("web-1", "disk.used_percent", T0 - 1, T0 + 60)
    assert (row.metric, row.unit, row.kind, row.labels) == ("disk.used_percent", "percent", "gauge", hostile)
    assert row.points == [(T0, 71.25), (T0 + 10.123, -3.5)]
    assert [r.kind for r in await db.store.reader.series("web-1", "net.*", T0 - 60, T0 + 60)] == ["counter"]
    assert [r.points for r in await db.store.reader.series("db-1", "*", T0 - 60, T0 + 60)] == [[(T0, 1e-9)]]


async def test_names_met_again_use_up_no_ids(db: Opened) -> None:
    """A collector that has to ask for all names anew takes no new ids for them; a changed unit is taken over."""
    await db.store.write([sample(1, Metric("m", 1.0), Metric("n", 1.0))])
    for seq in range(2, 12):
        db.store._writer.forget()
        await db.store.write([sample(seq, Metric("m", 1.0), Metric("n", 1.0, "bytes"), time=T0 + seq)])
    await db.store.write([sample(20, Metric("new", 1.0), host="db-1")])
    rows = await db.all("SELECT metric, unit, id FROM series ORDER BY id")
    assert [row[:2] for row in rows] == [("m", ""), ("n", "bytes"), ("new", "")]
    assert rows[-1][2] <= 4
    assert await db.all("SELECT name, id FROM hosts ORDER BY id") == [("web-1", 1), ("db-1", 2)]


async def test_refused_data_makes_no_name_forgotten(db: Opened) -> None:
    """One host that sends what cannot be stored, must not make us ask for all names again and again."""
    await db.store.write([sample(1, Metric("m", 1.0))])
    known = dict(db.store._writer._names.hosts)
    with pytest.raises(RefusedError):
        await db.store.write([sample(2, Metric("m", 1.0), time=1e300)])
    assert db.store._writer._names.hosts == known


async def test_a_clock_that_was_ahead_holds_up_no_probe(db: Opened) -> None:
    """Once a host's clock is set right, the latest run is the one that came last."""
    await db.store.write([sample(1, Metric("m", 1.0), time=db.clock.now() + 86400, status="error")])
    db.clock.tick(10)
    await db.store.write([sample(2, Metric("m", 1.0), time=db.clock.now())])
    [probe] = await db.store.reader.probes("web-1")
    assert probe.status == "ok"


async def test_label_order_makes_no_second_series(db: Opened) -> None:
    """Name and labels identify a series, whatever order the labels come in."""
    await db.store.write([sample(1, Metric("m", 1.0, labels={"a": "1", "b": "2"}))])
    await db.store.write([sample(2, Metric("m", 2.0, labels={"b": "2", "a": "1"}), time=T0 + 1)])
    [row] = await db.store.reader.series("web-1", "m", T0 - 60, T0 + 60)
    assert row.points == [(T0, 1.0), (T0 + 1, 2.0)]


async def test_names_that_differ_a_little_are_different(db: Opened) -> None:
    """Case, accents and trailing spaces matter: no collation folds two series into one."""
    names = ["m", "M", "m ", "mé", "me"]
    await db.store.write([sample(1, *(Metric(name, float(i)) for i, name in enumerate(names)))])
    rows = await db.store.reader.series("web-1", "*", T0 - 60, T0 + 60)
    assert {row.metric: row.points[0][1] for row in rows} == {name: float(i) for i, name in enumerate(names)}


async def test_wildcard_characters_in_a_prefix_are_plain(db: Opened) -> None:
    """`%` and `_` in a metric prefix match themselves only."""
    await db.store.write([sample(1, Metric("a_b.c", 1.0), Metric("axb.c", 2.0), Metric("a%", 3.0))])
    assert [r.metric for r in await db.store.reader.series("web-1", "a_b*", T0 - 60, T0 + 60)] == ["a_b.c"]
    assert [r.metric for r in await db.store.reader.series("web-1", "a%*", T0 - 60, T0 + 60)] == ["a%"]


async def test_of_two_samples_in_one_millisecond_the_last_wins(db: Opened) -> None:
    """Within a batch and across batches."""
    await db.store.write([sample(1, Metric("m", 1.0)), sample(2, Metric("m", 2.0))])
    [row] = await db.store.reader.series("web-1", "m", T0 - 60, T0 + 60)
    assert row.points == [(T0, 2.0)]
    await db.store.write([sample(3, Metric("m", 3.0))])
    [row] = await db.store.reader.series("web-1", "m", T0 - 60, T0 + 60)
    assert row.points == [(T0, 3.0)]


async def test_a_duplicate_is_told_and_changes_nothing(db: Opened) -> None:
    """The same bytes again, in a later batch, in the same one, after a restart: stored once."""
    first = sample(1, Metric("m", 1.0))
    again, new = sample(1, Metric("m", 1.0)), sample(2, Metric("m", 2.0), time=T0 + 1)
    assert (await db.store.write([first, again])).duplicates == [again]
    written = await db.store.write([again, new])
    assert (written.committed, written.duplicates, written.conflicts) == ([new], [again], [])
    other = await Store.open(db.url, clock=db.clock)
    written = await other.write([first, new])
    assert (written.committed, written.duplicates) == ([], [first, new])
    await other.aclose()
    assert await db.all("SELECT COUNT(*) FROM envelopes") == [(2,)]
    assert await db.all("SELECT COUNT(*) FROM samples") == [(2,)]


async def test_the_same_batch_object_twice_is_a_duplicate(db: Opened) -> None:
    """Even one and the same object: identity is (host, epoch, seq), not where it lies in memory."""
    item = sample(1, Metric("m", 1.0))
    written = await db.store.write([item, item])
    assert (written.committed, written.duplicates) == ([item], [item])


async def test_a_conflict_is_quarantined_and_the_first_stays(db: Opened) -> None:
    """Other bytes under one identity: kept for a human, told, and the stored sample untouched."""
    await db.store.write([sample(1, Metric("m", 1.0))])
    bad, new = sample(1, Metric("m", 666.0)), sample(2, Metric("m", 2.0), time=T0 + 1)
    within = sample(2, Metric("m", 667.0))
    written = await db.store.write([bad, new, within])
    assert (written.committed, written.conflicts) == ([new], [bad, within])
    [row] = await db.store.reader.series("web-1", "m", T0 - 60, T0 + 60)
    assert row.points == [(T0, 1.0), (T0 + 1, 2.0)]
    kept = await db.all("SELECT topic, payload, reason FROM quarantine ORDER BY id")
    assert [(topic, bytes(payload)) for topic, payload, _ in kept] == [
        ("tocsin/v1/web-1/metrics/cpu", bad.payload),
        ("tocsin/v1/web-1/metrics/cpu", within.payload),
    ]
    assert "conflict" in kept[0][2]


async def test_epochs_and_hosts_number_on_their_own(db: Opened) -> None:
    """seq 1 of another epoch or another host is no duplicate."""
    batch = [sample(1), sample(1, epoch=OTHER), sample(1, host="db-1")]
    assert (await db.store.write(batch)).committed == batch


async def test_a_large_batch_of_many_hosts(db: Opened) -> None:
    """More rows than one statement takes, more keys than one query takes, resent whole."""
    metrics = [[Metric(f"m{n}", float(n), labels={"core": str(n % 7)}) for n in range(8)] for _ in range(1500)]
    batch = [sample(1 + i // 50, *metrics[i], host=f"h{i % 50}", time=T0 + i // 50) for i in range(1500)]
    assert (await db.store.write(batch)).samples == 12000
    assert await db.all("SELECT COUNT(*) FROM samples") == [(12000,)]
    written = await db.store.write(batch)
    assert (len(written.duplicates), written.committed) == (1500, [])


async def test_two_collectors_with_the_same_messages(db: Opened) -> None:
    """Without coordination: every envelope is in once, and between them each was told both ways."""
    other = await Store.open(db.url, clock=db.clock)
    batches = [
        [sample(seq, Metric("m", float(seq)), time=T0 + seq) for seq in range(n, n + 40)] for n in range(1, 200, 20)
    ]

    async def feed(store: Store) -> int:
        return sum([len((await store.write(batch)).committed) for batch in batches])

    committed = await asyncio.gather(feed(db.store), feed(other))
    await other.aclose()
    assert sum(committed) == 220
    assert await db.all("SELECT COUNT(*), COUNT(DISTINCT seq) FROM envelopes") == [(220, 220)]


@pytest.mark.parametrize(
    "bad",
    [
        sample(2, Metric("m", 1.0), time=1e300),
        pytest.param(sample(2, Metric("m", 1.0), time=1e17), id="time over 64 bits in milliseconds"),
    ],
)
async def test_what_the_database_refuses(db: Opened, bad: Received) -> None:
    """The batch fails as a whole with RefusedError, leaves nothing, and without the bad one it passes."""
    good = sample(1, Metric("m", 1.0))
    with pytest.raises(RefusedError):
        await db.store.write([good, bad])
    assert await db.all("SELECT COUNT(*) FROM envelopes") == [(0,)]
    assert (await db.store.write([good])).committed == [good]


HOSTILE = {
    "NUL bytes": sample(2, Metric("m\0", 1.0, "u\0", labels={"a\0": "\0"}), error="\0'\\"),
    "long name": sample(2, Metric("m" * 100_000, 1.0)),
    "long unit": sample(2, Metric("m", 1.0, "u" * 100_000)),
    "long error": sample(2, Metric("m", 1.0), error="e" * 500_000),
    "long probe": sample(2, Metric("m", 1.0), probe="p" * 1000),
    "many labels": sample(2, Metric("m", 1.0, labels={str(n): "x" for n in range(50_000)})),
    "four bytes": sample(2, Metric("\U0001f514", 1.0, labels={"\U0001f514": "\U0001f514"})),
    "smallest": sample(2, Metric("m", 5e-324), time=-0.0),
    "long ago": sample(2, Metric("m", -0.0), time=-1e12),
    "largest": sample(2, Metric("m", 1.7976931348623157e308), duration=1e308),
    "large seq": sample(2**63 - 1, Metric("m", 1.0)),
    "large version": incident(10**30, seq=2),
    "long id": incident(1, seq=2, id="i" * 100_000),
    "large time": incident(1, seq=2, started_at=1e308),
    "large gap": received(
        wire.GapEnvelope(
            schema=1,
            host="web-1",
            epoch=EPOCH,
            seq=2,
            time=T0,
            gap=Gap("e" * 1000, ((-(10**40), 10**40),), 10**40, "bytes", -1e308, 1e308),
        ),
        "gaps",
        "",
    ),
}


@pytest.mark.parametrize("bad", HOSTILE.values(), ids=HOSTILE)
async def test_nothing_hostile_is_taken_for_a_lost_database(db: Opened, bad: Received) -> None:
    """What can be decoded is stored or refused, and what came with it can be stored; roll-ups and reads go on."""
    good = sample(1, Metric("good", 1.0), host="db-1")
    wire.decode_envelope(bad.topic, bad.payload)
    try:
        await db.store.write([bad, good])
    except RefusedError:
        await db.store.write([good])
    await roll(db)
    assert await db.all(
        "SELECT COUNT(*) FROM samples_1m m JOIN series s ON s.id = m.series_id WHERE metric = 'good'"
    ) == [(1,)]
    await db.store.reader.series("web-1", "m*", 0, T0 * 2, 7200)
    await db.store.reader.gaps()
    await db.store.reader.incidents()
    await db.store.reader.probes("web-1")


async def test_incidents_keep_the_highest_version(db: Opened) -> None:
    """Versions that arrive late do not turn an incident back; the timeline has them all."""
    await db.store.write(
        [incident(1, seq=1), incident(3, seq=3, severity=Severity.CRITICAL, state="resolved", resolved_at=T0 + 9)]
    )
    await db.store.write([incident(2, seq=2, severity=Severity.INFO)])
    row = await db.store.reader.incident("i-1")
    assert row is not None
    assert (row.version, row.severity, row.state, row.resolved_at) == (3, "critical", "resolved", T0 + 9)
    assert (row.host, row.labels, row.value, row.limit, row.op) == ("web-1", {"core": "0"}, 91.5, 90.0, ">")
    steps = await db.store.reader.transitions("i-1")
    assert [(s.version, s.kind) for s in steps] == [(1, "opened"), (2, "escalated"), (3, "escalated")]
    assert await db.store.reader.incident("I-1") is None


async def test_no_host_writes_to_the_incident_of_another(db: Opened) -> None:
    """An id that is taken stays with the host that opened it, its timeline too."""
    await db.store.write([incident(1)])
    await db.store.write([incident(9, host="evil", summary="mine now")])
    row = await db.store.reader.incident("i-1")
    assert row is not None
    assert (row.host, row.version, row.summary) == ("web-1", 1, "")
    assert [s.version for s in await db.store.reader.transitions("i-1")] == [1]


async def test_incidents_page_by_cursor(db: Opened) -> None:
    """Newest first, each once, also where several fired in one instant; a foreign cursor is a ValueError."""
    batch = [incident(1, seq=n, id=f"i-{n}", fired_at=T0 + n // 3, host=f"h{n % 2}") for n in range(1, 11)]
    await db.store.write(batch)
    seen: list[str] = []
    cursor = ""
    while True:
        rows, cursor = await db.store.reader.incidents(limit=3, cursor=cursor)
        seen += [row.id for row in rows]
        if not cursor:
            break
    assert seen == [i.id for i in sorted(await _every(db), key=lambda row: (row.fired_at, row.id), reverse=True)]
    assert len(seen) == 10
    assert {r.host for r in (await db.store.reader.incidents(host="h1"))[0]} == {"h1"}
    assert (await db.store.reader.incidents(state="resolved"))[0] == []
    with pytest.raises(ValueError):
        await db.store.reader.incidents(cursor="nonsense")


async def _every(db: Opened) -> list[Any]:
    return (await db.store.reader.incidents(limit=1000))[0]


@pytest.mark.parametrize("cursor", ["nan~x", "inf~x", "-inf~x", "1e999~x"])
async def test_a_cursor_that_is_no_time_is_refused(db: Opened, cursor: str) -> None:
    """The same on every database, and not mistaken for one that is away."""
    with pytest.raises(ValueError, match="cursor"):
        await db.store.reader.incidents(cursor=cursor)


async def test_gaps_and_probes_are_kept(db: Opened) -> None:
    """A gap record once, however often it comes; of a probe its newest run, however late the others come."""
    db.clock.tick(T0 + 60 - db.clock.now())
    gap = Gap(EPOCH, ((3, 5), (9, 9)), 4, "bytes", T0, T0 + 5)
    item = received(wire.GapEnvelope(schema=1, host="web-1", epoch=EPOCH, seq=7, time=T0, gap=gap), "gaps", "")
    await db.store.write([item])
    await db.store.write([item, sample(8, time=T0 + 8, status="timeout", error="took too long"), sample(6)])
    [row] = await db.store.reader.gaps("web-1")
    assert (row.count, row.reason, row.ranges, row.epoch) == (4, "bytes", [(3, 5), (9, 9)], EPOCH)
    await db.store.write([sample(9, time=T0 + 4)])
    [probe] = await db.store.reader.probes("web-1")
    assert (probe.probe, probe.time, probe.status, probe.error) == ("cpu", T0 + 8, "timeout", "took too long")
    assert await db.store.reader.gaps("db-1") == []


async def test_hosts_are_kept(db: Opened) -> None:
    """What save_hosts was told comes back; `first_seen` is never moved."""
    await db.store.write([sample(1)])
    row = HostRow("web-1", 5.0, T0, "online", EPOCH, 3, "0.1", {"role": "é"}, {"score": 99.5, "status": "EXCELLENT"})
    await db.store.save_hosts([row])
    [found] = await db.store.reader.hosts()
    assert dataclasses_equal(found, row, but="first_seen")
    assert found.first_seen == db.clock.now()


def dataclasses_equal(one: Any, other: Any, but: str) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in one.__struct_fields__ if name != but)


async def test_quarantine_is_bounded(db: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest stay; binary payloads and hostile topics are kept as they are; huge ones are cut."""
    monkeypatch.setattr(writer_module, "QUARANTINE_ROWS", 5)
    monkeypatch.setattr(writer_module, "QUARANTINE_PAYLOAD", 10)
    for n in range(4):
        await db.store.quarantine([Quarantined(f"t/{n}/{i}'", b"\x00\xff" * 9, "not JSON") for i in range(3)])
    kept = await db.all("SELECT topic, payload, reason FROM quarantine ORDER BY id")
    assert [topic for topic, _, _ in kept] == ["t/2/1'", "t/2/2'", "t/3/0'", "t/3/1'", "t/3/2'"]
    assert bytes(kept[0][1]) == b"\x00\xff" * 5
    assert kept[0][2] == "not JSON (18 bytes)"


async def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    """StoreError, which is not RefusedError: the same data may pass later."""
    for url in (f"sqlite:///{tmp_path}/no/such/folder/store.db", "mysql://root@127.0.0.1:9/none"):
        lost = Store(url)
        for call in (lost.migrate(), lost.write([sample(1)]), lost.reader.hosts()):
            with pytest.raises(StoreError) as caught:
                await call
            assert not isinstance(caught.value, RefusedError)
        await lost.aclose()


@pytest.mark.parametrize("url", ["postgresql://x/y", "sqlite://", "mysql://root@host", "nonsense"])
def test_a_url_that_is_no_store(url: str) -> None:
    """Refused at once, without a connection."""
    with pytest.raises(StoreError):
        Store(url)


DAY = 86400.0
KEPT = RetentionConfig()


async def roll(db: Opened, seconds: float = 60.0) -> None:
    """A while later everything that came is rolled up."""
    db.clock.tick(seconds)
    while await db.store.roll_minutes(db.clock.now(), KEPT.samples):
        pass
    while await db.store.roll_hours(db.clock.now(), KEPT.minutes):
        pass


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
    assert [row.id for row in await _every(db)] == ["i-1"]
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
