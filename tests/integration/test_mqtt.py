"""The link against a real mosquitto, and against servers that behave badly."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.config.schema import MqttConfig
from agent.config.secret import Secret
from agent.config.units import Duration
from agent.errors import TransportError
from agent.transport import mqtt
from agent.transport.mqtt import Backoff, Link, Message, Session
from tests.services import Mosquitto, eventually, free_port, running

pytestmark = pytest.mark.services
QUICK = Backoff(first=0.05, cap=0.1)


def link_to(url: str, *subscriptions: str, timeout: float = 5, backoff: Backoff = QUICK, **more) -> Link:
    identifier = more.pop("identifier", f"test-{random.randrange(10**9)}")
    will = more.pop("will", None)
    config = MqttConfig(url=url, connect_timeout=Duration(timeout), **more)
    return Link(
        config, identifier=identifier, subscriptions=subscriptions, clock=SystemClock(), will=will, backoff=backoff
    )


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Talk:
    """Runs a link and keeps its present session and all that arrived."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.sessions: list[Session] = []
        self.arrived: list[Message] = []

    async def on_session(self, session: Session) -> None:
        self.sessions.append(session)
        async for message in session.messages():
            self.arrived.append(message)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Talk]:
        task = asyncio.create_task(self.link.run(self.on_session))
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()

    async def session(self, count: int = 1) -> Session:
        await eventually(lambda: len(self.sessions) >= count and self.link.connected, f"session {count}")
        return self.sessions[-1]


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_publish_and_receive(mosquitto, protocol):
    """What is published arrives, whole and in order, in both protocol versions."""
    listener = Talk(link_to(mosquitto.url, "a/#", protocol=protocol))
    speaker = Talk(link_to(mosquitto.url, protocol=protocol))
    async with listener.running(), speaker.running():
        await listener.session()
        session = await speaker.session()
        await asyncio.gather(*(session.publish(f"a/{n % 3}", b"%d" % n + b"\xff" * n) for n in range(200)))
        await eventually(lambda: len(listener.arrived) >= 200, "200 messages")
    assert listener.arrived == [Message(f"a/{n % 3}", b"%d" % n + b"\xff" * n, retain=False) for n in range(200)]
    assert not listener.link.connected


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_shared_subscription(mosquitto, protocol):
    """Two links on one $share group get every message once between them."""
    one = Talk(link_to(mosquitto.url, "$share/g/a/#", protocol=protocol))
    two = Talk(link_to(mosquitto.url, "$share/g/a/#", protocol=protocol))
    speaker = Talk(link_to(mosquitto.url))
    async with one.running(), two.running(), speaker.running():
        await one.session()
        await two.session()
        session = await speaker.session()
        await asyncio.gather(*(session.publish("a/b", b"%d" % n) for n in range(100)))
        await eventually(lambda: len(one.arrived) + len(two.arrived) >= 100, "100 messages")
        both = [int(m.payload) for m in one.arrived + two.arrived]
    assert sorted(both) == list(range(100))
    assert one.arrived
    assert two.arrived


async def test_many_messages_are_not_dropped(mosquitto):
    """A reader that is busy for a while finds everything in its inbox."""
    listener = link_to(mosquitto.url, "a/#")
    seen: list[bytes] = []
    go = asyncio.Event()

    async def slow(session: Session) -> None:
        await go.wait()
        async for message in session.messages():
            seen.append(message.payload)  # noqa: PERF401 - what came before the loss counts too

    task = asyncio.create_task(listener.run(slow))
    await eventually(lambda: listener.connected, "connected")
    speaker = Talk(link_to(mosquitto.url))
    async with speaker.running():
        session = await speaker.session()
        for start in range(0, 3000, 500):
            await asyncio.gather(*(session.publish("a/b", b"%d" % n) for n in range(start, start + 500)))
        go.set()
        await eventually(lambda: len(seen) >= 3000, "3000 messages")
    task.cancel()
    await asyncio.wait({task})
    assert seen == [b"%d" % n for n in range(3000)]
    assert listener.dropped == 0


async def test_will_is_sent_for_who_vanishes_and_by_ourselves_at_the_end(mosquitto):
    """A killed connection leaves the broker's copy of the will, a clean end our own; both with their session."""
    watcher = Talk(link_to(mosquitto.url, "s/#"))
    one = Talk(link_to(mosquitto.url, will=lambda number: ("s/one", b"gone %d" % number)))
    async with watcher.running():
        await watcher.session()
        async with one.running():
            first = await one.session()
            one.link._client._client._sock.shutdown(socket.SHUT_RDWR)
            second = await one.session(2)
            await eventually(lambda: len(watcher.arrived) == 1, "the will")
        await eventually(lambda: len(watcher.arrived) == 2, "the goodbye")
    assert second.number > first.number
    assert [m.payload for m in watcher.arrived] == [b"gone %d" % first.number, b"gone %d" % second.number]


