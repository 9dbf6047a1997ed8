"""The spool's file: SQLite with WAL and full fsync, and never larger on disk than it may be.

The bound holds for database and WAL together, at every moment: the database has a hard limit of pages,
transactions are kept small (`Budget.chunk`), and a checkpoint after each that outgrew `Budget.wal_pages`
lets the next one start the WAL anew. Free pages are used again, and given back little by little.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from agent.transport.item import Item, Priority

PAGE = 4096
VERSION = 1
MIN_BYTES = 512 * 1024
SCHEMA = f"""
CREATE TABLE envelopes (
  id INTEGER PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL, priority INTEGER NOT NULL,
  retain INTEGER NOT NULL, time REAL NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL);
CREATE INDEX envelopes_priority ON envelopes (priority);
CREATE TABLE clears (topic TEXT PRIMARY KEY) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""
# Only this constant is ever put into a statement; values are bound.
COLUMNS = "epoch, seq, topic, payload, priority, retain, time, id"


class DamagedError(Exception):
    """The file is no spool of ours, or not whole."""


class Budget(msgspec.Struct, frozen=True):
    """How a bound in bytes is shared out: `pages` of database, the rest for the WAL.

    `chunk` bytes of payload go into one transaction, or `step` deletions; an envelope above `largest` is not taken.
    """

    pages: int
    wal_pages: int
    chunk: int
    step: int
    largest: int

    @classmethod
    def of(cls, max_bytes: int) -> Budget:
        total = max(max_bytes, MIN_BYTES)
        reserve = min(total // 4, 8 * 1024 * 1024)
        return cls(
            pages=(total - reserve) // PAGE,
            wal_pages=max(8, min(256, total // 32 // PAGE)),
            chunk=min(1024 * 1024, total // 32),
            step=max(8, min(500, reserve // PAGE // 8)),  # each may touch some pages, and none may fill the WAL
            largest=min(1024 * 1024, total // 16),
        )

    @property
    def target(self) -> int:
        """Pages to be in use at most after a transaction; the rest is room for what estimates miss."""
        return self.pages - max(8, self.pages // 50)


def pages_for(items: Iterable[Item]) -> int:
    """An upper estimate of what these take, index and half-filled pages included."""
    return 4 + sum(2 * (len(item.payload) + len(item.topic) + 150) for item in items) // PAGE


class SpoolFile:
    """An open spool file. Belongs to the thread that opened it. Methods raise sqlite3.Error."""

    def __init__(self, path: Path, budget: Budget) -> None:
        """Opens or makes it; DamagedError when it cannot be trusted."""
        self.path = path
        self.budget = budget
        self._db = sqlite3.connect(path, isolation_level=None, timeout=1.0)
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self._db.close()
            if is_damage(error) or _code(error) == sqlite3.SQLITE_ERROR:  # the latter: tables that are not ours
                raise DamagedError(str(error)) from error
            raise
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        execute = self._db.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")  # one process, and no shared-memory file beside it
        execute("PRAGMA auto_vacuum = INCREMENTAL")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA cache_size = -512")
        execute("PRAGMA secure_delete = OFF")  # freed pages must not go into the WAL only to be zeroed
        execute("PRAGMA cache_spill = OFF")  # a page goes into the WAL once per transaction
        execute(f"PRAGMA wal_autocheckpoint = {self.budget.wal_pages}")
        execute(f"PRAGMA journal_size_limit = {self.budget.wal_pages * PAGE}")
        execute(f"PRAGMA max_page_count = {self.budget.pages}")
        execute("BEGIN EXCLUSIVE")
        execute("COMMIT")
        version = self._value("PRAGMA user_version")
        if version == 0 and self._value("SELECT count(*) FROM sqlite_master") == 0:
            self._db.executescript(f"BEGIN;{SCHEMA}COMMIT;")
        elif version != VERSION:
            raise DamagedError(f"version {version} is not known here")
        verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise DamagedError(verdict)
        self._value("SELECT count(*) FROM clears")
        self._db.execute(f"SELECT {COLUMNS} FROM envelopes LIMIT 1").fetchall()  # noqa: S608

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            raise

    def insert(self, item: Item) -> int:
        """The row that it got. What an older message left as retained on its topic is no longer wanted."""
        if item.retain:
            self._db.execute(
                "UPDATE envelopes SET retain = 0 WHERE priority = ? AND topic = ? AND retain > 0",
                (item.priority, item.topic),
            )
            self._db.execute("DELETE FROM clears WHERE topic = ?", (item.topic,))
        cursor = self._db.execute(
            f"INSERT INTO envelopes ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",  # noqa: S608
            (item.epoch, item.seq, item.topic, item.payload, item.priority, item.retain, item.time),
        )
        return cursor.lastrowid or 0

    def replace(self, row: int, payload: bytes, time: float) -> None:
        self._db.execute("UPDATE envelopes SET payload = ?, time = ? WHERE id = ?", (payload, time, row))

    def delete(self, items: Iterable[Item]) -> int:
        """Of these, what is still there; a row that is another's by now stays."""
        cursor = self._db.executemany(
            "DELETE FROM envelopes WHERE id = ? AND seq = ? AND epoch = ?",
            [(item.row, item.seq, item.epoch) for item in items],
        )
        return cursor.rowcount

    def clear(self, topic: str) -> None:
        """Remember that the broker still keeps a message here that it should not."""
        self._db.execute("INSERT OR IGNORE INTO clears VALUES (?)", (topic,))

    def cleared(self, topics: Iterable[str]) -> None:
        self._db.executemany("DELETE FROM clears WHERE topic = ?", [(topic,) for topic in topics])

    def clears(self) -> list[str]:
        return [topic for (topic,) in self._db.execute("SELECT topic FROM clears")]

    def times(self, priority: Priority) -> dict[str, float]:
        """By topic, of when the latest is."""
        select = "SELECT topic, max(time) FROM envelopes WHERE priority = ? GROUP BY topic"
        return dict(self._db.execute(select, (priority,)))

    def oldest(self, priority: Priority, limit: int) -> list[Item]:
        """The oldest of a priority. The payload is left out but for gaps, whose content must be kept on eviction."""
        payload = "payload" if priority is Priority.GAP else "x''"
        columns = COLUMNS.replace("payload", payload)
        return self._items(f"SELECT {columns} FROM envelopes WHERE priority = ? ORDER BY id LIMIT ?", priority, limit)  # noqa: S608

    def oldest_time(self) -> float | None:
        times = [item.time for priority in Priority for item in self.oldest(priority, 1)]
        return min(times, default=None)

    def newest_rows(self, priority: Priority) -> Iterator[int]:
        """Rows of a priority, newest first, read as far as they are asked for."""
        cursor = self._db.execute("SELECT id FROM envelopes WHERE priority = ? ORDER BY id DESC", (priority,))
        for (row,) in cursor:
            yield row

    def load(self, row: int) -> Item:
        return self._items(f"SELECT {COLUMNS} FROM envelopes WHERE id = ?", row)[0]  # noqa: S608

    def count(self) -> int:
        return self._value("SELECT count(*) FROM envelopes")

    def free_pages(self) -> int:
        return self._value("PRAGMA freelist_count")

    def all_pages(self) -> int:
        return self._value("PRAGMA page_count")

    def give_back(self) -> bool:
        """Return some free pages to the file system, if there are many; whether there may be more to return."""
        total, free = self.all_pages(), self.free_pages()
        above = total > self.budget.pages
        if not free or not (above or free > max(64, total // 4)):
            return False
        # A script, as the pragma does one page per step, and `execute` would take but one.
        self._db.executescript(f"PRAGMA incremental_vacuum({max(8, self.budget.wal_pages // 2)})")
        if above:
            self._db.execute(f"PRAGMA max_page_count = {self.budget.pages}")
        return above and self.all_pages() < total

    def trim_wal(self) -> None:
        """Empty a WAL that one transaction has made large; raises what a checkpoint by itself would hide."""
        with contextlib.suppress(FileNotFoundError):
            if Path(f"{self.path}-wal").stat().st_size > 2 * self.budget.wal_pages * PAGE:
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        self._db.close()

    def _value(self, query: str) -> int:
        value: int = self._db.execute(query).fetchone()[0]
        return value

    def _items(self, query: str, *parameters: float) -> list[Item]:
        return [Item(*row) for row in self._db.execute(query, parameters)]


def is_damage(error: sqlite3.Error) -> bool:
    """Whether this file will never work again, as opposed to a disk that is full or refuses for now."""
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)


def is_busy(error: sqlite3.Error) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_full(error: sqlite3.Error) -> bool:
    return _code(error) == sqlite3.SQLITE_FULL


def _code(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def size_on_disk(path: Path) -> int:
    """Bytes of database and WAL."""
    total = 0
    for name in (path, Path(f"{path}-wal")):
        with contextlib.suppress(OSError):
            total += name.stat().st_size
    return total


def set_aside(path: Path, now: float) -> Path:
    """Move a damaged file (and its WAL) out of the way, for people to look at. Only the newest one is kept."""
    for old in path.parent.glob(f"{path.name}.corrupt-*"):
        old.unlink(missing_ok=True)
    target = path.with_name(f"{path.name}.corrupt-{int(now)}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").replace(f"{target}{suffix}")
    return target


def census(path: Path) -> list[Item]:
    """What a damaged file still says it held, as far as it can be read; payloads left out but for gaps."""
    found: list[Item] = []
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as db:
        columns = COLUMNS.replace("payload", f"CASE priority WHEN {int(Priority.GAP)} THEN payload ELSE x'' END")
        found.extend(Item(*row) for row in db.execute(f"SELECT {columns} FROM envelopes ORDER BY id"))  # noqa: S608
    return [item for item in found if isinstance(item.epoch, str) and isinstance(item.seq, int)]
