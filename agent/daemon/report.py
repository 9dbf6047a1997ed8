"""What the daemon says about itself: figures for its own probe, one line for systemd, health and deliveries."""

from __future__ import annotations

import asyncio

from agent.alerting import health
from agent.alerting.figure import counted
from agent.clock import Clock
from agent.daemon import watchdog
from agent.daemon.parts import Identity, Parts
from agent.daemon.self_probe import Figure, Vitals
from agent.model import Health, Metric
from agent.probing.plan import PlannedProbe
from agent.transport import wire
from agent.transport.wire import Topic

HEALTH_EVERY = 10.0
"""Seconds between two health messages, unless the host's word for itself changes."""
DELIVERIES_EVERY = 1.0


class Report:
    """`changed` is set when the outbox has something new to tell."""

    def __init__(self, parts: Parts, identity: Identity, vitals: Vitals, clock: Clock) -> None:
        self.changed = asyncio.Event()
        self._parts = parts
        self._identity = identity
        self._vitals = vitals
        self._clock = clock
        self._health: Health | None = None
        self._health_at = 0.0
        self._runs = 0

    def figures(self) -> list[Figure]:
        parts = self._parts
        spool, sent = parts.spool.stats(), parts.shipper.stats
        states = [row.state for row in parts.outbox.shown()]
        waiting = sum(state in ("pending", "sending", "ambiguous") for state in states)
        return [
            ("agent.spool_pending", spool.pending, "", "gauge"),
            ("agent.spool_bytes", spool.bytes, "bytes", "gauge"),
            ("agent.spool_evicted", spool.evicted, "", "counter"),
            ("agent.spool_memory_only", spool.memory_only, "", "gauge"),
            ("agent.unacked_age_seconds", max(sent.unacked_age, spool.oldest_age), "seconds", "gauge"),
            ("agent.envelopes_sent", sent.sent, "", "counter"),
            ("agent.envelopes_resent", sent.resent, "", "counter"),
            ("agent.envelopes_acked", sent.acked, "", "counter"),
            ("agent.broker_connected", parts.road.link.connected, "", "gauge"),
            ("agent.incidents_open", len(parts.engine.incidents()), "", "gauge"),
            ("agent.deliveries_waiting", waiting, "", "gauge"),
            ("agent.deliveries_dead", states.count("dead"), "", "gauge"),
        ]

    def status_line(self, probes: int) -> str:
        parts = self._parts
        failing = sorted(name for name, failing in self._vitals.failing.items() if failing)
        names = f": {', '.join(failing[:3])}" if failing else ""
        broker = "connected" if parts.road.link.connected else "not connected"
        incidents = counted(len(parts.engine.incidents()), "incident")
        return (
            f"{counted(probes, 'probe')} ({len(failing)} failing{names}), {incidents} open, "
            f"broker {broker}, {counted(parts.spool.stats().pending, 'message')} waiting"
        )

    def stuck(self, planned: list[PlannedProbe], interval: float) -> str:
        """Why systemd must not be told that we live; "" where we do."""
        now, stats = self._clock.monotonic(), self._parts.spool.stats()
        fair = watchdog.fair_time(planned, self._vitals.failing)
        # A disk that takes nothing is an alert; a new start would not mend it.
        last_commit = now if stats.memory_only else stats.last_commit
        return watchdog.stuck(now, self._parts.scheduler.last_run, last_commit, fair, interval)

    def publish_health(self) -> None:
        """Called about once a second; says something every ten, and at once when the word changes."""
        now, runs = self._clock.monotonic(), self._vitals.runs
        due = self._health is None or now - self._health_at >= HEALTH_EVERY
        if not due and runs == self._runs:
            return  # without a result it only grows old
        self._runs = runs
        present = self._parts.book.health(self._clock.now())
        if not due and self._health is not None and present.status == self._health.status:
            return
        self._health, self._health_at = present, now
        host = self._identity.host
        message = wire.HealthMessage(1, host, present)
        self._parts.shipper.publish_retained(Topic(host, "health"), wire.encode(message))

    def health(self) -> list[Metric]:
        """As of now, for the self probe: once an interval these are judged, stored and drawn like any other."""
        return health.metrics(self._parts.book.health(self._clock.now()))

    async def publish_deliveries(self) -> None:
        """For ever; at most once a second, as a storm changes many."""
        host = self._identity.host
        while True:
            await self.changed.wait()
            self.changed.clear()
            rows = tuple(self._parts.outbox.shown())
            writer = self._parts.handover.writer
            message = wire.DeliveriesMessage(1, host, self._clock.now(), rows, writer)
            self._parts.shipper.publish_retained(Topic(host, "deliveries"), wire.encode(message))
            await self._clock.sleep(DELIVERIES_EVERY)
