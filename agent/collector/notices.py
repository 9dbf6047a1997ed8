"""What the collector has to say of hosts, on the road that everything takes into the database.

An incident of ours becomes an envelope like any other, of the host that it is about, with an epoch of our own.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from agent.alerting.memory import pair_key
from agent.clock import Clock
from agent.model import Incident, Transition
from agent.transport.mqtt import Message
from agent.transport.wire import IncidentEnvelope, Topic, encode

AGAIN_AFTER, FORGOTTEN_AFTER = 30.0, 3600.0


class Notices:
    """`put` as often as one likes: one envelope, given again only when it seems to have been lost."""

    def __init__(self, take: Callable[[Message], None], clock: Clock) -> None:
        self._take = take
        self._clock = clock
        self._epoch = secrets.token_hex(16)
        self._seq = 0
        self._given: dict[str, tuple[Message, float]] = {}

    def put(self, incident: Incident, transition: Transition) -> None:
        key = pair_key(incident.id, transition.version)
        now = self._clock.monotonic()
        message, at = self._given.get(key) or (self._message(incident, transition), float("-inf"))
        if now - at < AGAIN_AFTER:
            return
        self._given = {other: given for other, given in self._given.items() if now - given[1] < FORGOTTEN_AFTER}
        self._given[key] = message, now
        self._take(message)

    def _message(self, incident: Incident, transition: Transition) -> Message:
        """As if retained: it is no sign of life of the host that it is about."""
        self._seq += 1
        envelope = IncidentEnvelope(
            schema=1,
            host=incident.host,
            epoch=self._epoch,
            seq=self._seq,
            time=transition.time,
            incident=incident,
            transition=transition,
        )
        return Message(str(Topic(incident.host, "incidents", incident.id)), encode(envelope), retain=True)
