"""WIRING of what the collector says in Slack: lease, herald, host watch and outbox, and the heartbeat beside them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from agent.alerting.fallback import Fallback
from agent.alerting.outbox import Outbox
from agent.alerting.pictures import Pictures
from agent.alerting.route import digest
from agent.alerting.state import State
from agent.clock import Clock
from agent.collector.chatops.custody import Custody
from agent.collector.fleet import Fleet
from agent.collector.herald import Herald
from agent.collector.hostwatch import HostWatch
from agent.collector.ingest import Ingest
from agent.collector.lease import Lease
from agent.collector.notices import Notices
from agent.collector.stats import Stats
from agent.collector.store import Reader
from agent.config.schema import Config
from agent.errors import TransportError, WireError
from agent.model import Incident
from agent.slack import picture
from agent.slack.speaker import messenger
from agent.slack.terminal import block
from agent.transport import wire
from agent.transport.mqtt import Message, Session
from agent.transport.wire import DeliveredMessage, Heartbeat, Topic

log = logging.getLogger(__name__)

FILE = "herald.db"
BEGIN_AGAIN = 5.0
LAST_CALL = 2.0
"""Seconds for a call to Slack that is under way at the end."""


JUST_OPENED = 90.0
"""Seconds for which the hour before an incident opened is still the last one."""


class Speech:
    """`heartbeat` runs once per connection, `run` for ever; `end` before a clean stop."""

    def __init__(self, config: Config, name: str, state: State, ingest: Ingest, clock: Clock) -> None:
        self._clock = clock
        self._state = state
        self._session: Session | None = None
        self._topic = f"{wire.PREFIX}/_collector/{name}/status"
        self.lease = Lease(name, float(config.slack.takeover_after))
        self._notices = Notices(ingest.take, clock)
        self._ending = False
        slack = config.slack
        self._can = slack.bot_token is not None and slack.deliver != "direct"
        self._routes = digest(slack.channel, slack.routes) if self._can else ""
        self.messenger = messenger(slack)

    @classmethod
    async def open(
        cls, config: Config, name: str, *, ingest: Ingest, fleet: Fleet, reader: Reader, stats: Stats, clock: Clock
    ) -> Speech:
        """Never fails: without a file, what was said is kept in memory."""
        directory: Path = config.agent.state_dir
        speech = cls(config, name, await State.open(directory / FILE), ingest, clock)
        speech._join(config, ingest, fleet, reader, stats)
        return speech

    def _join(self, config: Config, ingest: Ingest, fleet: Fleet, reader: Reader, stats: Stats) -> None:
        self._stats = stats
        watch = HostWatch(self._state, self._clock, maintenance=config.maintenance)
        self.herald = herald = Herald(
            self.lease, reader, fleet, watch, self._clock, tell=self._tell, keep=self._notices.put
        )
        slack = config.slack
        self._pictures = Pictures(self._state, self.messenger, _draw, self._clock, on=picture.wanted(slack))
        self.outbox = herald.outbox = Outbox(
            self._state,
            self.messenger,
            self._clock,
            channel=slack.channel,
            routes=slack.routes,
            storm_after=slack.storm_after,
            storm_within=float(slack.storm_within),
            on_change=herald.changed,
            may=herald.may,
            on_shown=self._pictures.offer,
        )
        self.custody = Custody(watch, self.lease, self.outbox, self._clock, herald.moved)
        self._fallback = Fallback(self.outbox, self._state, self._clock, lambda: slack.fallback, block)
        ingest.on_deliveries = herald.deliveries
        ingest.on_incident = herald.committed
        ingest.on_heartbeat = self._heard

    async def run(self) -> None:
        self.messenger.warm()
        async with asyncio.TaskGroup() as group:
            for work in (self.herald.run, self._pictures.run, self._fallback.run):
                group.create_task(self._guard(work))

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        """Whatever goes wrong with telling must not cost a sample: it is begun again."""
        while True:
            try:
                await work()
            except Exception:
                log.exception("what speaks to Slack broke, and begins again")
            await self._clock.sleep(BEGIN_AGAIN)

    async def heartbeat(self, session: Session) -> None:
        """Until the connection is lost, which others report. Each confirmed one is a while for which we may write."""
        self._session = session
        self.lease.begin()
        self.herald.connected()
        try:
            with contextlib.suppress(TransportError):
                while True:
                    await self._beat(session)
                    await self._clock.sleep(self.lease.interval)
        finally:
            self._session = None
            self.herald.disconnected()

    async def end(self) -> None:
        """Hand back what the hosts gave us, so that nobody need wait for our silence."""
        self._ending = True
        session = self._session
        if session is None:
            return
        with contextlib.suppress(TransportError, TimeoutError):
            async with asyncio.timeout(LAST_CALL):
                self.herald.delivering = False
                await self.outbox.idle()
                await self._beat(session)

    async def aclose(self) -> None:
        await self._state.aclose()

    def status(self, state: Literal["online", "offline"], *, delivers: bool = False) -> bytes:
        now, session = self._clock.now(), self.lease.session
        return wire.encode(Heartbeat(state, now, version("tocsin"), session, delivers, self._routes))

    async def _beat(self, session: Session) -> None:
        """Without its database a collector does not learn of incidents, so the hosts write themselves meanwhile.

        That it does not deliver is said only when nothing is under way any more.
        """
        able = self._can and self._stats.store_up and not self._ending
        self.herald.delivering = able
        sent = self._clock.monotonic()
        await session.publish(self._topic, self.status("online", delivers=able or self.outbox.busy), retain=True)
        self.lease.confirmed(sent)

    def _heard(self, message: Message) -> None:
        with contextlib.suppress(WireError, IndexError):
            beat = wire.decode(message.payload, Heartbeat)
            if not message.retain:
                self.lease.heard(message.topic.split("/")[3], beat, self._clock.monotonic())

    def _tell(self, host: str, message: DeliveredMessage) -> None:
        """What does not get through is told again when the host hands over anew."""
        if self._session is not None:
            sent = self._session.post(str(Topic(host, "delivered")), wire.encode(message))
            sent.add_done_callback(lambda done: None if done.cancelled() else done.exception())


async def _draw(incident: Incident) -> bytes:
    """Of one that has just opened: what the host has sent along is the hour before that, and nothing newer."""
    if incident.updated_at - incident.fired_at > JUST_OPENED:
        return b""
    return await picture.draw(incident)
