"""What every store must do, whichever database is behind it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from msgspec import structs

from agent.collector.store import HostRow, Quarantined, Store
from agent.collector.store import writer as writer_module
from agent.collector.store.schema import metadata
from agent.errors import RefusedError, StoreError
from agent.model import Evidence, Gap, Metric, Severity
from agent.transport import wire
from tests.contract.stores import EPOCH, OTHER, T0, Opened, every_incident, incident, received, sample


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


async def test_an_incident_comes_back_as_its_host_has_sent_it(db: Opened) -> None:
    """Whole: a collector that begins to write for a host has it from here."""
    words = ("unit", "grade", "summary", "runbook", "acknowledged_by", "muted", "forecast", "history_unit")
    given = incident(
        1,
        state="resolved",
        resolved_at=T0 + 1,
        acknowledged_at=T0 + 1,
        peak_value=99.5,
        flapping=True,
        history=(1.5, None),
        evidence=(Evidence("Most", ("nginx",)),),
        **{name: name for name in words},
    )
    assert isinstance(given.envelope, wire.IncidentEnvelope)
    sent = given.envelope.incident
    assert not [one.name for one in structs.fields(sent) if getattr(sent, one.name) == one.default], "all is said"
    await db.store.write([given])
    row = await db.store.reader.incident("i-1")
    assert row is not None
    assert row.incident() == sent


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
    assert seen == [
        i.id for i in sorted(await every_incident(db), key=lambda row: (row.fired_at, row.id), reverse=True)
    ]
    assert len(seen) == 10
    assert {r.host for r in (await db.store.reader.incidents(host="h1"))[0]} == {"h1"}
    assert (await db.store.reader.incidents(state="resolved"))[0] == []
    with pytest.raises(ValueError):
        await db.store.reader.incidents(cursor="nonsense")


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
