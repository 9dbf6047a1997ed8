"""What was asked of this host and what became of it: one SQLite file, committed before anything is done.

`commands` holds each command's id, so that none is taken twice; `audit` every request and refusal, each entry
with the hash of the one before. Calls block on the disk (an fsync each): not for the event loop.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from agent.commands import JOURNAL
from agent.commands.payload import WINDOW, Args, Command, Reply

log = logging.getLogger(__name__)

FILE = JOURNAL
KEEP = 10_000
"""Commands whose ids are remembered; of those forgotten the latest `issued_at` becomes the floor."""
FIRST_HASH = bytes(32)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS commands (
    id TEXT PRIMARY KEY, issued_at REAL NOT NULL, state TEXT NOT NULL, reply BLOB NOT NULL, wanted INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS commands_open ON commands (id) WHERE state = 'accepted' OR wanted = 1;
CREATE TABLE IF NOT EXISTS floor (issued_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS audit (seq INTEGER PRIMARY KEY, entry BLOB NOT NULL, hash BLOB NOT NULL);
CREATE TRIGGER IF NOT EXISTS audit_stays BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_holds BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""

Execute = Callable[..., sqlite3.Cursor]
"""`connection.execute`, inside a transaction."""
Outcome = Literal["accepted", "refused", "done", "failed", "interrupted"]


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the audit: who asked for what, when, by which way ("key ops-1", "socket"), and what became of it."""

    time: float
    outcome: Outcome
    origin: str
    id: str = ""
    actor: str = ""
    verb: str = ""
    args: Args = {}
    reason: str = ""
    text: str = ""


