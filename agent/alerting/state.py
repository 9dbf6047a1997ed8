"""What alerting remembers over a restart: one small SQLite file of facts by kind and key.

Callers change facts in memory, at once; one thread brings the file up to date and `flush` waits for it.
What could not be written (disk full) stays wanted and is tried again: alerting goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

log = logging.getLogger(__name__)
T = TypeVar("T")
Key = tuple[str, str]

RETRY_AFTER = 10.0
"""Seconds after a failed commit until the next one is tried."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (
    kind TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID
"""
_PUT = "INSERT INTO facts (kind, key, body) VALUES (?, ?, ?) ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body"
_DELETE = "DELETE FROM facts WHERE kind = ? AND key = ?"


class State:
    """Facts in memory, mirrored to the file. `State(None)` keeps them in memory alone."""

    def __init__(self, connection: sqlite3.Connection | None, path: Path | None = None) -> None:
        self._connection = connection
        self._path = path
        self._facts: dict[Key, bytes] = {}
        self._wanted: dict[Key, bytes | None] = {}
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[bool]]] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False
        self.memory_only = connection is None

    @classmethod
    async def open(cls, path: Path) -> State:
        """Never fails: a corrupt file is set aside, and without any file the facts live in memory."""
        return await asyncio.to_thread(cls._open, path)

    @classmethod
    def _open(cls, path: Path) -> State:
        try:
            try:
                return cls._load(path)
            except sqlite3.DatabaseError as error:
                if not _corrupt(error):
                    raise
                aside = _set_aside(path)
                log.error("alert state is corrupt, set aside", extra={"file": str(aside), "error": str(error)})
                return cls._load(path)
        except (OSError, sqlite3.Error) as error:
            log.error("alert state cannot be kept, in memory only", extra={"file": str(path), "error": str(error)})
            return cls(None, path)

    @classmethod
    def _load(cls, path: Path) -> State:
        path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite gives the files beside it the mode of this one: it must be ours alone before it is opened.
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        with contextlib.suppress(OSError):
            path.chmod(0o600)
        connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=2)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA cache_size = -256")
            connection.execute(_SCHEMA)
            _check(connection)
            state = cls(connection, path)
            state._facts = {(kind, key): body for kind, key, body in connection.execute("SELECT * FROM facts")}
        except BaseException:
            connection.close()
            raise
        return state

    def read(self, kind: str, shape: type[T]) -> dict[str, T]:
        """Every fact of a kind by key; what does not decode is told and left out."""
        decoder = msgspec.json.Decoder(shape)
        found: dict[str, T] = {}
        for (of, key), body in self._facts.items():
            if of != kind:
                continue
            try:
                found[key] = decoder.decode(body)
            except msgspec.DecodeError as error:
                log.error("alert state entry is not readable", extra={"kind": kind, "key": key, "error": str(error)})
        return found

    def put(self, facts: Mapping[Key, object | None]) -> None:
        """Set facts (None removes), all in one transaction, soon. Event loop side; never blocks on the disk."""
        bodies = {key: None if value is None else msgspec.json.encode(value) for key, value in facts.items()}
        changed = {key: body for key, body in bodies.items() if self._facts.get(key) != body}
        if not changed:
            return
        for key, body in changed.items():
            if body is None:
                del self._facts[key]
            else:
                self._facts[key] = body
        if self._connection is None:
            return
        with self._changed:
            self._wanted.update(changed)
            self._start()
            self._changed.notify()

    async def flush(self) -> bool:
        """Wait until all that was put is on the disk. False: it is not, only in memory (told in the log)."""
        if self._connection is None:
            return False
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        with self._changed:
            if not self._wanted:
                return True
            self._waiting.append((loop, future))
            self._start()
            self._changed.notify()
        return await future

    async def aclose(self) -> None:
        """One last commit, then close the file."""
        await self.flush()
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, 5)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="alert-state", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        """The one thread that writes. A batch that fails goes back to what is wanted, unless set anew since."""
        failed = False
        while True:
            with self._changed:
                if failed and not self._waiting and not self._closing:
                    self._changed.wait(RETRY_AFTER)
                while not (self._wanted or self._waiting or self._closing):
                    self._changed.wait()
                if self._closing and not self._waiting:
                    return
                batch, self._wanted = self._wanted, {}
                waiting, self._waiting = self._waiting, []
            failed = not self._commit(batch)
            if failed:
                with self._changed:
                    self._wanted = {**batch, **self._wanted}
            for loop, future in waiting:
                with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(_settle, future, not failed)

    def _commit(self, batch: dict[Key, bytes | None]) -> bool:
        connection = self._connection
        if connection is None or not batch:
            return connection is not None
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_DELETE, [key for key, body in batch.items() if body is None])
            connection.executemany(_PUT, [(*key, body) for key, body in batch.items() if body is not None])
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            if not self.memory_only:
                log.error(
                    "alert state cannot be written, in memory for now",
                    extra={"file": str(self._path), "error": str(error)},
                )
            self.memory_only = True
            return False
        if self.memory_only:
            log.warning("alert state is written again", extra={"file": str(self._path)})
        self.memory_only = False
        return True


def _settle(future: asyncio.Future[bool], written: bool) -> None:
    if not future.done():
        future.set_result(written)


def _check(connection: sqlite3.Connection) -> None:
    [(verdict,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
    if verdict != "ok":
        raise sqlite3.DatabaseError(f"malformed: {verdict}")


def _corrupt(error: sqlite3.DatabaseError) -> bool:
    """Damaged content, as against a disk that is full, read-only or locked."""
    return not isinstance(error, sqlite3.OperationalError) or "malformed" in str(error)


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.corrupt-{int(time.time())}")
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(aside.with_name(aside.name + suffix))
    return aside
