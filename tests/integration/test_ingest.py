"""The collector on real servers: what is published is stored once, acknowledged after the commit, and shown."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from agent.clock import SystemClock
from agent.collector import commit, ingest, service
from agent.collector.service import Collector, serve
from agent.config.schema import AgentConfig, CollectorConfig, Config, MqttConfig
from agent.config.units import Duration
from agent.errors import ConfigError, UnavailableError
from agent.model import DeliveryState, Gap, Incident, Metric, Severity, Transition, TransitionKind
from agent.transport import wire
from agent.transport.mqtt import Backoff, Link, Session
from tests.services import MariaDB, Mosquitto, eventually

pytestmark = pytest.mark.services
EPOCH = "c" * 32
T0 = 1_790_000_040.0


class Host:
    """An agent's side of the wire, by hand: publishes what a test says and keeps the acks."""

    def __init__(self, session: Session, name: str) -> None:
        self.name = name
        self.acks: list[wire.Ack] = []
        self._session = session

    @property
    def acked(self) -> set[int]:
        return {seq for ack in self.acks for seq in ack.also}

    async def listen(self) -> None:
        async for message in self._session.messages():
            self.acks.append(wire.decode(message.payload, wire.Ack))

    async def say(self, channel: str, payload: bytes, *, retain: bool = False) -> None:
        await self._session.publish(f"{wire.PREFIX}/{self.name}/{channel}", payload, retain=retain)

    def sample(self, seq: int, value: float = 1.0, **more: Any) -> bytes:
        values: dict[str, Any] = {"time": T0 + seq, "probe": "cpu", "status": "ok", "duration": 0.1} | more
        metrics = (Metric("cpu.used_percent", value, "percent"), Metric("cpu.core", value, labels={"core": "0"}))
        envelope = wire.MetricsEnvelope(schema=1, host=self.name, epoch=EPOCH, seq=seq, metrics=metrics, **values)
        return wire.encode(envelope)

    def incident(self, seq: int, version: int = 1) -> bytes:
        what = Incident(
            *("i-1", self.name, "busy", "cpu.used_percent", Severity.CRITICAL, Severity.CRITICAL, T0, T0, T0, version)
        )
        step = Transition("i-1", version, TransitionKind.OPENED, Severity.CRITICAL, T0)
        return wire.encode(
            wire.IncidentEnvelope(
                schema=1, host=self.name, epoch=EPOCH, seq=seq, time=T0, incident=what, transition=step
            )
        )


@contextlib.asynccontextmanager
async def host(broker: Mosquitto, name: str = "web-1") -> AsyncIterator[Host]:
    link = Link(
        MqttConfig(url=broker.url),
        identifier=f"test-{name}",
        subscriptions=[f"{wire.PREFIX}/{name}/ack"],
        clock=SystemClock(),
        backoff=Backoff(first=0.1, cap=0.2),
    )
    connected: asyncio.Future[Host] = asyncio.get_running_loop().create_future()

    async def on_session(session: Session) -> None:
        speaker = Host(session, name)
        connected.set_result(speaker)
        await speaker.listen()

    running = asyncio.create_task(link.run(on_session))
    try:
        yield await asyncio.wait_for(connected, 20)
    finally:
        running.cancel()
        await asyncio.wait({running})


def config(broker: Mosquitto, store: str, directory: Path, **more: Any) -> Config:
    return Config(
        agent=AgentConfig(state_dir=directory),
        mqtt=MqttConfig(url=broker.url, reconnect_spread=Duration(0.2)),
        collector=CollectorConfig(store=store, listen="127.0.0.1:0", name="test", **more),
    )


@contextlib.asynccontextmanager
async def collector(settings: Config, *, connected: bool = True) -> AsyncIterator[Collector]:
    ready: asyncio.Future[Collector] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    running = asyncio.create_task(serve(settings, clock=SystemClock(), ready=ready.set_result, stop=stop))
    await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        await running
    try:
        part = ready.result()
        if connected:
            await eventually(lambda: part.stats.broker_up, "the collector's connection")
        yield part
    finally:
        stop.set()
        async with asyncio.timeout(10):
            await running