class Journal:
    """The open file. A corrupt one is set aside; the new one then takes nothing that was issued before this moment."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        [row] = connection.execute("SELECT MAX(issued_at) FROM floor").fetchall()
        self.floor: float = row[0]
        last = connection.execute("SELECT hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
        self._hash: bytes = last[0] if last else FIRST_HASH

    @classmethod
    def open(cls, path: Path, now: float) -> Journal:
        """OSError or sqlite3.Error where it cannot be had. `now`: unix seconds."""
        try:
            return cls._open(path, now - WINDOW)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise
            aside = path.with_name(f"{path.name}.corrupt-{int(time.time())}")
            for tail in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    path.with_name(path.name + tail).rename(aside.with_name(aside.name + tail))
            log.error("journal of commands is corrupt, set aside", extra={"file": str(aside), "error": str(error)})
            return cls._open(path, now)  # what was taken by the one that is gone cannot be told from what is new

    @classmethod
    def _open(cls, path: Path, floor: float) -> Journal:
        # SQLite gives the files beside it the mode of this one: it must be ours alone before it is opened.
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA cache_size = -128")
            connection.executescript(_SCHEMA)
            connection.execute("INSERT INTO floor SELECT ? WHERE NOT EXISTS (SELECT 1 FROM floor)", (floor,))
            return cls(connection)
        except BaseException:
            connection.close()
            raise

    @classmethod
    def alone(cls, path: Path) -> Journal:
        """The file of an agent that does not run; sqlite3.OperationalError where one has it open, or there is none."""
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=0)
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            return cls(connection)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def recall(self, command_id: str) -> Reply | None:
        """The last answer to a command that was here before; None for a new one."""
        row = self._connection.execute("SELECT reply FROM commands WHERE id = ?", (command_id,)).fetchone()
        return msgspec.json.decode(row[0], type=Reply) if row else None

    def consume(self, command: Command, reply: Reply, entry: Entry, *, wanted: bool) -> None:
        """Take the command's id for ever, with its first answer. `wanted`: the final one is waited for over MQTT."""
        with self._transaction() as execute:
            execute(
                "INSERT INTO commands VALUES (?, ?, ?, ?, ?)",
                (command.id, command.issued_at, reply.state, msgspec.json.encode(reply), wanted),
            )
            digest = self._append(execute, entry)
            floor = self._raise_floor(execute, command.issued_at - WINDOW if wanted else self.floor)
        self._hash, self.floor = digest, floor

    def finish(self, reply: Reply, entry: Entry) -> None:
        """The final answer to a command that was accepted."""
        with self._transaction() as execute:
            row = (reply.state, msgspec.json.encode(reply), reply.id)
            execute("UPDATE commands SET state = ?, reply = ? WHERE id = ?", row)
            digest = self._append(execute, entry)
        self._hash = digest

    def note(self, entry: Entry) -> None:
        """A line of the audit alone."""
        with self._transaction() as execute:
            digest = self._append(execute, entry)
        self._hash = digest

    def lower_floor(self, now: float, entry: Entry) -> None:
        """Tell new from old from `now` on, where the clock was ahead once. Only where no key is trusted, nor will be,
        by which commands came: they could run again, as the ids that are forgotten are known by the floor alone.
        """
        with self._transaction() as execute:
            execute("UPDATE commands SET issued_at = MIN(issued_at, ?)", (now,))  # else the floor rises with them again
            execute("UPDATE floor SET issued_at = ?", (now,))
            digest = self._append(execute, entry)
        self._hash, self.floor = digest, now

    def accepted(self) -> list[str]:
        """Ids of commands that were begun and have no result."""
        return [row[0] for row in self._connection.execute("SELECT id FROM commands WHERE state = 'accepted'")]

    def wanted(self) -> list[Reply]:
        """Final answers that have not reached the broker."""
        rows = self._connection.execute("SELECT reply FROM commands WHERE wanted = 1 AND state <> 'accepted'")
        return [msgspec.json.decode(row[0], type=Reply) for row in rows]

    def published(self, command_id: str) -> None:
        self._connection.execute("UPDATE commands SET wanted = 0 WHERE id = ?", (command_id,))

    def _append(self, execute: Execute, entry: Entry) -> bytes:
        raw = msgspec.json.encode(entry)
        digest = hashlib.sha256(self._hash + raw).digest()
        execute("INSERT INTO audit (entry, hash) VALUES (?, ?)", (raw, digest))
        return digest

    def _raise_floor(self, execute: Execute, floor: float) -> float:
        """Forget the oldest beyond KEEP, but not when they were issued. The floor never sinks: a clock that is set
        back lets nothing in again.
        """
        old = "SELECT id, issued_at FROM commands ORDER BY rowid DESC LIMIT -1 OFFSET ?"
        forgotten = execute(old, (KEEP,)).fetchall()
        for command_id, _ in forgotten:
            execute("DELETE FROM commands WHERE id = ?", (command_id,))
        floor = max(self.floor, floor, *(issued_at for _, issued_at in forgotten))
        execute("UPDATE floor SET issued_at = ?", (floor,))
        return floor

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Execute]:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            yield execute
            execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                execute("ROLLBACK")
            raise


def entries(path: Path) -> Iterator[tuple[int, Entry, bytes]]:
    """(number, entry, hash) of every line of the audit, oldest first; sqlite3.Error where it cannot be read."""
    for seq, raw, digest in _rows(path):
        yield seq, msgspec.json.decode(raw, type=Entry), digest


def verify(path: Path) -> tuple[int, bytes, str]:
    """(lines, hash of the last, what is wrong); "" where every line is there and as it was written."""
    before, count = FIRST_HASH, 0
    for seq, raw, digest in _rows(path):
        if seq != count + 1:
            return count, before, f"line {count + 1} is missing"
        if hashlib.sha256(before + raw).digest() != digest:
            return count, before, f"line {seq} is not what was written"
        before, count = digest, seq
    return count, before, ""


def _rows(path: Path) -> Iterator[tuple[int, bytes, bytes]]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
        yield from connection.execute("SELECT seq, entry, hash FROM audit ORDER BY seq")
