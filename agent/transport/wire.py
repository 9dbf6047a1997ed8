"""Topic names and the payload codec; nothing else knows either. UTF-8 JSON, QoS 1.

The contract for other consumers, with a JSON Schema per topic, is docs/wire.md.
Encoding never fails for values of the right type; decoding raises WireError.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Literal, TypeVar

import msgspec

from agent.errors import WireError
from agent.model import DeliveryState, Gap, Health, Incident, Labels, Metric, ProbeResult, ProbeStatus, Transition

PREFIX = "tocsin/v1"
HOST = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
"""What a host id looks like, in full (`fullmatch`)."""

MAX_PAYLOAD = 1024 * 1024
"""Bytes; larger payloads are refused on both sides."""

Channel = Literal[
    "metrics",
    "status",
    "health",
    "incidents",
    "gaps",
    "deliveries",
    "delivered",
    "ack",
    "commands",
    "replies",
]
"""`commands` and `replies/<id>` carry what `agent.commands.payload` describes, which is stricter than this codec."""

HEARTBEATS = f"{PREFIX}/_collector/+/status"
"""Subscription to what collectors say of themselves."""


class Topic(msgspec.Struct, frozen=True):
    """A topic taken apart: `tocsin/v1/<host>/<channel>[/<item>]`."""

    host: str
    channel: str
    item: str = ""

    def __str__(self) -> str:
        tail = f"/{self.item}" if self.item else ""
        return f"{PREFIX}/{self.host}/{self.channel}{tail}"


def parse_topic(topic: str) -> Topic:
    parts = topic.split("/")
    if len(parts) not in (4, 5) or "/".join(parts[:2]) != PREFIX or not HOST.fullmatch(parts[2]):
        raise WireError(f"not a topic of ours: {topic[:120]!r}")
    return Topic(*parts[2:])


def matches(pattern: str, topic: str) -> bool:
    """Whether a subscription to `pattern` brings `topic`; a level that is "+" stands for any."""
    wanted, given = pattern.split("/"), topic.split("/")
    return len(wanted) == len(given) and all(w in ("+", g) for w, g in zip(wanted, given, strict=True))


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What every spooled message starts with: (host, epoch, seq) is its identity for ever."""

    schema: int
    host: str
    epoch: str
    seq: int
    time: float


class MetricsEnvelope(Envelope, frozen=True, omit_defaults=True, kw_only=True):
    """One probe run. Topic `metrics/<probe>`."""

    probe: str
    status: ProbeStatus
    duration: float
    metrics: tuple[Metric, ...]
    error: str = ""

    @classmethod
    def of(cls, host: str, epoch: str, seq: int, result: ProbeResult) -> MetricsEnvelope:
        return cls(
            schema=1,
            host=host,
            epoch=epoch,
            seq=seq,
            probe=result.probe,
            time=result.time,
            status=result.status,
            duration=result.duration,
            metrics=result.metrics,
            error=result.error,
        )


class IncidentEnvelope(Envelope, frozen=True, omit_defaults=True, kw_only=True):
    """The incident as it stands now and the transition that led there. Topic `incidents/<id>`."""

    incident: Incident
    transition: Transition


class GapEnvelope(Envelope, frozen=True, omit_defaults=True, kw_only=True):
    """What the spool had to drop. Topic `gaps`."""

    gap: Gap


class Status(msgspec.Struct, frozen=True, omit_defaults=True):
    """Birth (online) and last will (offline), retained. Topic `status`.

    A will whose `session` is not that of the present birth is an old connection's, and ignored.
    `stopped`: said by the agent itself at its clean end; a will that the broker says for it has it not.
    """

    state: Literal["online", "offline"]
    epoch: str
    session: int
    version: str = ""
    config: str = ""
    time: float = 0.0
    labels: Labels = {}
    stopped: bool = False


class Heartbeat(msgspec.Struct, frozen=True, omit_defaults=True):
    """A collector lives (online), or is gone (last will). Retained, on topic `_collector/<name>/status`.

    `session` is drawn at each of its starts. `delivers`: it writes to Slack for hosts that hand their incidents over.
    `routes` is a digest of its channel and routes, which one of the same version can compare with its own.
    """

    state: Literal["online", "offline"]
    time: float = 0.0
    version: str = ""
    session: str = ""
    delivers: bool = False
    routes: str = ""


class HealthMessage(msgspec.Struct, frozen=True):
    """Retained, not spooled: only the latest counts. Topic `health`."""

    schema: int
    host: str
    health: Health


class DeliveriesMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Retained, not spooled: only the latest counts. Topic `deliveries`.

    `writer` is who writes to Slack for this host from now on: "" the host itself, else "<collector>/<session>".
    """

    schema: int
    host: str
    time: float
    deliveries: tuple[DeliveryState, ...]
    writer: str = ""


class DeliveredMessage(msgspec.Struct, frozen=True):
    """Collector to a host that it writes for: how far the host's messages have come. Topic `delivered`."""

    schema: int
    writer: str
    deliveries: tuple[DeliveryState, ...]


class Ack(msgspec.Struct, frozen=True):
    """Collector to host, after its commit: all of `epoch` up to and with `upto`, and also these.

    `upto` 0 vouches for nothing. `slow_down`: pause in seconds that the collector asks for before
    more backlog is sent.
    """

    epoch: str
    upto: int
    also: tuple[int, ...] = ()
    slow_down: float = 0


AnyEnvelope = MetricsEnvelope | IncidentEnvelope | GapEnvelope
_ENVELOPES: dict[str, type[AnyEnvelope]] = {
    "metrics": MetricsEnvelope,
    "incidents": IncidentEnvelope,
    "gaps": GapEnvelope,
}
_encoder = msgspec.json.Encoder()
_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}
T = TypeVar("T")


def encode(message: Any) -> bytes:
    return _encoder.encode(message)


def decode(payload: bytes, kind: type[T]) -> T:
    """Strict in types, lenient towards unknown fields: a newer agent may say more."""
    if len(payload) > MAX_PAYLOAD:
        raise WireError(f"payload of {len(payload)} bytes, more than {MAX_PAYLOAD}")
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        message: T = decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(str(error)) from error
    return message


def decode_envelope(topic: Topic, payload: bytes) -> AnyEnvelope:
    """The envelope on a spooled topic; its host must be the topic's, which the broker's ACL vouches for."""
    kind = _ENVELOPES.get(topic.channel)
    if kind is None:
        raise WireError(f"no envelopes on {topic.channel!r}")
    envelope: AnyEnvelope = decode(payload, kind)
    if envelope.schema != 1:
        raise WireError(f"schema {envelope.schema} is not known here")
    if envelope.host != topic.host:
        raise WireError(f"envelope of {envelope.host[:80]!r} on the topic of {topic.host!r}")
    if isinstance(envelope, IncidentEnvelope) and envelope.incident.host != topic.host:
        raise WireError(f"incident of {envelope.incident.host[:80]!r} on the topic of {topic.host!r}")
    if not 0 < envelope.seq < 2**63 or not re.fullmatch(r"[0-9a-f]{32}", envelope.epoch):
        raise WireError(f"no identity: epoch {envelope.epoch[:40]!r}, seq {envelope.seq}")
    return envelope


def is_envelope(channel: str) -> bool:
    """Whether messages on this channel are spooled, deduplicated and acknowledged."""
    return channel in _ENVELOPES


def fingerprint(payload: bytes) -> bytes:
    """16 bytes that tell a duplicate (same) from a conflict (other) under one identity."""
    return hashlib.blake2b(payload, digest_size=16).digest()
