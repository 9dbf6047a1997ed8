"""What the MQTT stream says of each host, as it comes in: the model behind `tocsin top`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from agent.errors import WireError
from agent.model import Health, Incident, Labels, Metric
from agent.transport import wire


@dataclass
class HostView:
    """One host. `heard` is the time of its last envelope in unix seconds, 0 while nothing but its status is known."""

    name: str
    online: bool | None = None
    heard: float = 0.0
    health: Health | None = None
    incidents: dict[str, Incident] = field(default_factory=dict)
    probes: dict[str, tuple[Metric, ...]] = field(default_factory=dict)

    def metrics(self, name: str) -> Iterator[Metric]:
        for metrics in self.probes.values():
            yield from (metric for metric in metrics if metric.name == name)

    def value(self, name: str, labels: Labels | None = None) -> float | None:
        """The first of this name whose labels are exactly `labels` (none by default)."""
        return next((metric.value for metric in self.metrics(name) if metric.labels == (labels or {})), None)

    def worst(self, name: str) -> Metric | None:
        return max(self.metrics(name), key=lambda metric: metric.value, default=None)


class Stream:
    """All hosts by name. `take` is handed every message of the subscriptions."""

    def __init__(self) -> None:
        self.hosts: dict[str, HostView] = {}
        self._takers: dict[str, Callable[[HostView, wire.Topic, bytes], None]] = {
            "metrics": _take_metrics,
            "incidents": _take_incident,
            "health": _take_health,
            "status": _take_status,
        }

    @staticmethod
    def subscriptions(host: str = "") -> list[str]:
        prefix = f"{wire.PREFIX}/{host or '+'}"
        return [f"{prefix}/metrics/+", f"{prefix}/incidents/+", f"{prefix}/health", f"{prefix}/status"]

    def take(self, topic: str, payload: bytes) -> bool:
        """Whether it was understood; anything else on the stream is not ours to mind."""
        try:
            parsed = wire.parse_topic(topic)
            taker = self._takers.get(parsed.channel)
            if taker is None:
                return False
            host = self.hosts.get(parsed.host) or HostView(parsed.host)
            taker(host, parsed, payload)
        except WireError:
            return False
        self.hosts[parsed.host] = host
        return True


def _take_metrics(host: HostView, topic: wire.Topic, payload: bytes) -> None:
    envelope = wire.decode(payload, wire.MetricsEnvelope)
    if envelope.time + 60 < host.heard:
        return  # backlog of an outage: not the present
    if envelope.status == "ok":
        host.probes[topic.item] = envelope.metrics
    host.heard = max(host.heard, envelope.time)
    host.online = True


def _take_incident(host: HostView, topic: wire.Topic, payload: bytes) -> None:
    if not payload:
        host.incidents.pop(topic.item, None)
        return
    incident = wire.decode(payload, wire.IncidentEnvelope).incident
    known = host.incidents.get(incident.id)
    if incident.state == "resolved":
        host.incidents.pop(incident.id, None)
    elif known is None or known.version < incident.version:
        host.incidents[incident.id] = incident


def _take_health(host: HostView, _: wire.Topic, payload: bytes) -> None:
    host.health = wire.decode(payload, wire.HealthMessage).health


def _take_status(host: HostView, _: wire.Topic, payload: bytes) -> None:
    host.online = wire.decode(payload, wire.Status).state == "online"
