"""The spool's bounds: never exceeded, and what they drop is told exactly."""

from __future__ import annotations

import threading
import time as systime

from agent.transport.gaps import MAX_RANGES, Account, Ledger, Losses, merge
from agent.transport.spool import Priority
from agent.transport.spoolfile import Budget, size_on_disk
from agent.transport.wire import GapEnvelope, decode
from tests.unit.spools import EPOCH, HOST, LATER, MIB, Bench, config, gap_sums, seqs


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