@pytest.fixture(params=["sqlite", "mariadb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    url: str = request.getfixturevalue("mariadb").url
    return url


async def points(part: Collector, name: str = "web-1") -> dict[float, float]:
    rows = await part.reader.series(name, "cpu.used_percent", T0, T0 + 3000)
    return dict(rows[0].points) if rows else {}


async def test_stored_then_acknowledged(mosquitto: Mosquitto, store: str, tmp_path: Path) -> None:
    """Samples, incidents and gaps of two hosts are in the store when their acks come; a resend is acked again."""
    async with (
        collector(config(mosquitto, store, tmp_path)) as part,
        host(mosquitto) as web,
        host(mosquitto, "db-1") as db,
    ):
        for seq in (1, 2, 5):
            await web.say("metrics/cpu", web.sample(seq, float(seq)))
        await db.say("incidents/i-1", db.incident(1))
        gap = Gap(EPOCH, ((3, 4),), 2, "bytes", T0, T0)
        record = wire.GapEnvelope(schema=1, host="web-1", epoch=EPOCH, seq=6, time=T0, gap=gap)
        await web.say("gaps", wire.encode(record))
        await eventually(lambda: web.acked == {1, 2, 5, 6} and db.acked == {1}, "acks")
        assert await points(part) == {T0 + 1: 1.0, T0 + 2: 2.0, T0 + 5: 5.0}
        assert max(ack.upto for ack in web.acks) == 6
        assert [row.severity for row in (await part.reader.incidents())[0]] == ["critical"]
        assert [row.ranges for row in await part.reader.gaps("web-1")] == [[(3, 4)]]
        web.acks.clear()
        await web.say("metrics/cpu", web.sample(2, 2.0))
        await eventually(lambda: web.acked == {2}, "the ack of a duplicate")
        assert (part.stats.envelopes, part.stats.duplicates, part.stats.conflicts) == (5, 1, 0)


async def test_a_conflict_is_acked_and_told(mosquitto: Mosquitto, store: str, tmp_path: Path) -> None:
    """Other bytes under a stored identity change nothing, and are not asked for again for ever."""
    async with collector(config(mosquitto, store, tmp_path)) as part, host(mosquitto) as web:
        await web.say("metrics/cpu", web.sample(1, 1.0))
        await eventually(lambda: web.acked == {1}, "the first ack")
        web.acks.clear()
        await web.say("metrics/cpu", web.sample(1, 666.0))
        await eventually(lambda: web.acked == {1}, "the ack of the conflict")
        assert await points(part) == {T0 + 1: 1.0}
        assert (part.stats.conflicts, (await part.reader.counts()).quarantine) == (1, 1)


async def test_what_is_not_understood_is_kept_and_not_acked(mosquitto: Mosquitto, store: str, tmp_path: Path) -> None:
    """Broken payloads, another host's name, foreign topics: the rest goes on."""
    async with collector(config(mosquitto, store, tmp_path)) as part, host(mosquitto) as web:
        other = Host(web._session, "db-1")
        for payload in (
            b"\xff\xfe",
            b"[" * 5000,
            other.sample(1),
            web.sample(1).replace(b'"schema":1', b'"schema":9'),
        ):
            await web.say("metrics/cpu", payload)
        await web.say("status", b"not JSON", retain=True)
        await web._session.publish("tocsin/v1/UPPER/metrics/cpu", b"x")
        await web.say("metrics/cpu", web.sample(2))
        await eventually(lambda: web.acked == {2}, "the good one's ack")
        await eventually(lambda: part.stats.undecodable == 5, "all to be looked at")
        assert (await part.reader.counts()).quarantine == 4
        assert web.acked == {2}


async def test_a_refused_batch_loses_only_the_guilty(mosquitto: Mosquitto, store: str, tmp_path: Path) -> None:
    """A value that the database will not take goes to quarantine and is acked; all others of its batch pass."""
    async with collector(config(mosquitto, store, tmp_path)) as part, host(mosquitto) as web:
        for seq in range(1, 41):
            await web.say("metrics/cpu", web.sample(seq, time=1e300 if seq in (7, 23) else T0 + seq))
        await eventually(lambda: web.acked == set(range(1, 41)), "all acks")
        assert set(await points(part)) == {T0 + seq for seq in range(1, 41) if seq not in (7, 23)}
        assert (part.stats.quarantined, (await part.reader.counts()).quarantine) == (2, 2)


async def test_one_host_s_nonsense_keeps_no_other_from_being_saved(
    mosquitto: Mosquitto, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A birth that no column holds costs that host its row; it is no loss of the database."""
    monkeypatch.setattr(service, "SAVE_EVERY", 0.2)
    async with collector(config(mosquitto, store, tmp_path)) as part, host(mosquitto) as web:
        other = Host(web._session, "db-1")
        for session in (10**30, 7):
            birth = wire.encode(wire.Status("online", EPOCH, 1)).replace(b":1", b":%d" % session)
            await (web if session > 7 else other).say("status", birth)
        await web.say("metrics/cpu", web.sample(1))

        async def saved() -> bool:
            return ("db-1", 7) in [(row.host, row.session) for row in await part.reader.hosts()]

        for _ in range(200):
            if await saved():
                break
            await asyncio.sleep(0.1)
        assert await saved()
        assert part.stats.store_errors == 0


async def test_the_database_is_killed(mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ack while it is away, the page still answers, and everything is stored once when it is back."""
    monkeypatch.setattr(commit, "LONGEST_PAUSE", 0.5)
    server = MariaDB(tmp_path / "own")
    server.start()
    try:
        async with collector(config(mosquitto, server.database(), tmp_path)) as part, host(mosquitto) as web:
            await web.say("metrics/cpu", web.sample(1))
            await eventually(lambda: web.acked == {1}, "the first ack")
            server.kill()
            for seq in range(2, 12):
                await web.say("metrics/cpu", web.sample(seq, float(seq)))
            await eventually(lambda: part.stats.store_errors > 1, "the loss to be noticed")
            assert web.acked == {1}
            async with aiohttp.ClientSession() as client, client.get(f"{part.url}/api/v1/hosts") as answer:
                assert answer.status == 200
                assert [entry["state"] for entry in (await answer.json())["hosts"]] == ["online"]
            await asyncio.to_thread(server.start)
            await eventually(lambda: web.acked == set(range(1, 12)), "the rest", 40)
            assert len(await points(part)) == 11
            assert part.stats.store_up
    finally:
        server.stop()


async def test_nothing_is_there_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broker and database absent: it serves; when they come, it works."""
    monkeypatch.setattr(service, "LONGEST_PAUSE", 0.5)
    broker = Mosquitto(tmp_path / "mosquitto")
    server = MariaDB(tmp_path / "own")
    server.start()
    url = server.database()
    server.stop()
    async with collector(config(broker, url, tmp_path), connected=False) as part:
        async with aiohttp.ClientSession() as client, client.get(f"{part.url}/api/v1/hosts") as answer:
            assert answer.status == 200
        await asyncio.to_thread(broker.start)
        try:
            async with host(broker) as web:
                await eventually(lambda: part.stats.broker_up, "the collector's connection")
                await web.say("metrics/cpu", web.sample(1))
                await eventually(lambda: part.stats.store_errors > 1, "a second try")
                assert web.acked == set()
                await asyncio.to_thread(server.start)
                await eventually(lambda: web.acked == {1}, "the ack", 40)
        finally:
            broker.stop()
            server.stop()


async def test_a_restarted_collector_knows_what_it_has(mosquitto: Mosquitto, store: str, tmp_path: Path) -> None:
    """Resends across a restart are duplicates; the host is unknown until it speaks, then online; a will is offline."""
    settings = config(mosquitto, store, tmp_path)
    async with host(mosquitto) as web:
        async with collector(settings) as part:
            await web.say("status", wire.encode(wire.Status("online", EPOCH, 5, "0.1")), retain=True)
            await web.say("metrics/cpu", web.sample(1))
            await web.say("incidents/i-1", web.incident(2))
            await eventually(lambda: web.acked == {1, 2}, "acks")
        web.acks.clear()
        async with collector(settings) as part:
            await eventually(lambda: part.fleet.hosts() and part.stats.store_up, "the host from the database")
            [entry] = part.fleet.hosts()
            assert (entry["state"], entry["incidents"], entry["worst"]) == ("unknown", 1, "critical")
            await web.say("metrics/cpu", web.sample(1))
            await eventually(lambda: web.acked == {1}, "the ack")
            assert (part.stats.duplicates, part.stats.envelopes, web.acks[0].upto) == (1, 0, 1)
            assert part.fleet.hosts()[0]["state"] == "online"
            await web.say("status", wire.encode(wire.Status("offline", EPOCH, 4)), retain=True)
            await web.say("status", wire.encode(wire.Status("offline", EPOCH, 5)), retain=True)
            await eventually(lambda: part.fleet.hosts()[0]["state"] == "offline", "the will")


async def test_two_collectors_share_a_stream(mosquitto: Mosquitto, store: str, tmp_path: Path) -> None:
    """Each envelope is stored once, by one or the other, and both know every host's state."""
    settings = config(mosquitto, store, tmp_path, share=True)
    async with collector(settings) as one, collector(settings) as two, host(mosquitto) as web:
        await web.say("status", wire.encode(wire.Status("online", EPOCH, 5)), retain=True)
        for seq in range(1, 101):
            await web.say("metrics/cpu", web.sample(seq, float(seq)))
        await eventually(lambda: web.acked == set(range(1, 101)), "all acks")
        assert len(await points(one)) == 100
        assert one.stats.envelopes + two.stats.envelopes == 100
        assert min(one.stats.envelopes, two.stats.envelopes) > 0
        assert one.fleet.hosts()[0]["state"] == two.fleet.hosts()[0]["state"] == "online"


async def test_what_is_committed_is_shown_live(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """Events of all kinds reach a subscriber, hostile labels as they are."""
    async with collector(config(mosquitto, "", tmp_path)) as part, host(mosquitto) as web:
        with part.hub.subscribe() as events:
            await web.say(
                "status", wire.encode(wire.Status("online", EPOCH, 5, labels={"x": "<img onerror>"})), retain=True
            )
            await web.say("metrics/cpu", web.sample(1))
            await web.say("incidents/i-1", web.incident(2))
            message = wire.DeliveriesMessage(1, "web-1", T0, (DeliveryState("i-1", 1, "delivered"),))
            await web.say("deliveries", wire.encode(message), retain=True)
            seen: dict[str, Any] = {}
            async with asyncio.timeout(20):
                async for event in events:
                    seen[event.kind] = msgspec.json.decode(event.json)
                    if len(seen) == 4:
                        break
        assert (seen["host"]["host"], seen["host"]["labels"]) == ("web-1", {"x": "<img onerror>"})
        assert seen["sample"]["metrics"][0] == {"name": "cpu.used_percent", "value": 1.0, "unit": "percent"}
        assert seen["incident"]["id"] == seen["delivery"]["incident"] == "i-1"
        assert (tmp_path / "collector.db").exists()


async def test_its_own_heartbeat_and_will(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """Online, retained, while it runs; offline when it has stopped."""
    topic = f"{wire.PREFIX}/_collector/test/status"
    seen: list[dict[str, Any]] = []

    async def watch(session: Session) -> None:
        async for message in session.messages():
            seen.append(msgspec.json.decode(message.payload))  # noqa: PERF401 - seen as they come

    link = Link(MqttConfig(url=mosquitto.url), identifier="watcher", subscriptions=[topic], clock=SystemClock())
    running = asyncio.create_task(link.run(watch))
    async with collector(config(mosquitto, "", tmp_path)):
        await eventually(lambda: seen and seen[-1]["state"] == "online", "the heartbeat")
    await eventually(lambda: seen[-1]["state"] == "offline", "the last will")
    assert set(seen[0]) == {"state", "time", "version", "session"}
    running.cancel()
    await asyncio.wait({running})


async def test_too_much_waiting_is_dropped_and_comes_again(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound on memory holds, what is dropped is not acked, and a resend brings it in."""
    monkeypatch.setattr(ingest, "MAX_WAITING", 2000 + 8 * ingest.MESSAGE)
    async with collector(config(mosquitto, "", tmp_path)) as part, host(mosquitto) as web:
        await asyncio.gather(*(web.say("metrics/cpu", web.sample(seq)) for seq in range(1, 41)))
        await eventually(lambda: part.stats.dropped > 0, "the bound")
        for _ in range(100):
            missing = set(range(1, 41)) - web.acked
            if not missing:
                break
            for seq in sorted(missing)[:4]:
                await web.say("metrics/cpu", web.sample(seq))
            await asyncio.sleep(0.15)
        assert len(await points(part)) == 40


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (CollectorConfig(listen="127.0.0.1:{port}"), UnavailableError),
        (CollectorConfig(listen="127.0.0.1:http"), ConfigError),
        (CollectorConfig(listen="127.0.0.1:0", store="oracle://x/y"), ConfigError),
    ],
)
async def test_what_ends_it_at_the_start(
    mosquitto: Mosquitto, tmp_path: Path, settings: CollectorConfig, error: type[Exception]
) -> None:
    """A port that is taken (told with the option to change), an address or a store that is none."""
    settings = msgspec.structs.replace(settings, listen=settings.listen.replace("{port}", str(mosquitto.port)))
    broken = Config(agent=AgentConfig(state_dir=tmp_path), mqtt=MqttConfig(url=mosquitto.url), collector=settings)
    with pytest.raises(error) as caught:
        await serve(broken, clock=SystemClock(), ready=None, stop=asyncio.Event())
    assert "listen" in str(caught.value) or "store" in str(caught.value)
