"""The bounded queue on disk: what must reach the collector waits here until the collector has it.

The event loop side. `put` never blocks; one writer thread commits about once a second, an incident at once.
Only what is committed is handed out for sending, and only an acknowledgement deletes it. While the disk fails,
what waits in memory is handed out too, so that a host with a full disk is not blind.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from agent.clock import Clock
from agent.config.schema import SpoolConfig
from agent.transport.gaps import Account
from agent.transport.item import Item, Priority, Retain, SpoolStats
from agent.transport.journal import RING, Batch, Journal, Report
from agent.transport.wire import Ack, Envelope, IncidentEnvelope, Topic, encode

__all__ = ["Item", "Priority", "Spool", "SpoolStats"]
T = TypeVar("T")
FILE = "spool.db"
COMMIT_AFTER = 1.0
"""Seconds that samples wait for company before they are committed together."""
HASTE = 256 * 1024
"""Bytes that wait for company at most."""
DELETE_AFTER = 5.0
"""Seconds that a deletion waits for a commit to go with: a crash before it means a duplicate, not a loss."""
RETRY_AFTER = 5.0
STUCK_AFTER = 15.0
CLOSE_WITHIN = 5.0
FRESH = 60.0
"""Seconds after which a sample counts as backlog."""
AGES = 1024
"""Of so many that wait, the oldest of them, it is known when they were put."""


class Spool:
    """Use `await Spool.open(...)` and `await aclose()`."""

    def __init__(self, directory: Path, config: SpoolConfig, epoch: str, clock: Clock) -> None:
        self.config = config
        self._clock = clock
        self._epoch = epoch
        self._seqs = itertools.count(1)
        self._journal = Journal(directory / FILE, config, epoch, self._seqs.__next__)
        self._worker = _Worker()
        self._batch = Batch()
        self._batch_bytes = 0
        self._taken: dict[tuple[str, int], Item] = {}
        self._newest: dict[str, int] = {}
        self._report = Report(0, 0, 0, None, 0, "")
        self._writing: asyncio.Future[None] | None = None
        self._writing_since = 0.0
        self._urgent = False
        self._pacer: asyncio.Task[None] | None = None
        self._pacer_due = 0.0
        self._last_commit = clock.monotonic()
        self._aging: tuple[float, float] | None = None
        self._put_at: dict[float, float] = {}
        self._ignored = 0
        self._closed = False
        self._waiting = 0
        self.clears: set[str] = set()
        """Topics on which the broker still keeps the last message of an incident that is over."""
        self.on_commit: Callable[[], None] = lambda: None
        """Called after each commit: there may be something to take."""

    @classmethod
    async def open(cls, directory: Path, config: SpoolConfig, epoch: str, clock: Clock) -> Spool:
        """SpoolError when another process uses this directory; a damaged file is set aside, never an error."""
        spool = cls(directory, config, epoch, clock)
        try:
            spool._take_in(await spool._worker.run(spool._journal.open, clock.now()))
        except BaseException:
            spool._worker.stop()
            raise
        if spool._report.error:
            spool._arm(RETRY_AFTER)
        return spool

    def put(
        self,
        topic: Topic,
        build: Callable[[int], Envelope],
        *,
        priority: Priority,
        time: float,
        retain: bool = False,
    ) -> int:
        """Queue the envelope that `build` makes for its number, and return that number.

        `retain` lets the broker keep it for who comes later; that of a resolved incident until it is acknowledged.
        """
        seq = next(self._seqs)
        envelope = build(seq)
        keep = Retain.NO
        if retain:
            over = isinstance(envelope, IncidentEnvelope) and envelope.incident.state == "resolved"
            keep = Retain.FINAL if over else Retain.KEEP
        item = Item(self._epoch, seq, str(topic), encode(envelope), priority, keep, time)
        if len(self._put_at) < AGES:
            self._put_at.setdefault(time, self._clock.monotonic())
        if len(item.payload) > self._journal.budget.largest:
            self._lose(item, topic.host, "bytes")
        else:
            if retain:
                self._supersede(item)
            self._batch.items.append(item)
            self._batch_bytes += len(item.payload)
            self._bound_batch()
        if priority is Priority.INCIDENT or self._batch_bytes > HASTE:
            self._submit(urgent=True)
        else:
            self._arm(COMMIT_AFTER)
        return seq

    async def take(self, limit: int, *, backlog: int) -> list[Item]:
        """Up to `limit` items to send: incidents, then gaps, then samples, each newest first.

        At most `backlog` of them samples that are old or of an earlier process. They stay taken, in memory and on
        disk, until they are acknowledged (`ack`, `settle`) or this process ends.
        """
        fresh_since = self._clock.now() - FRESH
        taking = self._worker.run(self._journal.take, limit, backlog, fresh_since)
        try:
            items, waiting = await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(self._give_back)
            raise
        self._waiting = waiting
        for item in items:
            self._taken[item.key] = item
            newest = self._newest.get(item.topic)
            if newest is not None and item.key != (self._epoch, newest):
                item.retain = Retain.NO
        return items

    async def times(self, priority: Priority) -> dict[str, float]:
        """By topic, of when the latest is that waits on disk to be acknowledged; nothing where that cannot be read."""
        with contextlib.suppress(sqlite3.Error):  # the next commit says so
            return await self._worker.run(self._journal.times, priority)
        return {}

    def _give_back(self, taking: asyncio.Future[tuple[list[Item], int]]) -> None:
        """Who asked is gone, as its connection is: what was handed out to nobody may be taken again."""
        if not taking.cancelled() and taking.exception() is None:
            items, _ = taking.result()
            self._worker.run(self._journal.give_back, items)

    @property
    def waiting(self) -> int:
        """Items that could be taken, as of the last commit or take."""
        return self._waiting

    @property
    def taken(self) -> Iterable[tuple[str, int]]:
        """What is handed out and not yet acknowledged, nor evicted."""
        return self._taken.keys()

    def is_backlog(self, item: Item) -> bool:
        """Whether this is an old sample, which waits its turn; anything else is news."""
        fresh = item.epoch == self._epoch and item.time >= self._clock.now() - FRESH
        return item.priority == Priority.METRICS and not fresh

    def _supersede(self, item: Item) -> None:
        """From now on the broker keeps this one on its topic, and no older one that is sent again."""
        self._newest[item.topic] = item.seq
        self.clears.discard(item.topic)
        for older in self._taken.values():
            if older.topic == item.topic:
                older.retain = Retain.NO

    def ack(self, ack: Ack) -> list[Item]:
        """Let go of what the collector vouches for, out of what was really sent to it; the rest is ignored, counted."""
        also = frozenset(ack.also)
        hits = [
            item
            for item in self._taken.values()
            if item.sent and item.epoch == ack.epoch and (item.seq <= ack.upto or item.seq in also)
        ]
        if not hits:
            self._ignored += 1
        self.settle(hits)
        return hits

    def settle(self, items: Iterable[Item]) -> None:
        """These have arrived where they should: delete them, with the next commit."""
        for item in items:
            if self._taken.pop(item.key, None) is None:
                continue
            if item.retain == Retain.FINAL:
                self.clears.add(item.topic)
                self._newest.pop(item.topic, None)
            self._batch.acked.append(item)
        if self._batch.acked:
            self._arm(DELETE_AFTER)

    def cleared(self, topic: str) -> None:
        """The broker keeps nothing on this topic any more."""
        self.clears.discard(topic)
        self._batch.cleared.append(topic)
        self._arm(DELETE_AFTER)

    async def flush(self) -> None:
        """Return once all that was put before is committed, or the disk has refused it (see `stats`)."""
        await self._idle()
        self._submit(urgent=True)
        await self._idle()

    async def _idle(self) -> None:
        while (writing := self._writing) is not None:
            await asyncio.wait({writing})

    async def aclose(self) -> None:
        """Commit what waits, and close the file. Bounded in time: a disk that hangs does not hold up the end."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN):
                await self.flush()
                await self._worker.run(self._journal.close)
        if self._pacer is not None:
            self._pacer.cancel()
        self._worker.stop()

    def stats(self) -> SpoolStats:
        report = self._report
        stuck = self._writing is not None and self._clock.monotonic() - self._writing_since > STUCK_AFTER
        times = [] if report.oldest is None else [report.oldest]
        times += [item.time for item in self._batch.items[:1]]
        return SpoolStats(
            pending=max(0, report.pending + len(self._batch.items) - len(self._batch.acked)),
            bytes=report.bytes,
            oldest_age=self._age(min(times, default=None)),
            evicted=report.evicted,
            unacked=sum(item.sent for item in self._taken.values()),
            ignored=self._ignored,
            memory_only=bool(report.error) or stuck,
            last_commit=self._last_commit,
        )

    def _age(self, oldest: float | None) -> float:
        """Seconds since then. A clock that is set meanwhile does not age what waits: we count from when it was put, and
        what an earlier process left from first sight on.
        """
        now = self._clock.monotonic()
        if oldest is None:
            return 0.0
        while self._put_at and (first := next(iter(self._put_at))) < oldest:
            del self._put_at[first]
        if (put_at := self._put_at.get(oldest)) is not None:
            return now - put_at
        if self._aging is None or self._aging[0] != oldest:
            self._aging = oldest, now - max(0.0, self._clock.now() - oldest)
        return now - self._aging[1]

    # -- towards the writer thread

    def _arm(self, delay: float) -> None:
        """A commit after `delay` seconds, or sooner."""
        due = self._clock.monotonic() + delay
        if self._pacer is not None and not self._pacer.done():
            if self._pacer_due <= due:
                return
            self._pacer.cancel()
        self._pacer_due = due
        self._pacer = asyncio.get_running_loop().create_task(self._pace(delay))

    async def _pace(self, delay: float) -> None:
        await self._clock.sleep(delay)
        self._submit()

    def _submit(self, *, urgent: bool = False) -> None:
        """Hand the batch over; one at a time, so that what a slow disk holds up is bounded here."""
        if self._writing is not None:
            self._urgent = self._urgent or urgent or bool(self._batch)
            return
        if not self._batch and not self._report.error and not urgent:
            return
        batch, self._batch, self._batch_bytes = self._batch, Batch(), 0
        loop = asyncio.get_running_loop()
        self._writing = loop.create_future()
        self._writing_since = self._clock.monotonic()
        done = self._worker.run(self._journal.commit, batch, self._clock.now())
        done.add_done_callback(self._written)

    def _written(self, done: asyncio.Future[Report]) -> None:
        writing, self._writing = self._writing, None
        if writing is not None and not writing.done():
            writing.set_result(None)
        if done.cancelled():
            return
        self._take_in(done.result())
        if not self._report.error:
            self._last_commit = self._clock.monotonic()
        urgent, self._urgent = self._urgent, False
        if urgent and self._batch:
            self._submit(urgent=True)
        elif self._report.error:
            self._arm(RETRY_AFTER)
        self.on_commit()

    def _take_in(self, report: Report) -> None:
        self._report = report
        self._waiting = report.waiting
        pending = {item.topic for item in self._batch.items if item.retain} | set(self._batch.cleared)
        self.clears |= set(report.clears) - pending
        for key in report.gone:
            self._taken.pop(key, None)

    def _bound_batch(self) -> None:
        """While the writer hangs, memory stays bounded: the least valuable goes, counted."""
        while self._batch_bytes > RING:
            victim = min(self._batch.items, key=lambda item: (item.priority, item.seq))
            self._batch.items.remove(victim)
            self._batch_bytes -= len(victim.payload)
            self._lose(victim, victim.topic.split("/")[2], "disk")

    def _lose(self, item: Item, host: str, reason: Any) -> None:
        self._batch.losses.add(Account(host, item.epoch, reason), [(item.seq, item.seq)], item.time, item.time)


class _Worker:
    """One thread that runs calls in order. A daemon: a disk that hangs must not hold up our exit."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="spool", daemon=True).start()

    def run(self, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def deliver(result: T | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def call() -> None:
            result, error = None, None
            try:
                result = function(*arguments)
            except BaseException as caught:  # noqa: BLE001 - whatever it is, it belongs to the caller
                error = caught
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(deliver, result, error)

        self._calls.put(call)
        return future

    def stop(self) -> None:
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call
