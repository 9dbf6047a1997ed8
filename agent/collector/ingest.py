"""From the broker into the store: receive, batch, commit, acknowledge, show.

What waits to be committed waits undecoded, bounded by its bytes. Beyond the bound messages are
dropped, which loses nothing: nobody has acknowledged them, so they come again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import lru_cache

from agent.clock import Clock
from agent.collector.acks import Acks
from agent.collector.commit import Committer
from agent.collector.fleet import Fleet
from agent.collector.stats import Stats
from agent.collector.store import Quarantined, Received, Store, Written
from agent.errors import WireError
from agent.model import Incident
from agent.transport import wire
from agent.transport.mqtt import Message, Session

log = logging.getLogger(__name__)

BATCH = 2000
LINGER = 0.1
"""Seconds that the first envelope of a batch waits for others."""
MAX_WAITING = 64 * 1024 * 1024
MESSAGE = 500
"""Bytes that a waiting message takes beside its payload, so that tiny ones are bounded as well."""
SLOW_DOWN = 2.0
"""Seconds of pause asked of a host's backlog while we are behind."""

parse_topic = lru_cache(maxsize=50_000)(wire.parse_topic)


class Ingest:
    """`receive` runs once per connection, `run` for ever beside it.

    `on_deliveries` is called with what a host says of its messages, `on_incident` with each incident once it is stored,
    `on_heartbeat` with what collectors say of themselves.
    """

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        stats: Stats,
        clock: Clock,
        replied: Callable[[wire.Topic, Message], None] | None = None,
    ) -> None:
        self.on_deliveries: Callable[[str, wire.DeliveriesMessage], None] | None = None
        self.on_incident: Callable[[Incident], None] | None = None
        self.on_heartbeat: Callable[[Message], None] | None = None
        self._fleet = fleet
        self._stats = stats
        self._clock = clock
        self._replied = replied
        self.committer = Committer(store, stats, clock)
        self._acks = Acks()
        self._session: Session | None = None
        self._waiting: deque[Message] = deque()
        self._size = 0
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._full = False
        self._errors = 0

    async def receive(self, session: Session) -> None:
        """Take what arrives until the connection is lost (TransportError)."""
        self._session = session
        try:
            async for message in session.messages():
                self.take(message)
        finally:
            self._session = None

    async def run(self) -> None:
        """Batch after batch, for ever."""
        while True:
            await self._arrived.wait()
            if len(self._waiting) < BATCH:
                await self._clock.sleep(LINGER)
            self._idle.clear()
            try:
                await self._batch()
            finally:
                self._idle.set()

    async def idle(self) -> None:
        """Until no commit is under way."""
        await self._idle.wait()

    def take(self, message: Message) -> None:
        """One message, as it arrives: envelopes wait for their batch, all others are handled at once."""
        try:
            topic = parse_topic(message.topic)
        except WireError:
            if self.on_heartbeat is not None and wire.matches(wire.HEARTBEATS, message.topic):
                self.on_heartbeat(message)
            return  # else another's topic
        if not message.payload:
            return  # a retained message was cleared: an incident is over
        if not wire.is_envelope(topic.channel):
            self._aside(topic, message)
            return
        if not message.retain:
            self._fleet.heard(topic.host)
        size = len(message.payload) + MESSAGE
        if self._size + size > MAX_WAITING:
            self._overflow()
            return
        self._size += size
        self._waiting.append(message)
        self._stats.waiting = len(self._waiting)
        self._arrived.set()

    def _overflow(self) -> None:
        self._stats.dropped += 1
        if not self._full:
            self._full = True
            log.warning("too much waits for the database, messages are dropped", extra={"waiting": len(self._waiting)})

    def _aside(self, topic: wire.Topic, message: Message) -> None:
        """What is not stored but only known: the present state of a host, and answers to commands."""
        if topic.channel == "replies" and self._replied is not None:
            self._replied(topic, message)
            return
        try:
            if topic.channel == "status":
                self._fleet.status(topic.host, wire.decode(message.payload, wire.Status), retain=message.retain)
            elif topic.channel == "health":
                health = wire.decode(message.payload, wire.HealthMessage)
                self._fleet.health(topic.host, health, retain=message.retain)
            elif topic.channel == "deliveries":
                deliveries = wire.decode(message.payload, wire.DeliveriesMessage)
                self._fleet.deliveries(topic.host, deliveries, retain=message.retain)
                if self.on_deliveries is not None:
                    self.on_deliveries(topic.host, deliveries)
        except WireError as error:
            self._stats.undecodable += 1
            log.warning("message not understood", extra={"topic": message.topic[:200], "error": str(error)[:200]})

    async def _batch(self) -> None:
        batch, bad = self._decode()
        behind = self._size > MAX_WAITING // 2
        if batch:
            written = await self.committer.commit(batch)
            if self._errors != self._stats.store_errors:  # what is back may be an older copy: vouch for the new alone
                self._errors = self._stats.store_errors
                self._acks = Acks()
            self._count(written)
            self._fleet.committed(written.committed)
            self._announce(written.committed)
            self._acknowledge(batch, SLOW_DOWN if behind else 0.0)
        if bad:
            self._stats.undecodable += len(bad)
            self._stats.quarantined += len(bad)
            log.warning(
                "envelopes not understood", extra={"messages": len(bad), "topic": bad[0].topic, "error": bad[0].reason}
            )
            await self.committer.quarantine(bad)

    def _announce(self, committed: list[Received]) -> None:
        if self.on_incident is None:
            return
        for item in committed:
            if isinstance(item.envelope, wire.IncidentEnvelope):
                self.on_incident(item.envelope.incident)

    def _decode(self) -> tuple[list[Received], list[Quarantined]]:
        batch: list[Received] = []
        bad: list[Quarantined] = []
        for _ in range(min(BATCH, len(self._waiting))):
            message = self._waiting.popleft()
            payload = message.payload
            self._size -= len(payload) + MESSAGE
            topic = parse_topic(message.topic)
            try:
                envelope = wire.decode_envelope(topic, payload)
            except WireError as error:
                bad.append(Quarantined(message.topic, payload, str(error)))
            else:
                batch.append(Received(topic, envelope, payload, wire.fingerprint(payload)))
        self._stats.waiting = len(self._waiting)
        if not self._waiting:
            self._arrived.clear()
            self._full = False
        return batch, bad

    def _count(self, written: Written) -> None:
        stats = self._stats
        stats.envelopes += len(written.committed)
        stats.samples += written.samples
        stats.duplicates += len(written.duplicates)
        stats.conflicts += len(written.conflicts)
        stats.quarantined += len(written.conflicts) + len(written.refused)
        if written.conflicts:
            host, epoch, seq = written.conflicts[0].identity
            fields = {"envelopes": len(written.conflicts), "host": host, "epoch": epoch, "seq": seq}
            log.error("conflict: other bytes under an identity that is stored", extra=fields)

    def _acknowledge(self, batch: list[Received], slow_down: float) -> None:
        """After the commit, and only then. What does not get through is asked for again by a resend."""
        session = self._session
        for host, ack in self._acks.of(batch, slow_down):
            if session is not None:
                sent = session.post(f"{wire.PREFIX}/{host}/ack", wire.encode(ack))
                sent.add_done_callback(_forget)
                self._stats.acks += 1


def _forget(sent: asyncio.Future[None]) -> None:
    """A lost ack is no error: the host resends, and gets another."""
    if not sent.cancelled():
        sent.exception()
