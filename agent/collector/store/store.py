"""The store as the collector sees it: open, write, keep the hosts' state, roll up, forget what is old."""

from __future__ import annotations

from collections.abc import Sequence

from agent.clock import Clock, SystemClock
from agent.collector.store.audit import AuditLog
from agent.collector.store.batch import Quarantined, Received, Written
from agent.collector.store.dialect import Dialect, open_engine
from agent.collector.store.guard import guarded
from agent.collector.store.migrate import migrate
from agent.collector.store.names import canonical
from agent.collector.store.prune import Prune
from agent.collector.store.reader import Reader
from agent.collector.store.rollup import Rollup
from agent.collector.store.rows import HostRow
from agent.collector.store.writer import Writer
from agent.config.schema import RetentionConfig
from agent.errors import RefusedError, StoreError
from agent.transport.wire import encode

HOST_COLUMNS = ("name", "first_seen", "last_seen", "state", "epoch", "session", "version", "labels", "health")


class Store:
    """One database. Constructing connects to nothing; every method raises StoreError when it is away,
    and RefusedError when it is there and will not take this data.
    """

    def __init__(self, url: str, password: str | None = None, clock: Clock | None = None) -> None:
        self._engine = open_engine(url, password)
        self._dialect = Dialect(self._engine)
        self._writer = Writer(self._engine, self._dialect, clock or SystemClock())
        self._rollup = Rollup(self._engine, self._dialect)
        self._prune = Prune(self._engine)
        self.reader = Reader(self._engine)
        self.audit = AuditLog(self._engine)

    @classmethod
    async def open(cls, url: str, password: str | None = None, clock: Clock | None = None) -> Store:
        """Connected, with its tables as this version wants them."""
        store = cls(url, password, clock)
        try:
            await store.migrate()
        except BaseException:
            await store.aclose()
            raise
        return store

    async def migrate(self) -> None:
        async with guarded():
            await migrate(self._engine)

    async def write(self, batch: Sequence[Received]) -> Written:
        """All of the batch in one transaction, or nothing of it."""
        try:
            async with guarded():
                return await self._writer.write(batch)
        except RefusedError:
            raise
        except StoreError:
            self._writer.forget()  # what it was told of names may have been rolled back or restored
            raise

    async def quarantine(self, items: Sequence[Quarantined]) -> None:
        async with guarded():
            await self._writer.quarantine(items)

    async def save_hosts(self, rows: Sequence[HostRow]) -> None:
        """Insert or replace what is known of these hosts, but for `first_seen`."""
        values = [
            (
                *(row.host, row.first_seen, row.last_seen, row.state, row.epoch, row.session, row.version),
                *(canonical(row.labels), None if row.health is None else encode(row.health).decode()),
            )
            for row in rows
        ]
        async with guarded(), self._engine.begin() as connection:
            await self._dialect.upsert(connection, "hosts", HOST_COLUMNS, values, key=("name",), keep=("first_seen",))

    async def roll_minutes(self, now: float, samples_kept: float) -> bool:
        """Rolls the next portion of samples up to minutes; whether there is more."""
        async with guarded():
            return await self._rollup.minutes(now, samples_kept)

    async def roll_hours(self, now: float, minutes_kept: float) -> bool:
        """Rolls the next portion of minutes up to hours; whether there is more."""
        async with guarded():
            return await self._rollup.hours(now, minutes_kept)

    async def prune(self, now: float, kept: RetentionConfig) -> int:
        """Deletes what is old, which takes as long as it takes; returns the number of rows."""
        async with guarded(seconds=None):
            gone = await self._prune.run(now, kept)
        await self.audit.prune(now)
        return gone

    async def aclose(self) -> None:
        await self._engine.dispose()
