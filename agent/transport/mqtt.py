"""The connection to the broker; the only importer of aiomqtt.

aiomqtt brings paho's protocol and its wiring to the event loop. Four things are done here instead of
there, each for a measured reason: the socket is ours, so that a server that accepts and never answers
leaks neither task nor socket; a publish waits on one future and sees a refusal (MQTT 5 reason codes);
what arrives goes to a queue of ours without a task per message; a broker that closes before it answers
ends the attempt at once instead of at its deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import aiomqtt

from agent.clock import Clock
from agent.config.schema import MqttConfig
from agent.ending import end
from agent.errors import DeniedError, TransportError
from agent.transport.backoff import Backoff
from agent.transport.dial import dial, parse_url
from agent.transport.inbox import PACKET, Inbox, Message, bounded

__all__ = ["Backoff", "Link", "Message", "Session"]

log = logging.getLogger(__name__)
FAREWELL = 2.0
"""Seconds that the goodbye at a clean stop may take."""


class Session:
    """One connection, from its CONNACK to its loss. `number` grows from session to session."""

    def __init__(self, client: _Client, number: int) -> None:
        self.number = number
        self._client = client

    def post(self, topic: str, payload: bytes, *, retain: bool = False) -> asyncio.Future[None]:
        """Publish with QoS 1 now; the future is done at the broker's PUBACK.

        It fails with DeniedError where the broker says no (MQTT 5), TransportError if the connection is lost before.
        """
        return self._client.post(topic, payload, retain=retain)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1 and wait for the PUBACK; TransportError as in `post`."""
        await self._client.post(topic, payload, retain=retain)

    def listen(self, topic: str) -> None:
        """Subscribe to one more topic, where the broker allows it; a refusal has no consequence."""
        self._client.listen(topic)

    async def messages(self) -> AsyncIterator[Message]:
        """What arrives on the subscriptions, in order; TransportError when the connection is lost."""
        inbox = self._client.inbox
        while True:
            while inbox.waiting:
                yield inbox.take()
            await self._client.arrival()


class Link:
    """Keeps one connection to the broker, for ever: connect, subscribe, serve, and again after any loss.

    `will` gives topic and payload of the last will for a session number. At a clean end, where a DISCONNECT makes
    the broker forget it, `goodbye` is published by ourselves, or the will where there is none.
    """

    def __init__(
        self,
        config: MqttConfig,
        *,
        identifier: str,
        subscriptions: Sequence[str],
        clock: Clock,
        will: Callable[[int], tuple[str, bytes]] | None = None,
        goodbye: Callable[[int], tuple[str, bytes]] | None = None,
        rng: random.Random | None = None,
        backoff: Backoff | None = None,
        max_inbox: int = 64 * 1024 * 1024,
    ) -> None:
        self._config = config
        self._identifier = identifier
        self._subscriptions = tuple(subscriptions)
        self._clock = clock
        self._will = will
        self._goodbye = goodbye or will
        self._rng = rng or random.Random()
        self._backoff = backoff or Backoff()
        self._max_inbox = max_inbox
        self._client: _Client | None = None
        self._number = 0
        self._dropped = 0
        self.connects = 0
        self.last_error = ""

    @property
    def connected(self) -> bool:
        return self._client is not None

    @property
    def dropped(self) -> int:
        """Messages dropped because they arrived faster than they were taken, since the start."""
        return self._dropped + (self._client.inbox.dropped if self._client else 0)

    async def reconnect(self) -> None:
        """Give up the present connection, if there is one; `run` makes a new one after its pause."""
        if self._client is not None:
            self._client.lose("given up by ourselves")

    async def run(self, on_session: Callable[[Session], Awaitable[None]]) -> None:
        """Connect and serve until cancelled. `on_session` runs once per connection and is cancelled at its loss.

        What it raises goes up, but for TransportError, which ends the session only.
        """
        failures = 0
        while True:
            since = None
            try:
                client, session = await self._connect()
                since = self._clock.monotonic()
                await self._serve(client, session, on_session)
            except TransportError as error:
                self._report(error, was_connected=since is not None)
            if since is not None and self._clock.monotonic() - since >= self._backoff.calm:
                failures = 0
            await self._clock.sleep(self._backoff.delay(failures, self._rng))
            failures += 1

    def _report(self, error: TransportError, *, was_connected: bool) -> None:
        """One line for a loss, and one for each new reason why no connection comes about."""
        text = str(error)
        if was_connected:
            log.warning("broker connection lost", extra={"broker": self._config.url, "error": text})
        elif text != self.last_error:
            log.warning("broker cannot be used", extra={"broker": self._config.url, "error": text})
        self.last_error = text

    async def _connect(self) -> tuple[_Client, Session]:
        """Socket, CONNECT and SUBSCRIBE under one deadline."""
        seconds = float(self._config.connect_timeout)
        self._number = max(self._number + 1, int(self._clock.now() * 1000))
        client = None
        try:
            async with asyncio.timeout(seconds):
                broker = parse_url(self._config.url)
                connected = await dial(broker, self._config, seconds)
                client = _Client(self._config, self._identifier, self._last_will(), connected, self._max_inbox)
                await client.open(self._subscriptions)
        except TimeoutError as error:
            await _close(client)
            raise TransportError(f"{self._config.url} did not answer within {seconds:g} s") from error
        except BaseException:
            await _close(client)
            raise
        self._client = client
        self.connects += 1
        self.last_error = ""
        log.info("broker connected", extra={"broker": self._config.url, "session": self._number})
        return client, Session(client, self._number)

    def _last_will(self) -> aiomqtt.Will | None:
        if self._will is None:
            return None
        topic, payload = self._will(self._number)
        return aiomqtt.Will(topic, payload, qos=1, retain=True)

    async def _serve(self, client: _Client, session: Session, on_session: Callable[[Session], Awaitable[None]]) -> None:
        handler = asyncio.ensure_future(on_session(session))
        try:
            ends: set[asyncio.Future[Any]] = {handler, client.lost}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if handler.done():
                handler.result()
            await asyncio.wait({client.lost})
            raise TransportError(client.lost.result())
        except asyncio.CancelledError:
            await _end(handler)
            await self._farewell(client, session)
            raise
        finally:
            await _end(handler)
            self._dropped += client.inbox.dropped
            self._client = None
            await _close(client)

    async def _farewell(self, client: _Client, session: Session) -> None:
        """Say goodbye ourselves: the broker keeps a last will for those who vanish."""
        with contextlib.suppress(TransportError, TimeoutError):
            async with asyncio.timeout(FAREWELL):
                if self._goodbye is not None:
                    topic, payload = self._goodbye(session.number)
                    await client.post(topic, payload, retain=True)
                await client.disconnect()


