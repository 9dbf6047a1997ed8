"""The collector's floor: the same stream into the same kind of rows by a loop with nothing around it.

aiomqtt on uvloop, msgspec, one executemany a batch; no identity, no duplicates, no acks, no roll-ups.

    python floor_collector.py PORT sqlite:///PATH | mysql://root@127.0.0.1:PORT/NAME
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from urllib.parse import urlsplit

import aiomqtt
import aiomysql
import msgspec
import uvloop

BATCH = 2000


class Metric(msgspec.Struct):
    name: str
    value: float
    labels: dict[str, str] = {}


class Envelope(msgspec.Struct):
    host: str
    epoch: str
    seq: int
    time: float
    metrics: list[Metric]


class Series:
    """Ids of series, handed out as they are met."""

    def __init__(self) -> None:
        self.ids: dict[tuple[str, ...], int] = {}

    def rows(self, batch: list[Envelope]) -> list[tuple[int, int, float]]:
        ids = self.ids
        return [
            (
                ids.setdefault((envelope.host, metric.name, *metric.labels.values()), len(ids)),
                int(envelope.time * 1000),
                metric.value,
            )
            for envelope in batch
            for metric in envelope.metrics
        ]


class Sqlite:
    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE progress (envelopes INTEGER);"
            "INSERT INTO progress VALUES (0);"
            "CREATE TABLE samples (series INTEGER, time INTEGER, value REAL, PRIMARY KEY (series, time)) WITHOUT ROWID"
        )

    async def write(self, rows: list[tuple[int, int, float]], envelopes: int) -> None:
        await asyncio.to_thread(self._write, rows, envelopes)

    def _write(self, rows: list[tuple[int, int, float]], envelopes: int) -> None:
        self.connection.execute("BEGIN")
        self.connection.executemany("INSERT OR REPLACE INTO samples VALUES (?, ?, ?)", rows)
        self.connection.execute("UPDATE progress SET envelopes = envelopes + ?", (envelopes,))
        self.connection.execute("COMMIT")


class Mysql:
    def __init__(self, url: str) -> None:
        self.url = urlsplit(url)
        self.connection: aiomysql.Connection | None = None

    async def open(self) -> None:
        self.connection = await aiomysql.connect(
            host=self.url.hostname, port=self.url.port, user=self.url.username, db=self.url.path[1:], autocommit=False
        )
        async with self.connection.cursor() as cursor:
            await cursor.execute("CREATE TABLE progress (envelopes BIGINT)")
            await cursor.execute("INSERT INTO progress VALUES (0)")
            await cursor.execute(
                "CREATE TABLE samples (series INT, time BIGINT, value DOUBLE, PRIMARY KEY (series, time))"
            )
        await self.connection.commit()

    async def write(self, rows: list[tuple[int, int, float]], envelopes: int) -> None:
        assert self.connection is not None
        async with self.connection.cursor() as cursor:
            for start in range(0, len(rows), 5000):
                values = ",".join(
                    [f"({series},{time},{value!r})" for series, time, value in rows[start : start + 5000]]
                )
                await cursor.execute(f"REPLACE INTO samples VALUES {values}")
            await cursor.execute("UPDATE progress SET envelopes = envelopes + %s", (envelopes,))
        await self.connection.commit()


async def main(port: int, store: str) -> None:
    sink: Sqlite | Mysql
    if store.startswith("sqlite:///"):
        sink = Sqlite(store.removeprefix("sqlite:///"))
    else:
        sink = Mysql(store)
        await sink.open()
    decoder = msgspec.json.Decoder(Envelope)
    series = Series()
    pending: list[Envelope] = []
    writing: asyncio.Task[None] | None = None
    async with aiomqtt.Client("127.0.0.1", port, identifier="floor-collector") as client:
        await client.subscribe("tocsin/v1/+/metrics/#", 1)
        print("ready", flush=True)

        async def flush() -> None:
            while pending:
                batch, pending[:] = pending[:BATCH], pending[BATCH:]
                await sink.write(series.rows(batch), len(batch))

        last = time.monotonic()
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            pending.append(decoder.decode(message.payload))
            now = time.monotonic()
            if (len(pending) >= BATCH or now - last > 0.1) and (writing is None or writing.done()):
                last = now
                writing = asyncio.create_task(flush())


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
