"""The daemon's parts, built from one configuration."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import TextIO

import msgspec

from agent.alerting.engine import Engine
from agent.alerting.fallback import Fallback
from agent.alerting.health import HealthBook
from agent.alerting.outbox import Outbox
from agent.alerting.pictures import Pictures
from agent.clock import Clock
from agent.config.schema import Config, MqttConfig, ThresholdConfig
from agent.daemon import alert_test
from agent.daemon.handover import Handover
from agent.daemon.inquiry import Tell
from agent.daemon.insight import Insight
from agent.daemon.switches import Mouth, Road
from agent.errors import UnavailableError
from agent.model import Incident, ProbeResult
from agent.probing.scheduler import Scheduler
from agent.slack import picture
from agent.slack.speaker import messenger
from agent.transport import wire
from agent.transport.mqtt import Backoff, Link
from agent.transport.shipper import Shipper
from agent.transport.spool import Spool
from agent.transport.wire import Topic

log = logging.getLogger(__name__)


class Identity(msgspec.Struct, frozen=True):
    """Who speaks: the host, and this start of its daemon."""

    host: str
    epoch: str


class Parts(msgspec.Struct):
    """What the wiring joins. `book` is exchanged when the weights change, the inside of `mouth` and `road` too."""

    spool: Spool
    engine: Engine
    outbox: Outbox
    handover: Handover
    fallback: Fallback
    mouth: Mouth
    pictures: Pictures
    insight: Insight
    road: Road
    shipper: Shipper
    scheduler: Scheduler
    book: HealthBook

    @classmethod
    async def open(
        cls,
        config: Callable[[], Config],
        identity: Identity,
        clock: Clock,
        *,
        on_result: Callable[[ProbeResult], None],
        on_deliveries: Callable[[], None],
        on_evidence: Tell,
        output: TextIO | None,
    ) -> Parts:
        """`config` gives the present configuration. UnavailableError without a state directory, SpoolError when
        another daemon has it; everything else may be absent.
        """
        now = config()
        directory = now.agent.state_dir
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnavailableError(f"agent.state_dir {directory} cannot be made: {error.strerror}") from error
        spool = await Spool.open(directory, now.spool, identity.epoch, clock)
        scheduler = Scheduler(clock, on_result)
        insight = Insight(thresholds(now), scheduler, clock, on_evidence)
        engine = await Engine.open(
            directory / "alerts.db",
            thresholds(now),
            identity.host,
            clock,
            maintenance=now.maintenance,
            witness=insight.witness,
        )
        mouth = Mouth(messenger(now.slack, output))
        slack = now.slack
        pictures = Pictures(engine.state, mouth, insight.draw, clock, on=picture.wanted(slack))
        outbox = Outbox(
            engine.state,
            mouth,
            clock,
            channel=slack.channel,
            routes=slack.routes,
            storm_after=slack.storm_after,
            storm_within=float(slack.storm_within),
            host=identity.host,
            on_change=on_deliveries,
            on_shown=pictures.offer,
        )
        handover = Handover(slack, outbox, engine.state, clock, on_deliveries)
        fallback = Fallback(outbox, engine.state, clock, lambda: config().slack.fallback, _words)
        road = Road(link(now.mqtt, identity, clock))

        def birth(session: int) -> wire.Status:
            return _birth(config(), identity, clock, session)

        resend_after = float(now.spool.resend_after)
        shipper = Shipper(spool, road, identity.host, identity.epoch, clock, birth, resend_after=resend_after)
        shipper.hear(wire.HEARTBEATS, handover.heartbeat)
        shipper.hear(str(Topic(identity.host, "delivered")), handover.delivered)
        book = HealthBook(now.health)
        return cls(spool, engine, outbox, handover, fallback, mouth, pictures, insight, road, shipper, scheduler, book)


def thresholds(config: Config) -> list[ThresholdConfig]:
    """Those of the file, and the one of `tocsin alert test`."""
    return [*config.thresholds, alert_test.THRESHOLD]


def _words(incident: Incident) -> str:
    from agent.slack.terminal import block  # noqa: PLC0415 - only when Slack has been away for long

    return block(incident)


INBOX = 4 * 1024 * 1024
"""Bytes: acknowledgements, heartbeats and commands are small, and this is a guest."""


def link(config: MqttConfig, identity: Identity, clock: Clock) -> Link:
    def will(session: int, *, stopped: bool = False) -> tuple[str, bytes]:
        status = wire.Status("offline", identity.epoch, session, stopped=stopped)
        return str(Topic(identity.host, "status")), wire.encode(status)

    spread = float(config.reconnect_spread)
    return Link(
        config,
        identifier=f"tocsin-{identity.host}",
        subscriptions=[str(Topic(identity.host, "ack"))],
        clock=clock,
        will=will,
        goodbye=functools.partial(will, stopped=True),
        backoff=Backoff(first=spread, cap=min(120.0, 4 * spread)),
        max_inbox=INBOX,
    )


def _birth(config: Config, identity: Identity, clock: Clock, session: int) -> wire.Status:
    return wire.Status(
        state="online",
        epoch=identity.epoch,
        session=session,
        version=version("tocsin"),
        config=digest(config),
        time=clock.now(),
        labels=config.agent.labels,
    )


def digest(config: Config) -> str:
    """Tells one configuration from another, and nothing of what it says."""
    return hashlib.blake2b(repr(config).encode(), digest_size=6).hexdigest()
