"""The present state of every host: in memory, from births, wills, health and the age of what was heard last."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import msgspec

from agent.clock import Clock
from agent.collector.live import Hub, LiveEvent
from agent.collector.store import HostRow, IncidentRow, Received
from agent.model import Incident, Labels, Severity
from agent.transport import wire

log = logging.getLogger(__name__)

State = Literal["online", "offline", "unknown"]

Absence = Literal["lost", "stopped", "silent"]
"""A connection that broke, an agent that said goodbye, or nothing heard for too long."""


class Gone(NamedTuple):
    """How a host went, and the seconds since its last word."""

    how: Absence
    silence: float


DELIVERY = ("version", "state", "channel", "ts", "attempts", "error", "next_try")
"""What of a host's word about its messages is shown; the rest is for who writes next."""

RETURN = 35.0
"""Seconds with a broker in which hosts come back to it: 30, and the time of a connect."""

MAX_HOSTS = 20_000
"""Remembered; who can say anything on any topic must not fill our memory with names."""
MAX_LATEST, ALL_LATEST = 4 * 1024 * 1024, 256 * 1024 * 1024
"""Bytes of the newest runs that are kept, of one host and of all."""
MAX_PROBES = 1000
MAX_INCIDENTS = 2000
"""Of one host, remembered; those that are over are forgotten first, then the oldest. The database has them all."""


class _Latest(NamedTuple):
    """The newest run of a probe: which envelope brought it, and its payload."""

    epoch: str
    seq: int
    time: float
    payload: bytes


@dataclasses.dataclass(slots=True)
class _Host:
    """`told` is what birth or will said last, `heard` the monotonic time of the last live message, `missed` how long we
    had the broker since then, but for the present connection.
    """

    name: str
    first_seen: float
    last_seen: float
    told: Literal["online", "offline", ""] = ""
    stopped: bool = False
    epoch: str = ""
    session: int = 0
    version: str = ""
    labels: Labels = dataclasses.field(default_factory=dict)
    health: dict[str, Any] | None = None
    heard: float | None = None
    missed: float = 0.0
    changed: bool = False
    published: dict[str, Any] = dataclasses.field(default_factory=dict)
    latest: dict[str, _Latest] = dataclasses.field(default_factory=dict)
    size: int = 0
    incidents: dict[str, tuple[int, Severity | None]] = dataclasses.field(default_factory=dict)
    deliveries: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)