async def test_retained_is_marked(mosquitto):
    """A message kept from before is marked as such."""
    speaker = Talk(link_to(mosquitto.url))
    async with speaker.running():
        await (await speaker.session()).publish("r/x", b"kept", retain=True)
        late = Talk(link_to(mosquitto.url, "r/#"))
        async with late.running():
            await eventually(lambda: late.arrived, "the retained message")
    assert late.arrived == [Message("r/x", b"kept", retain=True)]


async def test_broker_killed_and_back(mosquitto):
    """kill -9 of the broker fails what waits, and the link comes back by itself with its subscriptions."""
    talk = Talk(link_to(mosquitto.url, "a/#"))
    async with talk.running():
        session = await talk.session()
        mosquitto.kill()
        with pytest.raises(TransportError):
            await session.publish("a/b", b"into the void")
        await eventually(lambda: not talk.link.connected, "the loss")
        mosquitto.start()
        fresh = await talk.session(2)
        await fresh.publish("a/b", b"again")
        await eventually(lambda: talk.arrived, "the message")
    assert [m.payload for m in talk.arrived] == [b"again"]
    assert fresh.number > session.number
    assert talk.link.connects == 2


async def test_broker_absent_at_start(tmp_path):
    """With nobody there the link says why, keeps trying, and is there when the broker comes."""
    port = free_port()
    talk = Talk(link_to(f"mqtt://127.0.0.1:{port}"))
    async with talk.running():
        await eventually(lambda: talk.link.last_error, "an error")
        assert "refused" in talk.link.last_error
        with running(Mosquitto(tmp_path, port)):
            await talk.session()
            assert talk.link.last_error == ""


@contextlib.asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[int, list[int]]]:
    """Accepts TCP and never says a word."""
    accepted: list[int] = []
    gone = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(1)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], accepted
    gone.set()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_silent_server_leaks_nothing(protocol):
    """50 connects to a server that never answers end at their deadline and leave no task and no socket."""
    async with silent_server() as (port, accepted):
        link = link_to(f"mqtt://127.0.0.1:{port}", timeout=0.03, backoff=Backoff(first=0, cap=0), protocol=protocol)
        task = asyncio.create_task(link.run(lambda session: asyncio.sleep(0)))
        await eventually(lambda: len(accepted) >= 3, "three tries")
        tasks, open_files = len(asyncio.all_tasks()), descriptors()
        await eventually(lambda: len(accepted) >= 53, "50 more tries", 30)
        # one try is under way at either count: its task and its two ends of a socket may be there or not
        assert abs(len(asyncio.all_tasks()) - tasks) <= 3
        assert abs(descriptors() - open_files) <= 3
        assert "did not answer" in link.last_error
        task.cancel()
        await asyncio.wait({task})
        assert link.connects == 0
    await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()}, "no task left")


async def test_cancelled_while_connecting_leaks_nothing():
    """A stop in the middle of a connect gives back socket and tasks."""
    async with silent_server() as (port, accepted):
        before = descriptors()
        for number in range(10):
            link = link_to(f"mqtt://127.0.0.1:{port}", timeout=30)
            task = asyncio.create_task(link.run(lambda session: asyncio.sleep(0)))
            await eventually(lambda number=number: len(accepted) > number, "accepted")
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
        await eventually(lambda: descriptors() <= before, "sockets closed")
        await eventually(lambda: len(asyncio.all_tasks()) <= 2, "tasks gone")


async def test_hung_broker_is_noticed(mosquitto):
    """A broker that stops reading fails the publish in time, not after twice the keepalive."""
    talk = Talk(link_to(mosquitto.url, timeout=0.5, keepalive=Duration(600)))
    async with talk.running():
        session = await talk.session()
        mosquitto.signal(signal.SIGSTOP)
        try:
            results = await asyncio.wait_for(
                asyncio.gather(*(session.publish("a/b", b"x" * 100_000) for _ in range(64)), return_exceptions=True), 10
            )
            assert all(isinstance(result, TransportError) for result in results)
            assert "has not answered" in str(results[0])
            await eventually(lambda: not talk.link.connected, "the loss")
        finally:
            mosquitto.signal(signal.SIGCONT)
        await (await talk.session(2)).publish("a/b", b"alive")


async def test_given_up_by_ourselves(mosquitto):
    """`reconnect` makes a new session, and what waited on the old one fails."""
    talk = Talk(link_to(mosquitto.url))
    async with talk.running():
        first = await talk.session()
        await talk.link.reconnect()
        second = await talk.session(2)
        with pytest.raises(TransportError, match="given up"):
            await first.publish("a/b", b"")
        await second.publish("a/b", b"")


async def test_handler_errors_go_up(mosquitto):
    """A bug in the handler is not taken for a lost connection."""
    link = link_to(mosquitto.url)

    async def broken(session: Session) -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        await asyncio.wait_for(link.run(broken), 10)
    assert not link.connected


async def last_error(link: Link) -> str:
    task = asyncio.create_task(link.run(lambda session: asyncio.sleep(0)))
    try:
        return await eventually(lambda: link.last_error, "an error")
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_wrong_password_is_clear(tmp_path, protocol, monkeypatch):
    """The broker's refusal of a user is told in words."""
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    monkeypatch.setenv("MQTT_PASSWORD", "wrong")
    with running(Mosquitto(tmp_path / "m", settings=f"password_file {passwords}\nallow_anonymous false")) as broker:
        link = link_to(broker.url, username="u", password=Secret("env", "MQTT_PASSWORD"), protocol=protocol)
        assert "not authorized" in (await last_error(link)).lower()


