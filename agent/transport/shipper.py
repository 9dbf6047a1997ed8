"""From the spool to the broker, until the collector says that it has it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple, Protocol

import msgspec

from agent.clock import Clock
from agent.ending import end
from agent.errors import DeniedError, WireError
from agent.transport.inbox import Message
from agent.transport.item import Item, Retain
from agent.transport.spool import Spool
from agent.transport.window import Bucket, Window
from agent.transport.wire import Ack, Status, Topic, decode, encode, matches

log = logging.getLogger(__name__)
WINDOW = 64
BACKLOG = 48
"""Of these, backlog at most: what is never acknowledged (of a host that had another id, say) must not stop the news."""
RESEND_AFTER = 30.0
SILENCE = 60.0
"""Seconds without an acknowledgement, with data under way, after which the connection is given up."""
MAX_STRIKES = 4
MAX_SLOW_DOWN = 60.0
HANDFUL = 16
"""Backlog is taken in handfuls, not one by one as tokens drip."""


RETAINED = 500
"""Topics that are said again on each connection, at most."""
LETTERS = 256
"""Messages of `publish` that wait at most; beyond, the oldest are dropped."""


class Letter(NamedTuple):
    """A message that is sent once more on every new connection until the broker has it; then `done` is called."""

    topic: str
    payload: bytes
    done: Callable[[], None] | None


class SessionLike(Protocol):
    """What the shipper needs of a connection; see `agent.transport.mqtt.Session`."""

    @property
    def number(self) -> int: ...
    def post(self, topic: str, payload: bytes, *, retain: bool = False) -> asyncio.Future[None]: ...
    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None: ...
    def listen(self, topic: str) -> None: ...
    def messages(self) -> AsyncIterator[Message]: ...


class LinkLike(Protocol):
    """See `agent.transport.mqtt.Link`."""

    async def run(self, on_session: Callable[[SessionLike], Awaitable[None]]) -> None: ...
    async def reconnect(self) -> None: ...


class ShipperStats(msgspec.Struct):
    """Counts since the start. `ignored` acks were malformed or matched nothing; `refused` publishes were denied.

    `rtt` is the smoothed time from publish to acknowledgement; `unacked_age` that of the oldest still under way.
    """

    sent: int = 0
    resent: int = 0
    acked: int = 0
    ignored: int = 0
    refused: int = 0
    rtt: float | None = None
    unacked_age: float = 0.0


class Shipper:
    """Sends what the spool hands out, keeps at most 64 unacknowledged, sends again what stays without an answer.

    `link` must be subscribed to the host's `ack` topic. `status` makes the birth message for a session number.
    """

    def __init__(  # noqa: PLR0917 - the parts in the order of the road
        self,
        spool: Spool,
        link: LinkLike,
        host: str,
        epoch: str,
        clock: Clock,
        status: Callable[[int], Status],
        *,
        resend_after: float = RESEND_AFTER,
        silence: float = SILENCE,
    ) -> None:
        self._spool = spool
        self._link = link
        self._host = host
        self._epoch = epoch
        self._clock = clock
        self._status = status
        self._silence = silence
        self._by_broker = spool.config.ack == "broker"
        self._ack_topics = {str(Topic(host, "ack"))}
        self._window = Window(WINDOW, resend_after)
        self._bucket = Bucket(spool.config.backlog_rate, clock.monotonic())
        self._handful = max(1, min(HANDFUL, spool.config.backlog_rate))  # the bucket never holds more than its rate
        self._retained: dict[str, bytes] = {}
        self._unsaid: set[str] = set()
        self._clearing: set[str] = set()
        self._letters: deque[Letter] = deque(maxlen=LETTERS)
        self._posting: deque[Letter] = deque(maxlen=LETTERS)
        self._ears: dict[str, Callable[[Message], None]] = {}
        self._wake = asyncio.Event()
        self._backlog_from = 0.0
        self._heard = 0.0
        self._strikes = 0
        self._stats = ShipperStats()
        spool.on_commit = self._wake.set

    async def run(self) -> None:
        """Until cancelled."""
        await self._link.run(self._session)

    def publish_retained(self, topic: Topic, payload: bytes) -> None:
        """Let the broker keep this; only the latest per topic counts. Said again on every new connection."""
        self._retained[str(topic)] = payload
        self._unsaid.add(str(topic))
        self._wake.set()

    def publish(self, topic: Topic, payload: bytes, done: Callable[[], None] | None = None) -> None:
        """Say this once, in the order of the calls; `done` once the broker has it. Not retained, not spooled."""
        self._letters.append(Letter(str(topic), payload, done))
        self._wake.set()

    def hear(self, topic: str, take: Callable[[Message], None]) -> None:
        """From the next connection on, hand what arrives on `topic` to `take`, but not what the broker had retained.

        A level of the topic may be "+", which stands for any.
        """
        self._ears[topic] = take

    @property
    def stats(self) -> ShipperStats:
        oldest = self._window.oldest
        self._stats.rtt = self._window.rtt
        self._stats.unacked_age = 0.0 if oldest is None else self._clock.monotonic() - oldest
        return self._stats

    # -- one connection

    async def _session(self, session: SessionLike) -> None:
        self._heard = self._clock.monotonic()
        self._window.expire()
        self._clearing.clear()
        self._ack_topics = {str(Topic(self._host, "ack"))}
        self._unsaid = set(self._retained)
        self._letters.extendleft(reversed(self._posting))  # the last connection may have ended before they arrived
        self._posting.clear()
        for topic in self._ears:
            session.listen(topic)
        birth = encode(self._status(session.number))
        await session.publish(str(Topic(self._host, "status")), birth, retain=True)
        receiver = asyncio.ensure_future(self._receive(session))
        receiver.add_done_callback(lambda _: self._wake.set())
        try:
            await self._send(session, receiver)
        finally:
            await end([receiver])

    async def _send(self, session: SessionLike, receiver: asyncio.Future[None]) -> None:
        while not receiver.done():
            self._wake.clear()
            self._say_retained(session)
            self._say_letters(session)
            self._resend(session)
            pauses = [await self._fill(session), await self._watch_silence()]
            due = self._window.next_due
            if due is not None:
                pauses.append(due - self._clock.monotonic())
            await self._pause(min((pause for pause in pauses if pause is not None), default=None))
        receiver.result()

    async def _pause(self, seconds: float | None) -> None:
        """Until there is something to do, at the latest in `seconds`."""
        if seconds is None:
            await self._wake.wait()
            return
        sleeper = asyncio.ensure_future(self._clock.sleep(max(0.0, seconds)))
        sleeper.add_done_callback(lambda task: None if task.cancelled() else self._wake.set())
        try:
            await self._wake.wait()
        finally:
            sleeper.cancel()

    # -- sending

    def _resend(self, session: SessionLike) -> None:
        self._window.keep(self._spool.taken)
        now = self._clock.monotonic()
        for flight in self._window.overdue(now):
            self._window.relaunch(flight, now)
            self._stats.resent += 1
            self._post(session, flight.item)

    async def _fill(self, session: SessionLike) -> float | None:
        """Send what the window has room for; seconds until more may be sent, if more waits."""
        room = self._window.room
        if room <= 0 or not self._spool.waiting:
            return None
        now = self._clock.monotonic()
        backlog_room = BACKLOG - sum(self._spool.is_backlog(item) for item in self._window.items)
        handful = min(room, self._handful)
        allowance = self._bucket.available(now) if now >= self._backlog_from else 0
        items = await self._spool.take(room, backlog=min(allowance, backlog_room) if allowance >= handful else 0)
        self._bucket.spend(sum(self._spool.is_backlog(item) for item in items))
        now = self._clock.monotonic()
        for item in items:
            self._window.launch(item, now)
            self._stats.sent += 1
            self._post(session, item)
        if not self._spool.waiting or not self._window.room or backlog_room <= 0:
            return None
        return max(self._bucket.wait_for(min(self._window.room, self._handful)), self._backlog_from - now, 0.01)

    def _post(self, session: SessionLike, item: Item) -> None:
        item.sent = True
        ack_topic = str(Topic(item.topic.split("/")[2], "ack"))
        if ack_topic not in self._ack_topics:  # from when this host had another id
            self._ack_topics.add(ack_topic)
            session.listen(ack_topic)
        future = session.post(item.topic, item.payload, retain=item.retain != Retain.NO)
        future.add_done_callback(functools.partial(self._posted, item))

    def _posted(self, item: Item, future: asyncio.Future[None]) -> None:
        if future.cancelled():
            return
        if (error := future.exception()) is not None:
            if isinstance(error, DeniedError):
                if not self._stats.refused:
                    log.error("broker refuses a publish", extra={"topic": item.topic, "error": str(error)})
                self._stats.refused += 1
        elif self._by_broker:
            self._land([item])
            self._spool.settle([item])

    def _say_retained(self, session: SessionLike) -> None:
        for topic in self._unsaid:
            future = session.post(topic, self._retained[topic], retain=True)
            future.add_done_callback(functools.partial(self._said, topic))
        self._unsaid.clear()
        for topic in self._spool.clears - self._clearing:
            self._clearing.add(topic)
            future = session.post(topic, b"", retain=True)
            future.add_done_callback(functools.partial(self._cleared, topic))

    def _say_letters(self, session: SessionLike) -> None:
        while self._letters:
            letter = self._letters.popleft()
            self._posting.append(letter)
            session.post(letter.topic, letter.payload).add_done_callback(functools.partial(self._arrived, letter))

    def _arrived(self, letter: Letter, future: asyncio.Future[None]) -> None:
        """A lost connection leaves it where it is; a refusal is for good."""
        if future.cancelled() or not isinstance(error := future.exception(), DeniedError | None):
            return
        with contextlib.suppress(ValueError):  # pushed out by others meanwhile
            self._posting.remove(letter)
        if error is not None:
            log.error("broker refuses a publish", extra={"topic": letter.topic, "error": str(error)})
        elif letter.done is not None:
            letter.done()

    def _said(self, topic: str, future: asyncio.Future[None]) -> None:
        """A lost connection shows elsewhere, and all is said again on the next; but a topic once emptied is done."""
        if not future.cancelled() and future.exception() is None and not self._retained.get(topic):
            self._retained.pop(topic, None)

    def _cleared(self, topic: str, future: asyncio.Future[None]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._clearing.discard(topic)
            self._spool.cleared(topic)

    # -- acknowledgements

    async def _receive(self, session: SessionLike) -> None:
        async for message in session.messages():
            if message.retain:
                continue
            if message.topic not in self._ack_topics:
                self._overhear(message)
                continue
            try:
                ack = decode(message.payload, Ack)
            except WireError:
                self._stats.ignored += 1
                continue
            self._acknowledge(ack)

    def _overhear(self, message: Message) -> None:
        for topic, take in self._ears.items():
            if matches(topic, message.topic):
                take(message)

    def _acknowledge(self, ack: Ack) -> None:
        hits = self._spool.ack(ack)
        if not hits:
            self._stats.ignored += 1
        self._land(hits)
        if math.isfinite(ack.slow_down) and ack.slow_down > 0:
            self._backlog_from = self._clock.monotonic() + min(ack.slow_down, MAX_SLOW_DOWN)

    def _land(self, items: list[Item]) -> None:
        if not items:
            return
        now = self._clock.monotonic()
        self._keep_retained(items)
        self._stats.acked += self._window.land(items, now)
        self._heard = now
        self._strikes = 0
        self._wake.set()

    def _keep_retained(self, items: list[Item]) -> None:
        """What a broker keeps is said again, to one that may have lost it; the collector knows it by its identity."""
        for item in items:
            if item.retain == Retain.FINAL:
                self._retained.pop(item.topic, None)
            elif item.retain == Retain.KEEP and (item.topic in self._retained or len(self._retained) < RETAINED):
                self._retained[item.topic] = item.payload

    async def _watch_silence(self) -> float | None:
        """Nobody acknowledges: perhaps this connection is to blame. Less and less often, if a new one does not help."""
        oldest = self._window.oldest
        if oldest is None or self._by_broker:
            return None
        patience: float = self._silence * 2**self._strikes
        quiet = self._clock.monotonic() - max(self._heard, oldest)
        if quiet < patience:
            return patience - quiet
        log.warning(
            "collector does not acknowledge, connecting anew",
            extra={"seconds": round(quiet), "unacked": len(self._window)},
        )
        self._strikes = min(self._strikes + 1, MAX_STRIKES)
        self._heard = self._clock.monotonic()
        await self._link.reconnect()
        return None
