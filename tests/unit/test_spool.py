"""The spool: what is committed stays until it is acknowledged, and what a bound drops is told exactly."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
import threading
import time as systime
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.config.schema import SpoolConfig
from agent.config.units import Duration, Percent, Size
from agent.errors import SpoolError
from agent.model import Incident, Metric, ProbeResult, Severity, Transition, TransitionKind
from agent.transport.gaps import MAX_RANGES, Account, Ledger, Losses, merge
from agent.transport.item import Retain
from agent.transport.spool import Item, Priority, Spool
from agent.transport.spoolfile import Budget, SpoolFile, size_on_disk
from agent.transport.wire import Ack, GapEnvelope, IncidentEnvelope, MetricsEnvelope, Topic, decode
from tests.fakes.clock import ManualClock
from tests.services import eventually

HOST = "web-1"
EPOCH = "a" * 32
LATER = "b" * 32
MIB = 1024 * 1024


def config(max_bytes: int = 64 * MIB, max_age: float = 72 * 3600, min_free: float = 0) -> SpoolConfig:
    return SpoolConfig(max_bytes=Size(max_bytes), max_age=Duration(max_age), min_free_disk=Percent(min_free))


class Bench:
    """A spool with the fewest words around it."""

    def __init__(self, directory: Path, clock: ManualClock, settings: SpoolConfig) -> None:
        self.directory = directory
        self.clock = clock
        self.settings = settings
        self.spool: Spool

    async def open(self, epoch: str = EPOCH) -> Spool:
        self.epoch = epoch
        self.spool = await Spool.open(self.directory, self.settings, epoch, self.clock)
        return self.spool

    def sample(self, size: int = 10) -> int:
        now = self.clock.now()
        result = ProbeResult("p", now, "ok", 0.1, (Metric("p.x", 1.0, labels={"pad": "x" * size}),))
        return self.spool.put(
            Topic(HOST, "metrics", "p"),
            lambda seq: MetricsEnvelope.of(HOST, self.epoch, seq, result),
            priority=Priority.METRICS,
            time=now,
        )

    def incident(self, name: str = "i1", *, version: int = 1, resolved: bool = False, size: int = 0) -> int:
        now = self.clock.now()
        incident = Incident(
            id=name,
            host=HOST,
            threshold="t",
            metric="m",
            severity=Severity.WARNING,
            peak=Severity.WARNING,
            started_at=now,
            fired_at=now,
            updated_at=now,
            version=version,
            state="resolved" if resolved else "open",
            summary="s" * size,
        )
        kind = TransitionKind.RESOLVED if resolved else TransitionKind.OPENED
        transition = Transition(name, version, kind, Severity.WARNING, now)
        return self.spool.put(
            Topic(HOST, "incidents", name),
            lambda seq: IncidentEnvelope(
                schema=1, host=HOST, epoch=self.epoch, seq=seq, time=now, incident=incident, transition=transition
            ),
            priority=Priority.INCIDENT,
            time=now,
            retain=True,
        )

    async def send(self, limit: int = 10_000, backlog: int = 10_000) -> list[Item]:
        items = await self.spool.take(limit, backlog=backlog)
        for item in items:
            item.sent = True
        return items

    @property
    def file(self) -> Path:
        return self.directory / "spool.db"

    async def crash(self, into: Path) -> Bench:
        """What a kill -9 leaves on disk now, as a spool of its own; the old one is closed, its memory forgotten."""
        await asyncio.to_thread(shutil.copytree, self.directory, into)
        await self.spool.aclose()
        return Bench(into, self.clock, self.settings)


@pytest.fixture
async def bench(tmp_path, clock):
    bench = Bench(tmp_path / "spool", clock, config())
    await bench.open()
    yield bench
    await bench.spool.aclose()


def seqs(items) -> list[int]:
    return [item.seq for item in items]


def gap_sums(items) -> dict[str, set[int]]:
    """What these gap items speak for, by epoch; fails when two speak for the same envelope or miscount."""
    told: dict[str, set[int]] = {}
    for item in items:
        if item.priority == Priority.GAP:
            gap = decode(item.payload, GapEnvelope).gap
            numbers = {n for first, last in gap.ranges for n in range(first, last + 1)}
            assert gap.count == len(numbers)
            assert not told.setdefault(gap.epoch, set()) & numbers
            told[gap.epoch] |= numbers
    return told


async def test_only_committed_items_are_handed_out(bench):
    """Before the commit there is nothing to take; a second later there is."""
    bench.sample()
    assert await bench.send() == []
    await bench.clock.advance(1.01)
    await eventually(lambda: bench.spool.waiting, "the commit")
    assert seqs(await bench.send()) == [1]


async def test_an_incident_is_committed_at_once(bench):
    """An incident does not wait for the second, and takes along what was put before it."""
    bench.sample()
    bench.incident()
    await eventually(lambda: bench.spool.waiting == 2, "the commit")
    assert bench.clock.monotonic() == 0


async def test_one_commit_for_many(bench):
    """What comes within a second is one transaction: one fsync."""
    commits = []
    bench.spool.on_commit = lambda: commits.append(1)
    for _ in range(100):
        bench.sample()
    await bench.clock.advance(1.01)
    await eventually(lambda: bench.spool.waiting == 100, "the commit")
    assert commits == [1]


async def test_order_is_incidents_then_newest_first(bench):
    """Alerts overtake, and the present comes before the past."""
    for _ in range(3):
        bench.sample()
    bench.incident()
    for _ in range(2):
        bench.sample()
    await bench.spool.flush()
    assert seqs(await bench.send()) == [4, 6, 5, 3, 2, 1]


async def test_what_is_taken_is_not_taken_again(bench):
    """Two takes never share an item, and `waiting` counts down."""
    for _ in range(5):
        bench.sample()
    await bench.spool.flush()
    assert seqs(await bench.send(2)) == [5, 4]
    assert bench.spool.waiting == 3
    assert seqs(await bench.send()) == [3, 2, 1]
    assert await bench.send() == []


async def test_what_was_taken_for_nobody_is_taken_again(bench):
    """A connection that is lost while the disk is asked leaves nothing behind that only a restart would send."""
    numbers = [bench.sample() for _ in range(3)]
    await bench.spool.flush()
    held = threading.Event()
    bench.spool._worker.run(held.wait)
    asking = asyncio.create_task(bench.spool.take(10, backlog=10))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking})
    held.set()
    await bench.spool._worker.run(lambda: None)
    assert seqs(await bench.send()) == numbers[::-1]


async def test_backlog_is_rationed(bench):
    """Of what is old only as many as allowed, of what is new all, of incidents all."""
    for _ in range(10):
        bench.sample()
    bench.incident()
    bench.clock.tick(100)
    for _ in range(3):
        bench.sample()
    await bench.spool.flush()
    items = await bench.send(backlog=2)
    assert seqs(items) == [11, 14, 13, 12, 10, 9]
    assert [bench.spool.is_backlog(item) for item in items] == [False, False, False, False, True, True]
    assert await bench.send(backlog=0) == []


async def test_ack_deletes_what_was_sent_and_nothing_else(bench):
    """`upto`, `also`, and an epoch; what was never sent stays, whatever an ack claims."""
    for _ in range(6):
        bench.sample()
    await bench.spool.flush()
    sent = await bench.send(4)
    assert seqs(sent) == [6, 5, 4, 3]
    assert bench.spool.ack(Ack("f" * 32, 100)) == []
    assert seqs(bench.spool.ack(Ack(EPOCH, 3, (6, 99)))) == [6, 3]
    assert bench.spool.ack(Ack(EPOCH, 3, (6,))) == []
    assert bench.spool.stats().ignored == 2
    assert seqs(bench.spool.ack(Ack(EPOCH, 2**62))) == [5, 4]
    await bench.spool.flush()
    assert bench.spool.stats().pending == 2
    assert seqs(await bench.send()) == [2, 1]


async def test_kill_and_restart_keeps_the_committed(bench, tmp_path):
    """After a kill -9 what was committed is sent with its own epoch and number, byte for byte; the rest never was."""
    for _ in range(3):
        bench.sample()
    await bench.spool.flush()
    before = {item.key: item.payload for item in await bench.send(2)}
    bench.sample()
    after = await bench.crash(tmp_path / "after")
    await after.open(LATER)
    after.sample()
    await after.spool.flush()
    items = await after.send()
    assert [item.key for item in items] == [(LATER, 1), (EPOCH, 3), (EPOCH, 2), (EPOCH, 1)]
    assert all(before.get(item.key, item.payload) == item.payload for item in items)
    assert seqs(after.spool.ack(Ack(EPOCH, 3))) == [3, 2, 1]
    await after.spool.aclose()
    await after.open("c" * 32)
    assert [item.key for item in await after.send()] == [(LATER, 1)]
    await after.spool.aclose()


async def test_bound_on_disk_is_never_exceeded(tmp_path, clock):
    """4 MiB of bound and 40 MiB of samples: the files stay below, and kept + told is exactly what was put."""
    bench = Bench(tmp_path, clock, config(4 * MIB))
    await bench.open()
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            peak[0] = max(peak[0], sum(file.stat().st_size for file in tmp_path.glob("spool.db*")))
            systime.sleep(0.0005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    incidents, samples = set(), set()
    for turn in range(200):
        samples |= {bench.sample(1000) for _ in range(100)}
        samples.add(bench.sample(100_000))
        if turn % 10 == 0:
            incidents.add(bench.incident(f"i{turn}"))
        clock.tick(1)
        await bench.spool.flush()
    stop.set()
    watcher.join()
    assert peak[0] <= 4 * MIB
    assert peak[0] > 2 * MIB
    stats = bench.spool.stats()
    assert stats.bytes <= 4 * MIB
    items = await bench.send()
    kept = {item.seq for item in items if item.priority != Priority.GAP}
    told = gap_sums(items)
    assert set(told) == {EPOCH}
    assert kept | told[EPOCH] == samples | incidents
    assert not kept & told[EPOCH]
    assert incidents <= kept
    assert len([item for item in items if item.priority == Priority.GAP]) == 1
    assert stats.evicted == len(told[EPOCH])
    assert not stats.memory_only
    newest = sorted(kept - incidents)[-100:]
    assert newest == sorted(samples)[-100:]
    await bench.spool.aclose()


async def test_incidents_go_last_and_are_told(tmp_path, clock):
    """When incidents alone exceed the bound, the oldest of them go too, and every one is told."""
    bench = Bench(tmp_path, clock, config(MIB))
    await bench.open()
    put = set()
    for number in range(400):
        put.add(bench.incident(f"i{number}", size=5000))
        if number % 40 == 0:
            await bench.spool.flush()
    await bench.spool.flush()
    items = await bench.send()
    kept = {item.seq for item in items if item.priority == Priority.INCIDENT}
    assert kept | gap_sums(items)[EPOCH] == put
    assert max(put) in kept
    assert min(put) not in kept
    assert size_on_disk(bench.file) <= MIB
    await bench.spool.aclose()


async def test_a_sent_gap_record_is_frozen(tmp_path, clock):
    """Once handed out a gap record keeps its bytes for ever, and the next eviction begins another."""
    bench = Bench(tmp_path, clock, config(MIB))
    await bench.open()
    everything: dict[tuple[str, int], bytes] = {}
    put: set[int] = set()
    for _ in range(5):
        put |= {bench.sample(2000) for _ in range(400)}
        await bench.spool.flush()
        for item in await bench.send(limit=1):
            assert item.priority == Priority.GAP
            everything[item.key] = item.payload
    assert len(everything) == 5
    bench = await bench.crash(tmp_path / "again")
    await bench.open(LATER)
    items = await bench.send()
    for item in items:
        assert everything.pop(item.key, item.payload) == item.payload
    assert not everything
    told = gap_sums(items)[EPOCH]
    kept = {item.seq for item in items if item.priority == Priority.METRICS}
    assert told | kept == put
    assert not told & kept
    await bench.spool.aclose()


async def test_gap_records_are_not_changed_by_the_next_process(tmp_path, clock):
    """A record of an earlier process may have been sent: it stays, and new losses of that epoch get a new one."""
    bench = Bench(tmp_path, clock, config(MIB))
    await bench.open()
    put = {bench.sample(2000) for _ in range(600)}
    await bench.spool.flush()
    await bench.spool.aclose()
    await bench.open(LATER)
    put_later = {bench.sample(2000) for _ in range(600)}
    await bench.spool.flush()
    items = await bench.send()
    told = gap_sums(items)
    kept = {epoch: {i.seq for i in items if i.epoch == epoch and i.priority == 0} for epoch in (EPOCH, LATER)}
    assert told[EPOCH] | kept[EPOCH] == put
    assert told[LATER] | kept[LATER] == put_later
    await bench.spool.aclose()


async def test_old_samples_are_dropped_by_age_and_told(tmp_path, clock):
    """Past `max_age` samples go, incidents stay."""
    bench = Bench(tmp_path, clock, config(max_age=3600))
    await bench.open()
    old = {bench.sample() for _ in range(1200)}
    alarm = bench.incident()
    await bench.spool.flush()
    clock.tick(3700)
    fresh = bench.sample()
    await bench.spool.flush()
    items = await bench.send()
    assert {item.seq for item in items if item.priority != Priority.GAP} == {alarm, fresh}
    assert gap_sums(items) == {EPOCH: old}
    [gap] = [decode(item.payload, GapEnvelope).gap for item in items if item.priority == Priority.GAP]
    assert gap.reason == "age"
    assert (gap.first_time, gap.last_time) == (1_790_000_000.0, 1_790_000_000.0)
    await bench.spool.aclose()


async def test_low_disk_stops_the_growth(tmp_path, clock):
    """With less free disk than wanted the file no longer grows; the newest replaces the oldest, reason "disk"."""
    bench = Bench(tmp_path, clock, config(4 * MIB, min_free=100))
    await bench.open()
    put = set()
    for _ in range(20):
        put |= {bench.sample(1000) for _ in range(50)}
        await bench.spool.flush()
    items = await bench.send()
    assert size_on_disk(bench.file) < MIB
    kept = {item.seq for item in items if item.priority == 0}
    assert kept | gap_sums(items)[EPOCH] == put
    assert max(put) in kept
    assert {decode(item.payload, GapEnvelope).gap.reason for item in items if item.priority == 1} == {"disk"}
    await bench.spool.aclose()


async def test_an_envelope_that_is_too_large_is_told(bench):
    """One that could never be delivered is a gap at once, not a clog."""
    huge = bench.sample(2 * MIB)
    small = bench.sample()
    await bench.spool.flush()
    items = await bench.send()
    assert gap_sums(items) == {EPOCH: {huge}}
    assert small in seqs(items)


async def test_disk_space_is_given_back(tmp_path, clock):
    """After a backlog is through, the file shrinks again, a little with each commit."""
    bench = Bench(tmp_path, clock, config(16 * MIB))
    await bench.open()
    for _ in range(25):
        for _ in range(100):
            bench.sample(2000)
        await bench.spool.flush()
    assert size_on_disk(bench.file) > 8 * MIB
    bench.spool.settle(await bench.send())
    commits = 0
    while size_on_disk(bench.file) > 2 * MIB:
        bench.sample()
        await bench.spool.flush()
        commits += 1
    assert 10 < commits < 200
    await bench.spool.aclose()


async def test_a_lower_bound_than_before_is_reached(tmp_path, clock):
    """A bound that was lowered between two starts holds after the first commit, told to the envelope."""
    bench = Bench(tmp_path, clock, config(16 * MIB))
    await bench.open()
    put = {bench.sample(2000) for _ in range(4000)}
    await bench.spool.flush()
    await bench.spool.aclose()
    bench.settings = config(2 * MIB)
    await bench.open(LATER)
    await bench.spool.flush()
    assert size_on_disk(bench.file) <= 2 * MIB
    items = await bench.send()
    kept = {item.seq for item in items if item.priority == 0}
    assert kept | gap_sums(items)[EPOCH] == put
    await bench.spool.aclose()


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


async def test_one_process_at_a_time(bench):
    """A second process on the same directory is an error, and does not set the file aside."""
    bench.sample()
    await bench.spool.flush()
    code = (
        "import asyncio,sys;from pathlib import Path;from agent.transport.spool import Spool;"
        "from agent.config.schema import SpoolConfig;from agent.clock import SystemClock;"
        "asyncio.run(Spool.open(Path(sys.argv[1]), SpoolConfig(), 'e'*32, SystemClock()))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(bench.directory), stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert b"SpoolError" in errors
    assert b"in use by another process" in errors
    assert not list(bench.directory.glob("*corrupt*"))


async def test_second_spool_in_this_process(bench):
    """The same within one process."""
    with pytest.raises(SpoolError):
        await Spool.open(bench.directory, config(), LATER, SystemClock())


async def test_only_the_newest_of_a_topic_is_retained(bench):
    """An older version of an incident that is sent later, or again, must not overwrite what the broker keeps."""
    bench.incident(version=1)
    await bench.spool.flush()
    [old] = await bench.send()
    assert old.retain == Retain.KEEP
    bench.incident(version=2)
    assert old.retain == Retain.NO
    bench.incident(version=3, resolved=True)
    await bench.spool.flush()
    assert [(item.seq, item.retain) for item in await bench.send()] == [(3, Retain.FINAL), (2, Retain.NO)]


async def test_a_resolved_incident_is_cleared_after_its_ack(bench, tmp_path):
    """The broker's copy goes once the collector has the end of it; a crash in between only repeats the clearing."""
    bench.incident(version=1)
    bench.incident(version=2, resolved=True)
    await bench.spool.flush()
    await bench.send()
    assert bench.spool.clears == set()
    bench.spool.ack(Ack(EPOCH, 2))
    topic = f"tocsin/v1/{HOST}/incidents/i1"
    assert bench.spool.clears == {topic}
    await bench.spool.flush()
    after = await bench.crash(tmp_path / "after")
    spool = await after.open(LATER)
    assert spool.clears == {topic}
    spool.cleared(topic)
    await spool.flush()
    await spool.aclose()
    assert (await after.open("c" * 32)).clears == set()
    await after.spool.aclose()