class Fleet:
    """All hosts as the API shows them. Changes are published on the hub as "host" and "delivery".

    A host is offline once its last will, for the session of its present birth, is there; online while
    messages come; unknown when none has come for `offline_after` seconds, or not yet since our start.
    """

    def __init__(self, clock: Clock, hub: Hub, offline_after: float) -> None:
        self._clock = clock
        self._hub = hub
        self._offline_after = offline_after
        self._since = clock.monotonic()
        self._connected = math.inf
        self._hosts: dict[str, _Host] = {}
        self._size = 0
        self._full = False

    # --- what is asked

    def hosts(self) -> list[dict[str, Any]]:
        """Entries of /api/v1/hosts, by name: {"host", "state": online | offline | unknown, "last_seen",
        "first_seen", "version", "labels", "health": {"score", "status", "components", "time"} | None,
        "incidents": number of open ones, "worst": their worst severity | None}.
        """
        return [self._entry(host) for _, host in sorted(self._hosts.items())]

    def host(self, host: str) -> dict[str, Any] | None:
        """One entry of `hosts()`, or None if never heard."""
        known = self._hosts.get(host)
        return None if known is None else self._entry(known)

    def latest(self, host: str) -> list[dict[str, Any]]:
        """The newest run of each probe since the collector's start, as the data of a "sample" event."""
        known = self._hosts.get(host)
        if known is None:
            return []
        return [
            sample_data(wire.decode(latest.payload, wire.MetricsEnvelope))
            for _, latest in sorted(known.latest.items())
            if latest.payload
        ]

    def delivery(self, host: str, incident: str) -> dict[str, Any] | None:
        """{"state", "version", "channel", "ts", "attempts", "error", "next_try"} of an incident's Slack message,
        None where the host has told nothing about it.
        """
        known = self._hosts.get(host)
        return None if known is None else known.deliveries.get(incident)

    def told(self) -> dict[str, dict[str, Any]]:
        """`delivery` of every incident, open or not, about which a host has told anything."""
        return {incident: fields for host in self._hosts.values() for incident, fields in host.deliveries.items()}

    def absent(self) -> dict[str, Gone]:
        """Hosts that are known not to be there."""
        found: dict[str, Gone] = {}
        for host in self._hosts.values():
            state, silence = self._state(host), max(0.0, self._clock.now() - host.last_seen)
            if self._may_return(host):
                continue
            if state == "offline":
                found[host.name] = Gone("stopped" if host.stopped else "lost", silence)
            elif state == "unknown" and self._clock.monotonic() - (host.heard or self._since) > self._offline_after:
                found[host.name] = Gone("silent", silence)
        return found

    def present(self) -> set[str]:
        """Hosts that are online."""
        return {host.name for host in self._hosts.values() if self._state(host) == "online"}

    # --- what is heard

    def restore(self, rows: Iterable[HostRow]) -> None:
        """What the database remembers of hosts that nothing was heard of yet."""
        for row in rows:
            known = self._hosts.get(row.host)
            if known is not None:
                known.first_seen = min(known.first_seen, row.first_seen)
                continue
            self._hosts[row.host] = _Host(
                row.host,
                row.first_seen,
                row.last_seen,
                epoch=row.epoch,
                session=row.session,
                version=row.version,
                labels=row.labels,
                health=row.health,
            )

    def restore_incidents(self, rows: Iterable[tuple[str, str, int, Severity]]) -> None:
        """All open incidents as (host, id, version, severity); what is not among them is over."""
        found: dict[str, dict[str, tuple[int, Severity | None]]] = {}
        for name, incident, version, severity in rows:
            found.setdefault(name, {})[incident] = version, severity
        for name, host in self._hosts.items():
            before = host.incidents
            host.incidents = {incident: known for incident, known in before.items() if known[1] is None}
            for incident, stored in found.get(name, {}).items():
                host.incidents[incident] = max(stored, before.get(incident, stored), key=_version)
            self._publish(host)

    def connected(self) -> None:
        """We have the broker again, and so have the hosts soon: a fleet comes back over its `reconnect_spread`."""
        self._connected = self._clock.monotonic()

    def disconnected(self) -> None:
        """The broker is gone, for hosts as for us: who else is cannot be known."""
        for host in self._hosts.values():
            host.missed = host.missed + self._waited if self._missing(host) else 0.0
        self._connected = math.inf

    def heard(self, name: str) -> None:
        """A live (not a retained) message came from the host."""
        host = self._get(name)
        host.heard = self._clock.monotonic()
        host.last_seen = self._clock.now()
        host.changed = True
        if host.told == "offline":  # the will was that of a connection before: here it speaks
            host.told = ""
        if host.published.get("state") != "online":
            self._publish(host)

    def status(self, name: str, status: wire.Status, *, retain: bool) -> None:
        """A birth or a last will. A will of an earlier connection than that of the present birth is ignored."""
        host = self._get(name)
        known = (host.epoch, host.session)
        given = (status.epoch, status.session)
        older = status.session < host.session
        if status.state == "offline":
            if given != known and (older or (status.session == host.session and host.epoch != "")):
                return
        elif older and status.epoch == host.epoch:
            return
        else:
            host.version, host.labels = status.version, status.labels
        host.told, host.epoch, host.session = status.state, status.epoch, status.session
        host.stopped = status.stopped
        host.changed = True
        if status.state == "online" and not retain:
            self.heard(name)
        self._publish(host)

    def health(self, name: str, message: wire.HealthMessage, *, retain: bool) -> None:
        host = self._get(name)
        health = message.health
        host.health = msgspec.to_builtins(health)
        host.changed = True
        if not retain:
            self.heard(name)
        self._publish(host)

    def deliveries(self, name: str, message: wire.DeliveriesMessage, *, retain: bool) -> None:
        """How far the host's messages in Slack have come; what is not in the list any more is forgotten."""
        host = self._get(name)
        before, host.deliveries = host.deliveries, {}
        for delivery in message.deliveries:
            fields = {name: getattr(delivery, name) for name in DELIVERY}
            incident = delivery.incident
            host.deliveries[incident] = fields
            if before.get(incident) != fields:
                self._hub.publish(LiveEvent("delivery", {"host": name, "incident": incident, **fields}))
        if not retain:
            self.heard(name)

    def committed(self, items: Iterable[Received]) -> None:
        """These envelopes are in the database now, for the first time: show what is news among them."""
        for item in items:
            envelope = item.envelope
            if isinstance(envelope, wire.MetricsEnvelope):
                self._sample(self._get(envelope.host), envelope, item.payload)
            elif isinstance(envelope, wire.IncidentEnvelope):
                self._incident(self._get(envelope.host), envelope.incident)

    def sweep(self) -> None:
        """Publish the hosts that have grown silent; to be called about once a second."""
        for host in self._hosts.values():
            if host.published.get("state", "unknown") != self._state(host):
                self._publish(host)

    def take_changed(self) -> list[HostRow]:
        """Rows to keep of the hosts that have changed since the last time."""
        changed = [host for host in self._hosts.values() if host.changed]
        for host in changed:
            host.changed = False
        return [
            HostRow(
                host.name,
                host.first_seen,
                host.last_seen,
                host.told,
                host.epoch,
                host.session,
                host.version,
                host.labels,
                host.health,
            )
            for host in changed
        ]

    def keep_changed(self, rows: Iterable[HostRow]) -> None:
        """These could not be kept: they count as changed still."""
        for row in rows:
            self._get(row.host).changed = True

    # --- inside

    def _get(self, name: str) -> _Host:
        host = self._hosts.get(name)
        if host is None:
            now = self._clock.now()
            host = _Host(name, now, now)
            if len(self._hosts) < MAX_HOSTS:
                self._hosts[name] = host
            elif not self._full:
                self._full = True
                log.error("too many hosts, more are not shown", extra={"hosts": MAX_HOSTS, "next": name})
        return host

    def _may_return(self, host: _Host) -> bool:
        """Not heard since we have the broker: a will may have been given at the broker's own end, also one of a time
        when we were not there. Over several connections, or one that breaks again and again would hide who is gone.
        """
        return self._missing(host) and host.missed + self._waited < RETURN and not host.stopped

    def _missing(self, host: _Host) -> bool:
        return host.heard is None or host.heard < self._connected

    @property
    def _waited(self) -> float:
        """Seconds of the present connection."""
        return max(0.0, self._clock.monotonic() - self._connected)

    def _state(self, host: _Host) -> State:
        if host.told == "offline":
            return "offline"
        if host.heard is None or self._clock.monotonic() - host.heard > self._offline_after:
            return "unknown"
        return "online"

    def _entry(self, host: _Host) -> dict[str, Any]:
        severities = [severity for _, severity in host.incidents.values() if severity is not None]
        worst = max(severities, key=lambda severity: severity.rank, default=None)
        return {
            "host": host.name,
            "state": self._state(host),
            "last_seen": host.last_seen,
            "first_seen": host.first_seen,
            "version": host.version,
            "labels": host.labels,
            "health": host.health,
            "incidents": len(severities),
            "worst": worst,
        }

    def _publish(self, host: _Host) -> None:
        """Unless only `last_seen` has moved since the last time."""
        entry = self._entry(host)
        if {**entry, "last_seen": host.published.get("last_seen")} != host.published:
            host.published = entry
            self._hub.publish(LiveEvent("host", entry))

    def _sample(self, host: _Host, envelope: wire.MetricsEnvelope, payload: bytes) -> None:
        """Only what is newer than the last: a backlog on its way in is no live picture."""
        latest = host.latest.get(envelope.probe)
        if latest is None:
            if len(host.latest) >= MAX_PROBES or host.name not in self._hosts:
                return
        elif not _newer(envelope, latest, host.epoch):
            return
        before = 0 if latest is None else len(latest.payload)
        more = len(payload) - before
        if host.size + more > MAX_LATEST or self._size + more > ALL_LATEST:
            payload, more = b"", -before  # not remembered; but what was there before it is the newest no more
        host.size, self._size = host.size + more, self._size + more
        host.latest[envelope.probe] = _Latest(envelope.epoch, envelope.seq, envelope.time, payload)
        if self._hub.listeners:
            self._hub.publish(LiveEvent("sample", sample_data(envelope)))

    def _incident(self, host: _Host, incident: Incident) -> None:
        version, _ = host.incidents.get(incident.id, (0, None))
        if incident.version <= version:
            return
        host.incidents.pop(incident.id, None)
        host.incidents[incident.id] = incident.version, None if incident.state == "resolved" else incident.severity
        if len(host.incidents) > MAX_INCIDENTS:
            over = (known for known, (_, worst) in host.incidents.items() if worst is None)
            del host.incidents[next(over, next(iter(host.incidents)))]
        entry = msgspec.to_builtins(IncidentRow.of(host.name, incident))
        entry["delivery"] = host.deliveries.get(incident.id) or {"state": "unknown"}
        self._hub.publish(LiveEvent("incident", entry))
        self._publish(host)


def _newer(envelope: wire.MetricsEnvelope, latest: _Latest, present: str) -> bool:
    """By number within one process, as clocks are set; else what runs at present, then the clock."""
    if envelope.epoch == latest.epoch:
        return (envelope.seq, envelope.time) > (latest.seq, latest.time)
    if present in (envelope.epoch, latest.epoch):
        return envelope.epoch == present
    return envelope.time > latest.time


def _version(known: tuple[int, Severity | None]) -> int:
    return known[0]


def sample_data(envelope: wire.MetricsEnvelope) -> dict[str, Any]:
    return {
        "host": envelope.host,
        "probe": envelope.probe,
        "time": envelope.time,
        "status": envelope.status,
        "error": envelope.error,
        "metrics": envelope.metrics,
    }
