"""The spool on disks that lie, fill, hang and fail."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading

import pytest

from agent.transport.spool import Priority
from agent.transport.spoolfile import SpoolFile
from agent.transport.wire import Ack, GapEnvelope, decode
from tests.services import eventually
from tests.unit.spools import EPOCH, LATER, Bench, config, gap_sums, seqs


@pytest.mark.parametrize("damage", ["garbage", "empty-header", "foreign", "truncated", "newer"])
async def test_a_damaged_file_is_set_aside(tmp_path, clock, damage, caplog):
    """The spool starts with a new file, keeps the old one for people, and says so; what can be counted is told."""
    bench = Bench(tmp_path, clock, config())
    await bench.open()
    put = {bench.sample(3000) for _ in range(100)}
    await bench.spool.flush()
    await bench.spool.aclose()
    if damage == "garbage":
        bench.file.write_bytes(os.urandom(50_000))
    elif damage == "empty-header":
        bench.file.write_bytes(b"\0" * 100 + bench.file.read_bytes()[100:])
    elif damage == "truncated":
        bench.file.write_bytes(bench.file.read_bytes()[: 20 * 4096])
    else:
        with sqlite3.connect(bench.file) as db:
            db.execute("DROP TABLE envelopes" if damage == "foreign" else "PRAGMA user_version = 99")
        db.close()
    await bench.open(LATER)
    assert "set aside" in caplog.text
    assert len(list(tmp_path.glob("spool.db.corrupt-*"))) == 1
    fresh = bench.sample()
    await bench.spool.flush()
    items = await bench.send()
    assert (LATER, fresh) in [item.key for item in items]
    told = gap_sums(items)
    assert told.get(EPOCH, set()) <= put
    if damage == "newer":
        assert told == {EPOCH: put}
    if told:
        assert {decode(i.payload, GapEnvelope).gap.reason for i in items if i.priority == 1} == {"corrupt"}
    assert not bench.spool.stats().memory_only
    await bench.spool.aclose()


async def test_damage_while_running(tmp_path, clock, caplog):
    """A file that breaks under us is replaced, what memory holds is written again, and sending goes on."""
    bench = Bench(tmp_path, clock, config())
    await bench.open()
    for _ in range(200):
        bench.sample(3000)
    await bench.spool.flush()
    sent = await bench.send(10)
    db = bench.spool._journal._file._db
    await bench.spool._worker.run(lambda: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    size = bench.file.stat().st_size
    with bench.file.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    await bench.spool._worker.run(lambda: db.execute("PRAGMA shrink_memory").fetchall())
    fresh = bench.sample()
    await bench.spool.flush()
    assert "set aside" in caplog.text
    assert not bench.spool.stats().memory_only
    assert bench.spool.ack(Ack(EPOCH, 0, tuple(seqs(sent)))) == sent
    assert fresh in seqs(await bench.send())
    await bench.spool.flush()
    await bench.spool.aclose()


@pytest.fixture
def broken_disk(monkeypatch):
    """A switch: while it is on, every transaction fails as on a full disk."""
    switch = {"on": False, "error": sqlite3.OperationalError("database or disk is full")}
    insert = SpoolFile.insert

    def failing(self, item):
        if switch["on"]:
            raise switch["error"]
        return insert(self, item)

    monkeypatch.setattr(SpoolFile, "insert", failing)
    return switch


async def test_full_disk(bench, broken_disk, caplog):
    """A disk that takes nothing: items wait in memory, are still sent, and are written when it recovers."""
    broken_disk["on"] = True
    first = bench.sample()
    second = bench.incident()
    await bench.spool.flush()
    stats = bench.spool.stats()
    assert stats.memory_only
    assert stats.pending == 2
    sent = await bench.send(1)
    assert seqs(sent) == [second]
    broken_disk["on"] = False
    await bench.clock.advance(5.01)
    await eventually(lambda: not bench.spool.stats().memory_only, "the retry")
    assert bench.spool.ack(Ack(EPOCH, 0, (second,))) == sent
    await bench.spool.flush()
    assert seqs(await bench.send()) == [first]
    assert bench.spool.stats().pending == 1
    assert [r.message for r in caplog.records if r.levelname in ("ERROR", "WARNING")] == [
        "spool cannot write, envelopes wait in memory",
        "spool writes again",
    ]


async def test_memory_is_bounded_while_the_disk_fails(bench, broken_disk, monkeypatch):
    """What falls off the ring in memory is told later, to the envelope, and incidents do not fall off first."""
    monkeypatch.setattr("agent.transport.journal.RING", 100_000)
    broken_disk["on"] = True
    put = {bench.incident()}
    for _ in range(10):
        put |= {bench.sample(1000) for _ in range(50)}
        await bench.spool.flush()
    assert sum(len(item.payload) for item in bench.spool._journal._ring.values()) <= 100_000
    broken_disk["on"] = False
    await bench.spool.flush()
    items = await bench.send()
    kept = {item.seq for item in items if item.priority != Priority.GAP}
    told = gap_sums(items)[EPOCH]
    assert kept | told == put
    assert not kept & told
    assert min(put) in kept
    assert {decode(item.payload, GapEnvelope).gap.reason for item in items if item.priority == 1} == {"disk"}
    assert bench.spool.stats().evicted == len(told)


async def test_memory_is_bounded_while_the_disk_hangs(bench, monkeypatch):
    """A write that never comes back: puts go on, memory stays bounded, and the spool says that it is stuck."""
    monkeypatch.setattr("agent.transport.spool.RING", 50_000)
    gate = threading.Event()
    bench.spool._worker.run(gate.wait)
    put = {bench.sample(1000) for _ in range(10)}
    flushing = asyncio.create_task(bench.spool.flush())
    await asyncio.sleep(0)
    for _ in range(200):
        put.add(bench.sample(1000))
    assert bench.spool._batch_bytes <= 50_000
    bench.clock.tick(20)
    assert bench.spool.stats().memory_only
    gate.set()
    await flushing
    await bench.spool.flush()
    assert not bench.spool.stats().memory_only
    items = await bench.send()
    kept = {item.seq for item in items if item.priority == 0}
    assert kept | gap_sums(items)[EPOCH] == put


async def test_unusable_directory(tmp_path, clock):
    """A state directory that cannot be made: no error at start, all in memory, and on disk once it can."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    bench = Bench(blocked / "spool", clock, config())
    await bench.open()
    bench.sample()
    await bench.spool.flush()
    assert bench.spool.stats().memory_only
    assert seqs(await bench.send()) == [1]
    blocked.unlink()
    await bench.spool.flush()
    assert not bench.spool.stats().memory_only
    assert bench.file.exists()
    await bench.spool.aclose()