class _Client(aiomqtt.Client):
    """aiomqtt's client over a socket that is connected already. Use `open`, `close`; not as a context."""

    def __init__(
        self, config: MqttConfig, identifier: str, will: aiomqtt.Will | None, connected: socket.socket, max_inbox: int
    ) -> None:
        version = aiomqtt.ProtocolVersion.V5 if config.protocol == "5" else aiomqtt.ProtocolVersion.V311
        broker = parse_url(config.url)
        self._socket = connected
        self._speech = f"MQTT {config.protocol}" + (" over TLS" if broker.secure else "")
        try:
            super().__init__(
                broker.host,
                broker.port,
                username=config.username or None,
                password=_reveal(config),
                identifier=identifier,
                protocol=version,
                will=will,
                keepalive=max(1, int(config.keepalive)),
                timeout=float(config.connect_timeout),
            )
        except BaseException:
            connected.close()
            raise
        # What paho offers no door for: it must take the socket that we have connected, and no packet without bounds.
        self._client._create_socket = lambda: connected  # type: ignore[method-assign]  # noqa: SLF001
        self._client._sock_recv = bounded(self._client._sock_recv, PACKET * max_inbox)  # type: ignore[assignment, method-assign]  # noqa: SLF001
        loop = asyncio.get_running_loop()
        self.inbox = Inbox(max_inbox)
        self.lost: asyncio.Future[str] = loop.create_future()
        self._patience = float(config.connect_timeout)
        self._posted: dict[int, tuple[asyncio.Future[None], float]] = {}
        self._watch: asyncio.TimerHandle | None = None
        self._arrival: asyncio.Future[None] | None = None
        self._disconnected.add_done_callback(self._on_disconnected)

    async def open(self, subscriptions: Sequence[str]) -> None:
        """CONNECT and SUBSCRIBE; TransportError where the broker refuses. The caller sets the deadline."""
        try:
            self._client_connect()
            await asyncio.wait({self._connected})  # not awaited itself: a deadline would cancel it under aiomqtt
            self._connected.result()
            for topic in subscriptions:
                codes = await self.listen(topic)
                if any((code if isinstance(code, int) else code.value) >= 128 for code in codes):
                    raise TransportError(f"the broker refused the subscription to {topic}")
        except (aiomqtt.MqttError, OSError) as error:
            raise TransportError(_reason(error)) from error

    def post(self, topic: str, payload: bytes, *, retain: bool) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        if self.lost.done():
            future.set_exception(TransportError(self.lost.result()))
            return future
        info = self._client.publish(topic, payload, 1, retain)
        if info.rc != 0:
            future.set_exception(TransportError(f"publish: {info.rc.name}"))
            return future
        self._posted[info.mid] = future, loop.time() + self._patience
        if self._watch is None:
            self._watch = loop.call_later(self._patience, self._check)
        return future

    def listen(self, topic: str) -> asyncio.Future[Any]:
        """What the broker grants. Not aiomqtt's `subscribe`, whose wait_for can lose a cancellation."""
        granted = asyncio.get_running_loop().create_future()
        _, mid = self._client.subscribe(topic, 1)
        if mid is None:
            granted.set_result([128])
        else:
            self._pending_subscribes[mid] = granted
        return granted

    def _check(self) -> None:
        """A broker that has not answered the oldest publish in time hangs: long before its keepalive says so."""
        self._watch = None
        if not self._posted or self.lost.done():
            return
        loop = asyncio.get_running_loop()
        _, due = next(iter(self._posted.values()))
        if loop.time() >= due:
            self.lose(f"the broker has not answered for {self._patience:g} s")
        else:
            self._watch = loop.call_at(due, self._check)

    async def arrival(self) -> None:
        """Until something is in the inbox; TransportError once the connection is lost and the inbox empty."""
        if self.inbox.waiting:
            return
        if self.lost.done():
            raise TransportError(self.lost.result())
        self._arrival = asyncio.get_running_loop().create_future()
        try:
            await self._arrival
        finally:
            self._arrival = None

    async def disconnect(self) -> None:
        """Send DISCONNECT and wait until it is out."""
        self._client.disconnect()
        await asyncio.wait({self._disconnected})

    def lose(self, reason: str) -> None:
        """The connection is gone, or as good as gone: fail all that wait."""
        if self.lost.done():
            return
        self.lost.set_result(reason)
        if self._watch is not None:
            self._watch.cancel()
        for future, _ in self._posted.values():
            if not future.done():
                future.set_exception(TransportError(reason))
                future.exception()  # whoever does not wait any more needs no warning about it
        self._posted.clear()
        self._wake()

    async def close(self) -> None:
        """Give back socket, reader, writer and paho's timer task, whatever state the connection is in."""
        self.lose("closed")
        task = self._misc_task
        try:
            await asyncio.sleep(0)  # what paho has asked the loop to watch must be watched before it is forgotten
        finally:
            self._client._sock_close()  # noqa: SLF001 - its public disconnect() waits for a server that may hang
            self._socket.close()
            task = self._misc_task or task
            if task is not None:
                task.cancel()
            for future in (self._connected, self._disconnected):
                if future.done() and not future.cancelled():
                    future.exception()
        if task is not None:
            await asyncio.wait({task})

    def _on_disconnected(self, future: asyncio.Future[None]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        self.lose(_reason(error) if error else "disconnected")

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        if not self._connected.done():
            self._connected.set_exception(
                aiomqtt.MqttError(f"the broker closed the connection unanswered (does it speak {self._speech}?)")
            )
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: Any, properties: Any) -> None:  # noqa: ARG002
        future, _ = self._posted.pop(mid, (None, 0.0))
        if future is None or future.done():
            return
        if reason_code.is_failure:
            future.set_exception(DeniedError(f"the broker refused the publish: {reason_code}"))
            future.exception()
        else:
            future.set_result(None)

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:  # noqa: ARG002
        try:
            topic = message.topic
        except UnicodeDecodeError:  # no topic of ours, and no reason to lose the connection
            return
        self.inbox.put(Message(topic, message.payload, message.retain))
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)


def _reveal(config: MqttConfig) -> str | None:
    if config.password is None:
        return None
    try:
        return config.password.reveal()
    except ValueError as error:
        raise TransportError(f"mqtt password: {error}") from error


def _reason(error: BaseException) -> str:
    """What aiomqtt says, without its numbers where it has words."""
    code = getattr(error, "rc", None)
    if code is not None and not isinstance(code, int):
        return f"the broker refused: {code}" if code.is_failure else str(code)
    return str(error) or type(error).__name__


async def _end(task: asyncio.Future[None]) -> None:
    await end([task])
    if not task.cancelled():
        task.exception()


async def _close(client: _Client | None) -> None:
    if client is not None:
        await client.close()
