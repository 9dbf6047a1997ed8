"""Spool, shipper and link together over a real broker that is killed again and again."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from agent.clock import SystemClock
from agent.config.schema import MqttConfig
from agent.model import ProbeResult
from agent.transport.item import Priority
from agent.transport.mqtt import Backoff, Link, Session
from agent.transport.shipper import Shipper
from agent.transport.wire import Ack, MetricsEnvelope, Status, Topic, decode_envelope, encode, fingerprint, parse_topic
from tests.services import eventually
from tests.unit.spools import EPOCH, HOST, LATER, Bench, config

pytestmark = pytest.mark.services
QUICK = Backoff(first=0.05, cap=0.2)


class Store:
    """A collector in the small: keeps each identity once, acknowledges what it has, sometimes not."""

    def __init__(self, url: str) -> None:
        self.link = Link(
            MqttConfig(url=url),
            identifier="collector",
            subscriptions=["tocsin/v1/+/metrics/#", "tocsin/v1/+/incidents/#", "tocsin/v1/+/gaps"],
            clock=SystemClock(),
            backoff=QUICK,
        )
        self.rows: dict[tuple[str, int], bytes] = {}
        self.duplicates = 0
        self.rng = random.Random(7)

    async def on_session(self, session: Session) -> None:
        async for message in session.messages():
            if not message.payload:
                continue
            envelope = decode_envelope(parse_topic(message.topic), message.payload)
            key = envelope.epoch, envelope.seq
            self.duplicates += key in self.rows
            assert self.rows.setdefault(key, fingerprint(message.payload)) == fingerprint(message.payload)
            if self.rng.random() < 0.9:
                session.post(str(Topic(envelope.host, "ack")), encode(Ack(envelope.epoch, 0, (envelope.seq,))))


@contextlib.asynccontextmanager
async def started(*runs):
    tasks = [asyncio.create_task(run) for run in runs]
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()


class Host:
    def __init__(self, bench: Bench, url: str, epoch: str) -> None:
        self.bench = bench
        status_topic = str(Topic(HOST, "status"))
        self.link = Link(
            MqttConfig(url=url),
            identifier=HOST,
            subscriptions=[str(Topic(HOST, "ack"))],
            clock=SystemClock(),
            will=lambda number: (status_topic, encode(Status("offline", epoch, number))),
            backoff=QUICK,
        )
        self.shipper = Shipper(
            bench.spool,
            self.link,
            HOST,
            epoch,
            SystemClock(),
            lambda number: Status("online", epoch, number),
            resend_after=0.5,
        )


async def test_nothing_is_lost_over_a_broker_that_dies(mosquitto, tmp_path):
    """Six kill -9 of the broker with its state wiped, acks lost at random, a restart of the host: all arrives once."""
    store = Store(mosquitto.url)
    bench = Bench(tmp_path / "spool", SystemClock(), config())
    await bench.open()
    host = Host(bench, mosquitto.url, EPOCH)
    put: set[tuple[str, int]] = set()
    resent = 0
    async with started(store.link.run(store.on_session)):
        for epoch in (EPOCH, LATER):
            if epoch == LATER:
                bench = await bench.crash(tmp_path / "later")
                await bench.open(LATER)
                host = Host(bench, mosquitto.url, LATER)
            async with started(host.shipper.run()):
                for turn in range(3):
                    for number in range(60):
                        put.add((epoch, bench.sample()))
                        if number % 20 == 0:
                            put.add((epoch, bench.incident(f"i{turn}", version=number + 1, resolved=number == 40)))
                        await asyncio.sleep(0.005)
                    mosquitto.kill()
                    put.add((epoch, bench.sample()))
                    await bench.spool.flush()
                    mosquitto.start()
                if epoch == LATER:
                    await eventually(lambda spool=bench.spool: spool.stats().pending == 0, "an empty spool", 60)
            resent += host.shipper.stats.resent
    assert set(store.rows) == put
    assert resent > 0
    assert store.duplicates > 0
    await bench.spool.aclose()


async def test_what_waits_from_another_host_id_arrives(mosquitto, tmp_path):
    """After a new start under another name, the acknowledgements of what was put under the old one are heard too."""
    bench = Bench(tmp_path / "spool", SystemClock(), config())
    await bench.open()
    result = ProbeResult("p", SystemClock().now(), "ok", 0.1, ())
    bench.spool.put(
        Topic("old-name", "metrics", "p"),
        lambda seq: MetricsEnvelope.of("old-name", EPOCH, seq, result),
        priority=Priority.METRICS,
        time=result.time,
    )
    await bench.spool.aclose()
    await bench.open(LATER)
    store = Store(mosquitto.url)
    async with started(store.link.run(store.on_session), Host(bench, mosquitto.url, LATER).shipper.run()):
        await eventually(lambda: bench.spool.stats().pending == 0, "an empty spool", 20)
    assert set(store.rows) == {(EPOCH, 1)}
    await bench.spool.aclose()


async def test_birth_will_and_retained_incidents(mosquitto, tmp_path):
    """What a stranger who comes late finds on the broker: a birth and open incidents; after the end, offline."""
    bench = Bench(tmp_path / "spool", SystemClock(), config())
    await bench.open()
    host = Host(bench, mosquitto.url, EPOCH)
    store = Store(mosquitto.url)
    store.rng = random.Random()
    store.rng.random = lambda: 0.0

    async def found() -> dict[str, bytes]:
        seen: dict[str, bytes] = {}
        link = Link(MqttConfig(url=mosquitto.url), identifier="late", subscriptions=["tocsin/#"], clock=SystemClock())

        async def look(session: Session) -> None:
            async for message in session.messages():
                if message.retain:
                    seen[message.topic] = message.payload

        async with started(link.run(look)):
            await eventually(lambda: link.connected, "connected")
            await asyncio.sleep(0.2)
        return seen

    async with started(store.link.run(store.on_session)):
        async with started(host.shipper.run()):
            bench.incident("open")
            bench.incident("over")
            bench.incident("over", version=2, resolved=True)
            await eventually(lambda: len(store.rows) == 3 and not bench.spool.clears, "three rows")
            await eventually(lambda: bench.spool.stats().unacked == 0, "their acks")
            await asyncio.sleep(0.1)
            seen = await found()
            assert set(seen) == {f"tocsin/v1/{HOST}/status", f"tocsin/v1/{HOST}/incidents/open"}
            assert b'"online"' in seen[f"tocsin/v1/{HOST}/status"]
        assert b'"offline"' in (await found())[f"tocsin/v1/{HOST}/status"]
    await bench.spool.aclose()