async def test_missing_password_is_clear(mosquitto):
    """A secret that has vanished since the start is an error of the connection, not of the program."""
    link = link_to(mosquitto.url, username="u", password=Secret("env", "NOT_THERE_AT_ALL"))
    assert "NOT_THERE_AT_ALL" in await last_error(link)


@pytest.mark.parametrize("url", ["http://x:1", "mqtt://", "mqtt://h:99999", "mqtt://h:1/path", "127.0.0.1:1883"])
async def test_bad_url_is_clear(url):
    """A wrong URL names itself and what was expected."""
    assert url in await last_error(link_to(url))


async def test_closing_server_is_noticed_at_once():
    """A server that closes without an answer ends the try at once, with a hint."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    error = await asyncio.wait_for(last_error(link_to(f"mqtt://127.0.0.1:{port}", timeout=60)), 10)
    server.close()
    assert "closed the connection" in error or "lost" in error.lower()


async def test_denied_publish_is_told_in_mqtt_5(tmp_path):
    """With MQTT 5 a publish that the broker's ACL denies raises; aiomqtt by itself would call it a success."""
    (tmp_path / "acl").write_text("topic write allowed/#\n")
    settings = f"allow_anonymous true\nacl_file {tmp_path / 'acl'}"
    with running(Mosquitto(tmp_path / "m", settings=settings)) as broker:
        talk = Talk(link_to(broker.url, protocol="5"))
        async with talk.running():
            session = await talk.session()
            await session.publish("allowed/x", b"")
            with pytest.raises(TransportError, match="refused"):
                await session.publish("forbidden/x", b"")


@pytest.fixture
def certificate(tmp_path):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = [*request.split(), *names, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return key, cert


async def test_tls(tmp_path, certificate):
    """TLS works with the right authority, and says what is wrong with a stranger's, a plain port or a missing file."""
    key, cert = certificate
    settings = f"allow_anonymous true\ncertfile {cert}\nkeyfile {key}"
    with running(Mosquitto(tmp_path / "m", settings=settings)) as broker:
        url = f"mqtts://localhost:{broker.port}"
        talk = Talk(link_to(url, "a/#", ca=cert))
        async with talk.running():
            session = await talk.session()
            await session.publish("a/b", b"x" * 300_000)
            await eventually(lambda: talk.arrived, "the message")
            assert talk.arrived[0].payload == b"x" * 300_000
        assert "self-signed certificate" in await last_error(link_to(url))
        missing = tmp_path / "missing.pem"
        assert str(missing) in await last_error(link_to(url, ca=missing))
        plain = await last_error(link_to(broker.url, timeout=3))
        assert "closed the connection" in plain or "lost" in plain
    with running(Mosquitto(tmp_path / "n")) as broker:
        error = await last_error(link_to(f"mqtts://localhost:{broker.port}", ca=cert, timeout=3))
        assert "TLS" in error or "answer" in error or "reset" in error


async def test_silent_tls_server_leaks_nothing(certificate):
    """A server that accepts and never shakes hands costs nothing beyond its deadline."""
    async with silent_server() as (port, accepted):
        before = descriptors()
        link = link_to(f"mqtts://127.0.0.1:{port}", timeout=0.05, backoff=Backoff(0, 0), ca=certificate[1])
        task = asyncio.create_task(link.run(lambda session: asyncio.sleep(0)))
        await eventually(lambda: len(accepted) >= 10, "ten tries")
        task.cancel()
        await asyncio.wait({task})
        await eventually(lambda: descriptors() <= before, "sockets closed")


def test_backoff_is_full_jitter():
    """Pauses are uniform below a bound that doubles from `first` to `cap`, so that a fleet spreads out."""
    rng = random.Random(1)
    backoff = Backoff()
    for failures, bound in [(0, 30), (1, 60), (2, 120), (9, 120), (5000, 120)]:
        pauses = [backoff.delay(failures, rng) for _ in range(2000)]
        assert 0 <= min(pauses) < bound * 0.01
        assert bound * 0.99 < max(pauses) <= bound
        assert abs(sum(pauses) / len(pauses) - bound / 2) < bound * 0.05


async def test_an_end_in_the_moment_of_the_subscription_is_an_end(mosquitto, monkeypatch):
    """There asyncio.wait_for, under aiomqtt, loses the cancellation on Python 3.11; who stops us waits for ever."""
    heard = mqtt._Client._on_subscribe
    monkeypatch.setattr(mqtt._Client, "_on_subscribe", lambda *what: (heard(*what), task.cancel()))
    link = link_to(mosquitto.url, "a")
    task = asyncio.create_task(link.run(Talk(link).on_session))
    await asyncio.wait({task}, timeout=3)
    assert task.cancelled()
    assert not link.connected