async def test_a_reopened_topic_is_not_cleared(bench):
    """A new message that the broker shall keep takes back the wish to clear its topic."""
    bench.incident(version=1, resolved=True)
    await bench.spool.flush()
    bench.spool.settle(await bench.send())
    await bench.spool.flush()
    assert bench.spool.clears
    bench.incident(version=2)
    assert bench.spool.clears == set()
    await bench.spool.flush()
    assert bench.spool.clears == set()


async def test_old_retained_rows_of_an_earlier_process(bench, tmp_path):
    """The next process knows which of two versions on one topic is the last word."""
    bench.incident(version=1)
    await bench.spool.flush()
    after = await bench.crash(tmp_path / "after")
    await after.open(LATER)
    after.incident(version=2)
    await after.spool.flush()
    assert [(i.epoch, i.retain) for i in await after.send()] == [(LATER, Retain.KEEP), (EPOCH, Retain.NO)]
    await after.spool.aclose()


async def test_stats(bench):
    """The figures that the host shows about its spool."""
    start = bench.spool.stats()
    assert (start.pending, start.oldest_age, start.memory_only) == (0, 0.0, False)
    bench.sample()
    await bench.spool.flush()
    bench.clock.tick(30)
    bench.sample()
    await bench.send()
    stats = bench.spool.stats()
    assert (stats.pending, stats.unacked, stats.oldest_age) == (2, 1, 30.0)
    assert stats.bytes == size_on_disk(bench.file) > 0
    await bench.spool.flush()
    assert bench.spool.stats().last_commit == bench.clock.monotonic()


