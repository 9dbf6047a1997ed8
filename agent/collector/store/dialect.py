"""Where SQLite and MySQL/MariaDB differ: how to connect, how to insert in bulk, what an error means.

Bulk statements take tuples straight to the driver. On MySQL the two hot ones are written as one statement's
text, which is up to a third faster than the driver's own executemany: they hold numbers, hex digits and
our own words only (see `EnvelopeRow`), so there is nothing to escape. Everything else is bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar

from sqlalchemy import event, exc
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from agent.errors import RefusedError, StoreError

BUSY_SECONDS = 20
ROWS_PER_STATEMENT = 4000
_DATA_FAULTS = frozenset({1048, 1153, 1264, 1265, 1366, 1406, 3140, 4025})
"""MySQL error numbers that the driver takes for operational, and that the same data will meet again."""

T = TypeVar("T")
_DEADLOCK = 1213

Row = tuple[Any, ...]
EnvelopeRow = tuple[int, str, int, bytes, str, float, float]
"""Host id, epoch (32 hex characters, checked by the wire codec), seq, fingerprint, kind, time, received."""

SQLITE_ROWS = 100
_SQLITE_ONE = "INSERT OR REPLACE INTO samples (series_id, time_ms, value) VALUES (?, ?, ?)"
_SQLITE_SEVERAL = _SQLITE_ONE + ", (?, ?, ?)" * (SQLITE_ROWS - 1)
"""Each run of a statement has its price, so samples go in by the hundred."""

ENVELOPE_COLUMNS = ("host_id", "epoch", "seq", "fingerprint", "kind", "time", "received")
SampleRow = tuple[int, int, float]
"""Series id, unix milliseconds, value (finite: JSON knows no other)."""


def open_engine(url: str, password: str | None = None) -> AsyncEngine:
    """An engine for "sqlite:///path" or "mysql://user@host:port/name"; connects only when used. StoreError."""
    try:
        parsed = make_url(url)
    except exc.ArgumentError as error:
        raise StoreError(f"not a store URL: {error}") from error
    family = parsed.drivername.split("+")[0]
    if password is not None:
        parsed = parsed.set(password=password)
    if family == "sqlite" and parsed.database:
        return _sqlite(parsed)
    if family in ("mysql", "mariadb") and parsed.database:
        return _mysql(parsed)
    raise StoreError(f'store: expected "sqlite:///path" or "mysql://user@host/name", got {family}://…')


def _sqlite(url: URL) -> AsyncEngine:
    engine = create_async_engine(
        url.set(drivername="sqlite+aiosqlite"),
        connect_args={"isolation_level": "IMMEDIATE", "timeout": BUSY_SECONDS},
    )

    def configure(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",  # we acknowledge after the commit: it must survive a power cut
            "cache_size=-65536",
            "temp_store=MEMORY",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    event.listen(engine.sync_engine, "connect", configure)
    return engine


def _mysql(url: URL) -> AsyncEngine:
    return create_async_engine(
        url.set(drivername="mysql+aiomysql", query={**url.query, "charset": "utf8mb4"}),
        isolation_level="READ COMMITTED",
        pool_recycle=3600,
        connect_args={
            "connect_timeout": 10,
            "init_command": "SET SESSION sql_mode='STRICT_ALL_TABLES', innodb_lock_wait_timeout=15",
        },
    )


def store_error(error: Exception) -> StoreError:
    """RefusedError where the data is at fault, StoreError where the same may pass later."""
    original = error.orig if isinstance(error, exc.DBAPIError) else None
    text = f"{type(original or error).__name__}: {original or error}"[:500]
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return StoreError(text)
    if isinstance(error, (exc.OperationalError, exc.InternalError)):
        number = original.args[0] if original is not None and original.args else None
        return RefusedError(text) if number in _DATA_FAULTS else StoreError(text)
    if isinstance(error, (exc.IntegrityError, exc.DataError, exc.ProgrammingError, exc.InterfaceError)):
        # MySQL's driver says InterfaceError for a lost connection, SQLite's for a value it cannot bind.
        lost = isinstance(error, exc.InterfaceError) and "pymysql" in type(original).__module__
        return StoreError(text) if lost else RefusedError(text)
    if isinstance(error, (OverflowError, ValueError, TypeError)):
        return RefusedError(text)
    return StoreError(text)


def is_race(error: exc.DBAPIError) -> bool:
    """Two transactions wanted the same: an identity that the other has inserted, or a deadlock."""
    number = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return isinstance(error, exc.IntegrityError) or number == _DEADLOCK


FAILURES = (exc.SQLAlchemyError, OSError, asyncio.TimeoutError, OverflowError, ValueError, TypeError, RuntimeError)
"""What a statement can end with, drivers included (aiomysql lets bare RuntimeErrors out of dead connections)."""


class Dialect:
    """The statements of one family of databases."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.mysql = engine.dialect.name in ("mysql", "mariadb")

    async def insert(
        self, connection: AsyncConnection, table: str, columns: Sequence[str], rows: Sequence[Row]
    ) -> None:
        """Plain inserts with bound values; an existing key is an IntegrityError."""
        if rows:
            await connection.exec_driver_sql(self._insert(table, columns), list(rows))

    async def upsert(
        self,
        connection: AsyncConnection,
        table: str,
        columns: Sequence[str],
        rows: Sequence[Row],
        *,
        key: Sequence[str],
        keep: Sequence[str] = (),
        version: str = "",
        owner: str = "",
    ) -> None:
        """Insert; where `key` exists, replace all columns but those in `keep` (an empty rest: leave the row).

        With `version`, only where the new row's is greater; with `owner`, only where that column is the same.
        """
        if not rows:
            return
        tail = self.conflict(table, columns, key=key, keep=keep, version=version, owner=owner)
        await connection.exec_driver_sql(self._insert(table, columns) + tail, list(rows))

    def conflict(
        self,
        table: str,
        columns: Sequence[str],
        *,
        key: Sequence[str],
        keep: Sequence[str] = (),
        version: str = "",
        owner: str = "",
    ) -> str:
        """How an insert ends that shall do what `upsert` says."""
        changed = [name for name in columns if name not in (*key, *keep, owner, version)]
        changed += [version] if version else []
        if self.mysql:
            return self._mysql_tail(table, key[0], changed, version, owner)
        return self._sqlite_tail(table, key, changed, version, owner)

    async def envelopes(self, connection: AsyncConnection, rows: Sequence[EnvelopeRow]) -> None:
        """Plain inserts of identities; IntegrityError if one is there already."""
        if not self.mysql:
            await self.insert(connection, "envelopes", ENVELOPE_COLUMNS, rows)
            return
        head = f"INSERT INTO envelopes ({', '.join(ENVELOPE_COLUMNS)}) VALUES "  # noqa: S608 - see EnvelopeRow
        for part in _parts(rows):
            values = ",".join(
                [
                    f"({host},'{epoch}',{seq},x'{fingerprint.hex()}','{kind}',{time!r},{received!r})"
                    for host, epoch, seq, fingerprint, kind, time, received in part
                ]
            )
            await connection.exec_driver_sql(head + values)

    async def samples(self, connection: AsyncConnection, rows: Sequence[SampleRow]) -> None:
        """Of two samples of one series in one millisecond the last wins."""
        if not rows:
            return
        if not self.mysql:
            whole = len(rows) - len(rows) % SQLITE_ROWS
            if whole:
                starts = range(0, whole, SQLITE_ROWS)
                several = [tuple(chain.from_iterable(rows[start : start + SQLITE_ROWS])) for start in starts]
                await connection.exec_driver_sql(_SQLITE_SEVERAL, several)
            if whole < len(rows):
                await connection.exec_driver_sql(_SQLITE_ONE, list(rows[whole:]))
            return
        for part in _parts(rows):
            values = ",".join([f"({series},{time},{value!r})" for series, time, value in part])
            await connection.exec_driver_sql(
                "INSERT INTO samples (series_id, time_ms, value) VALUES "  # noqa: S608 - see SampleRow
                + values
                + " ON DUPLICATE KEY UPDATE value = VALUES(value)"
            )

    async def quarantine(self, connection: AsyncConnection, row: tuple[float, str, bytes, str]) -> None:
        """Time, topic, payload, reason."""
        columns = ("received", "topic", "payload", "reason")
        if not self.mysql:
            await self.insert(connection, "quarantine", columns, [row])
            return
        # aiomysql cannot bind bytes beside PyMySQL 1.2 or later; in hex they need no quoting
        received, topic, payload, reason = row
        statement = f"INSERT INTO quarantine ({', '.join(columns)}) VALUES (%s, %s, x'{payload.hex()}', %s)"  # noqa: S608
        await connection.exec_driver_sql(statement, (received, topic, reason))

    def _insert(self, table: str, columns: Sequence[str]) -> str:
        marks = ", ".join(["%s" if self.mysql else "?"] * len(columns))
        return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 - our own names

    @staticmethod
    def _sqlite_tail(table: str, key: Sequence[str], changed: Sequence[str], version: str, owner: str) -> str:
        target = f" ON CONFLICT ({', '.join(key)}) DO "
        if not changed:
            return target + "NOTHING"
        conditions = [f"excluded.{version} > {table}.{version}"] if version else []
        conditions += [f"excluded.{owner} = {table}.{owner}"] if owner else []
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return f"{target}UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in changed)}{where}"

    @staticmethod
    def _mysql_tail(table: str, key: str, changed: Sequence[str], version: str, owner: str) -> str:
        """MySQL has no WHERE here. It assigns from left to right, so the version, which each looks at, goes last."""
        conditions = [f"VALUES({version}) > {table}.{version}"] if version else []
        conditions += [f"VALUES({owner}) = {table}.{owner}"] if owner else []
        test = " AND ".join(conditions)
        pairs = [
            f"{name} = IF({test}, VALUES({name}), {table}.{name})" if test else f"{name} = VALUES({name})"
            for name in changed
        ]
        return f" ON DUPLICATE KEY UPDATE {', '.join(pairs or [f'{key} = {table}.{key}'])}"


def _parts(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), ROWS_PER_STATEMENT):
        yield rows[start : start + ROWS_PER_STATEMENT]
