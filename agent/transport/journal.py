"""What the spool's one writer thread does: group commits, evictions with their gap records, reads.

Everything here runs in that thread alone. What the disk does not take stays in a bounded ring in memory and
is tried again with the next commit.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec

from agent.config.schema import SpoolConfig
from agent.errors import SpoolError, WireError
from agent.transport.gaps import Account, Ledger, Losses, Reason, Record
from agent.transport.item import Item, Priority, Retain
from agent.transport.spoolfile import (
    Budget,
    DamagedError,
    SpoolFile,
    census,
    is_busy,
    is_damage,
    is_full,
    pages_for,
    set_aside,
    size_on_disk,
)
from agent.transport.wire import GapEnvelope, Topic, decode, encode, parse_topic

log = logging.getLogger(__name__)
RING = 4 * 1024 * 1024
"""Bytes of payload that memory holds at most while the disk takes none."""
AGE_CHECK = 60.0
CALM = 600.0
EVICT_STEP = 16


class Batch(msgspec.Struct):
    """What the event loop hands over: new items, acknowledged ones, topics that are cleared, losses of its own."""

    items: list[Item] = msgspec.field(default_factory=list)
    acked: list[Item] = msgspec.field(default_factory=list)
    cleared: list[str] = msgspec.field(default_factory=list)
    losses: Losses = msgspec.field(default_factory=Losses)

    def __bool__(self) -> bool:
        return bool(self.items or self.acked or self.cleared or self.losses)


class Report(msgspec.Struct, frozen=True):
    """How things stand after a commit. `error` is "" when all is on disk; `gone` were evicted while taken."""

    pending: int
    waiting: int
    bytes: int
    oldest: float | None
    evicted: int
    error: str
    clears: tuple[str, ...] = ()
    gone: tuple[tuple[str, int], ...] = ()


class Journal:
    def __init__(self, path: Path, config: SpoolConfig, epoch: str, next_seq: Callable[[], int]) -> None:
        self._path = path
        self._config = config
        self._epoch = epoch
        self.budget = Budget.of(config.max_bytes)
        self._ledger = Ledger(next_seq)
        self._file: SpoolFile | None = None
        self._count = 0
        self._ring: dict[tuple[str, int], Item] = {}
        self._taken: dict[tuple[str, int], Item] = {}
        self._todo = Batch()
        self._gone: list[tuple[str, int]] = []
        self._evicted = 0
        self._error = ""
        self._age_checked = float("-inf")
        self._dropped_at: float | None = None

    def open(self, now: float) -> Report:
        """SpoolError when another process has it. A damaged file is set aside, a disk that fails is tried again."""
        try:
            self._reopen(now)
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, sqlite3.Error) and is_busy(error):
                raise SpoolError(f"{self._path} is in use by another process") from error
            self._fail(error)
        return self._report()

    def commit(self, batch: Batch, now: float) -> Report:
        """All that waits to be written, in as many small transactions as it takes."""
        self._ring.update((item.key, item) for item in batch.items)
        self._todo.acked += batch.acked
        self._todo.cleared += batch.cleared
        self._todo.losses.extend(batch.losses)
        for attempt in (1, 2):
            try:
                self._write_all(now)
                self._recover()
                break
            except (sqlite3.Error, OSError) as error:
                damaged = isinstance(error, sqlite3.Error) and is_damage(error)
                self._fail(error)
                if not damaged or attempt == 2:
                    break
                with contextlib.suppress(OSError):
                    self._abandon(str(error), now)
        self._trim_ring()
        return self._report()

    def take(self, limit: int, backlog: int, fresh_since: float) -> tuple[list[Item], int]:
        """Up to `limit` items that nobody has taken yet, incidents first and newest first; and how many more wait.

        Of samples older than `fresh_since`, or of an earlier process, at most `backlog`. What was taken stays
        taken until it is acknowledged.
        """
        chosen = self._from_ring(limit) if self._error else []
        try:
            if self._file is not None:
                self._from_file(self._file, chosen, limit, backlog, fresh_since)
        except sqlite3.Error as error:
            self._fail(error)
        for item in chosen:
            self._taken[item.key] = item
            if item.priority == Priority.GAP:
                self._ledger.freeze(item.seq)
        return chosen, self._waiting()

    def give_back(self, items: list[Item]) -> None:
        """These were taken for nobody, and nobody has sent them."""
        for item in items:
            self._taken.pop(item.key, None)

    def times(self, priority: Priority) -> dict[str, float]:
        return {} if self._file is None else self._file.times(priority)

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(sqlite3.Error):
                self._file.close()
            self._file = None

    # -- reading

    def _from_ring(self, limit: int) -> list[Item]:
        free = [item for item in self._ring.values() if item.key not in self._taken]
        free.sort(key=lambda item: (item.priority, item.seq), reverse=True)
        return free[:limit]

    def _from_file(self, file: SpoolFile, chosen: list[Item], limit: int, backlog: int, fresh_since: float) -> None:
        taken = {item.row for item in self._taken.values()}
        for priority in sorted(Priority, reverse=True):
            rows = file.newest_rows(priority)
            for row in rows:
                if len(chosen) >= limit:
                    return
                if row in taken:
                    continue
                item = file.load(row)
                if priority is Priority.METRICS and (item.epoch != self._epoch or item.time < fresh_since):
                    if backlog <= 0:
                        break
                    backlog -= 1
                chosen.append(item)

    def _waiting(self) -> int:
        return max(0, self._count + (len(self._ring) if self._error else 0) - len(self._taken))

    def _report(self) -> Report:
        oldest = None
        clears: tuple[str, ...] = ()
        if self._file is not None:
            with contextlib.suppress(sqlite3.Error):
                oldest = self._file.oldest_time()
                clears = tuple(self._file.clears())
        times = [item.time for item in self._ring.values()]
        gone, self._gone = tuple(self._gone), []
        return Report(
            pending=self._count + len(self._ring),
            waiting=self._waiting(),
            bytes=size_on_disk(self._path),
            oldest=min([*times, oldest] if oldest is not None else times, default=None),
            evicted=self._evicted,
            error=self._error,
            clears=clears,
            gone=gone,
        )

    # -- writing

    def _write_all(self, now: float) -> None:
        file = self._file or self._reopen(now)
        more = True
        while more or self._ring or self._todo:
            more = self._write(file, now)
            file.trim_wal()
            while file.give_back():
                file.trim_wal()

    def _write(self, file: SpoolFile, now: float) -> bool:
        """One transaction, with memory following once it is on disk; whether there is more to evict by age.

        It deletes what was acknowledged, or what is too old, or it writes: all at once would be too much for the WAL.
        """
        acked = self._todo.acked[: self.budget.step]
        for item in acked:  # acknowledged before it was ever written: nothing to write any more
            self._ring.pop(item.key, None)
        losses = Losses(self._todo.losses)
        evicted: list[Item] = []
        age_due = not acked and not 0 <= now - self._age_checked < AGE_CHECK
        chunk = [] if acked or age_due else self._chunk()
        with file.transaction():
            deleted = self._delete_acked(file, acked)
            more = age_due and self._evict_by_age(file, now, losses, evicted)
            self._make_room(file, pages_for(chunk), losses, evicted)
            booked = self._ledger.book(losses)
            records = [self._place(file, record, now) for record in booked]
            rows = [file.insert(item) for item in chunk]
        created = sum(record.row == 0 for record in booked)
        self._count += len(chunk) + created - deleted - len(evicted)
        self._count_evicted(len(evicted) + self._todo.losses.count, losses, now)
        for item, row in zip(chunk, rows, strict=True):
            item.row = row
            del self._ring[item.key]
        for item in acked:
            self._taken.pop(item.key, None)
        self._gone += [item.key for item in evicted if self._taken.pop(item.key, None) is not None]
        self._ledger.settle(records)
        self._todo = Batch(acked=self._todo.acked[len(acked) :])
        if age_due and not more:
            self._age_checked = now
        return more

    def _delete_acked(self, file: SpoolFile, acked: list[Item]) -> int:
        for item in acked:
            if item.retain == Retain.FINAL:
                file.clear(item.topic)
        file.cleared(self._todo.cleared)
        return file.delete(acked)

    def _place(self, file: SpoolFile, record: Record, now: float) -> Record:
        """Write a gap record, new or grown."""
        payload = encode(record.envelope(self._epoch, now))
        if record.row:
            file.replace(record.row, payload, now)
            return record
        topic = str(Topic(record.account.host, "gaps"))
        item = Item(self._epoch, record.seq, topic, payload, Priority.GAP, Retain.NO, now)
        return msgspec.structs.replace(record, row=file.insert(item))

    def _count_evicted(self, count: int, losses: Losses, now: float) -> None:
        """One line when dropping begins, and one when it has ended."""
        self._evicted += count
        if count:
            if self._dropped_at is None:
                reasons = ",".join(sorted({account.reason for account, _ in losses}))
                log.warning("spool drops envelopes", extra={"reasons": reasons, "spool": str(self._path)})
            self._dropped_at = now
        elif self._dropped_at is not None and now - self._dropped_at > CALM:
            log.info("spool drops no more", extra={"dropped": self._evicted, "spool": str(self._path)})
            self._dropped_at = None

    def _chunk(self) -> list[Item]:
        """The next items to write: the important ones first, and not too many bytes."""
        chunk: list[Item] = []
        size = 0
        for item in sorted(self._ring.values(), key=lambda item: -item.priority):
            size += len(item.payload) + 200
            if chunk and size > self.budget.chunk:
                break
            chunk.append(item)
        return chunk

    # -- bounds

    def _make_room(self, file: SpoolFile, need: int, losses: Losses, evicted: list[Item]) -> None:
        target, reason = self._target(file)
        while file.all_pages() - file.free_pages() + need > target:
            victims = self._victims(file)
            if not victims:
                return  # nothing is left to give: the file's hard limit decides
            self._evict(file, victims, reason, losses, evicted)

    def _target(self, file: SpoolFile) -> tuple[int, Reason]:
        """Pages that may be in use. A disk that runs low stops the growth: new goes in where old goes out."""
        target = self.budget.target
        disk = os.statvfs(self._path.parent)
        low = disk.f_bavail * 100.0 < float(self._config.min_free_disk) * disk.f_blocks
        if low and (used := max(file.all_pages(), self.budget.wal_pages)) < target:
            return used, "disk"
        return target, "bytes"

    def _victims(self, file: SpoolFile) -> list[Item]:
        """The least valuable: samples, then incidents, each oldest first; what is under way only when all else is gone.

        Gap records come last: they are small, and one that may have been sent, told again in another, would make
        the account wrong.
        """
        growing = self._ledger.rows
        taken = {item.row for item in self._taken.values()}
        for spared in (growing | taken, growing):
            for priority in (Priority.METRICS, Priority.INCIDENT, Priority.GAP):
                oldest = file.oldest(priority, EVICT_STEP + len(spared))
                if victims := [item for item in oldest if item.row not in spared][:EVICT_STEP]:
                    return victims
        return []

    def _evict_by_age(self, file: SpoolFile, now: float, losses: Losses, evicted: list[Item]) -> bool:
        """Samples past `max_age`. Incidents and gap records are few, and wait as long as it takes."""
        step, too_old = self.budget.step, now - float(self._config.max_age)
        oldest = file.oldest(Priority.METRICS, step + len(self._taken))
        victims = [item for item in oldest if item.time < too_old and item.key not in self._taken][:step]
        self._evict(file, victims, "age", losses, evicted)
        return len(victims) == step

    def _evict(self, file: SpoolFile, victims: list[Item], reason: Reason, losses: Losses, evicted: list[Item]) -> None:
        file.delete(victims)
        evicted += victims
        for item in victims:
            self._lose(item, reason, losses)
            if item.retain == Retain.FINAL:
                file.clear(item.topic)

    def _lose(self, item: Item, reason: Reason, losses: Losses) -> None:
        host = parse_topic(item.topic).host
        losses.add(Account(host, item.epoch, reason), [(item.seq, item.seq)], item.time, item.time)
        if item.priority == Priority.GAP:  # what it told must still be told
            with contextlib.suppress(WireError):
                gap = decode(item.payload, GapEnvelope).gap
                losses.add(Account(host, gap.epoch, gap.reason), gap.ranges, gap.first_time, gap.last_time)

    def _trim_ring(self) -> None:
        """Bound what waits in memory; the least valuable falls off, counted."""
        size = sum(len(item.payload) for item in self._ring.values())
        if size <= RING:
            return
        for item in sorted(self._ring.values(), key=lambda item: (item.priority, item.seq)):
            if size <= RING:
                return
            if item.key in self._taken:
                continue
            size -= len(item.payload)
            del self._ring[item.key]
            self._lose(item, "disk", self._todo.losses)

    # -- trouble

    def _reopen(self, now: float) -> SpoolFile:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = SpoolFile(self._path, self.budget)
        except DamagedError as error:
            file = self._abandon(str(error), now)
        self._file = file
        self._count = file.count()
        return file

    def _abandon(self, fault: str, now: float) -> SpoolFile:
        """Set the file aside and begin a new one. What memory still has is written again, the rest is told."""
        self.close()
        aside = set_aside(self._path, now)
        acked = {item.key for item in self._todo.acked}
        self._todo.acked.clear()
        for key, item in self._taken.items():
            item.row = 0
            if key not in acked:
                self._ring[key] = item
        self._taken = {key: item for key, item in self._taken.items() if key not in acked}
        lost = [item for item in census(aside) if item.key not in acked and item.key not in self._ring]
        for item in lost:
            if item.epoch == self._epoch and item.seq in self._ledger.seqs:
                item.payload = b""  # memory knows better what that one told
            with contextlib.suppress(WireError):
                self._lose(item, "corrupt", self._todo.losses)
        self._todo.losses.extend(self._ledger.clear())
        fields = {"file": str(aside), "error": fault, "lost": len(lost)}
        log.error("spool file was damaged and is set aside", extra=fields)
        self._file = file = SpoolFile(self._path, self.budget)
        self._count = 0
        return file

    def _fail(self, error: Exception) -> None:
        if not self._error:
            fields = {"spool": str(self._path), "error": str(error)}
            log.error("spool cannot write, envelopes wait in memory", extra=fields)
        self._error = str(error) or type(error).__name__
        if not isinstance(error, sqlite3.Error) or not (is_full(error) or is_busy(error)):
            self.close()  # and open it anew at the next try

    def _recover(self) -> None:
        if self._error:
            log.warning("spool writes again", extra={"spool": str(self._path)})
            self._error = ""