async def test_close_commits_what_waits(tmp_path, clock):
    """A clean stop loses nothing, and leaves one file."""
    bench = Bench(tmp_path, clock, config())
    await bench.open()
    bench.sample()
    await bench.spool.aclose()
    assert [file.name for file in tmp_path.iterdir()] == ["spool.db"]
    await bench.open(LATER)
    assert [item.key for item in await bench.send()] == [(EPOCH, 1)]
    await bench.spool.aclose()


def test_merge_ranges():
    """Ranges in any order come out sorted, neighbours joined."""
    assert merge([(5, 6)], [(1, 1)], [(2, 3), (9, 9)]) == ((1, 3), (5, 6), (9, 9))
    assert merge([(1, 5)], [(2, 3)]) == ((1, 5),)
    assert merge() == ()


def test_a_record_with_many_ranges_is_closed():
    """No record outgrows a payload: after so many ranges a new one begins."""
    numbers = iter(range(1, 100))
    ledger = Ledger(numbers.__next__)
    account = Account(HOST, EPOCH, "bytes")
    told = 0
    for block in range(3):
        losses = Losses()
        losses.add(account, [(n, n) for n in range(block * 2000, block * 2000 + 2 * MAX_RANGES, 2)], 0, 1)
        records = ledger.book(losses)
        ledger.settle(records)
        assert [record.seq for record in records] == [block + 1]
        told += records[0].loss.count
    assert told == 3 * MAX_RANGES


def test_budget_leaves_room_for_the_wal():
    """Database and WAL together stay below the bound by construction, small or large."""
    for size in (MIB, 4 * MIB, 256 * MIB, 10 * 1024 * MIB):
        budget = Budget.of(size)
        largest = max(budget.largest, budget.chunk)
        assert budget.pages * 4096 + budget.wal_pages * 4120 + largest < size
