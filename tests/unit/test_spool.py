"""The spool: what is committed stays until it is acknowledged, and is handed out in order."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from agent.clock import SystemClock
from agent.errors import SpoolError
from agent.transport.item import Priority, Retain
from agent.transport.spool import Spool
from agent.transport.spoolfile import size_on_disk
from agent.transport.wire import Ack
from tests.services import eventually
from tests.unit.spools import EPOCH, HOST, LATER, Bench, config, seqs


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


async def test_what_an_earlier_process_has_left_is_known_by_topic(bench, tmp_path):
    """With the time of the newest; what was acknowledged is not there any more."""
    acked = bench.incident("i1")
    bench.incident("i2")
    bench.sample()
    bench.clock.tick(5)
    bench.incident("i2", version=2)
    await bench.spool.flush()
    await bench.send()
    bench.spool.ack(Ack(EPOCH, 0, (acked,)))
    await bench.spool.flush()
    after = await (await bench.crash(tmp_path / "after")).open(LATER)
    assert await after.times(Priority.INCIDENT) == {f"tocsin/v1/{HOST}/incidents/i2": bench.clock.now()}
    await after.aclose()


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


async def test_a_clock_that_is_set_does_not_age_what_waits(bench, clock) -> None:
    bench.sample()
    assert bench.spool.stats().oldest_age == 0.0
    clock.tick(30)
    clock.set_back(-3600)
    assert bench.spool.stats().oldest_age == 30.0


async def test_a_clock_that_is_set_ages_none_of_those_that_wait(bench, clock) -> None:
    """Also not who becomes the oldest only after that."""
    for _ in range(2):
        bench.sample()
        await bench.spool.flush()
        clock.tick(30)
    clock.set_back(-3600)
    _, oldest = await bench.send()
    bench.spool.ack(Ack(EPOCH, oldest.seq))
    await bench.spool.flush()
    assert bench.spool.stats().oldest_age == 30.0
