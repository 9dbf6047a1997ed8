"""What goes into the store, and what became of it."""

from __future__ import annotations

import dataclasses

from agent.transport.wire import AnyEnvelope, Topic


@dataclasses.dataclass(slots=True)
class Received:
    """One decoded envelope as it came, with what tells a duplicate from a conflict."""

    topic: Topic
    envelope: AnyEnvelope
    payload: bytes
    fingerprint: bytes
    retain: bool = False

    @property
    def identity(self) -> tuple[str, str, int]:
        envelope = self.envelope
        return envelope.host, envelope.epoch, envelope.seq


@dataclasses.dataclass(slots=True)
class Quarantined:
    """A message that cannot be stored, kept for a human; `reason` is one line."""

    topic: str
    payload: bytes
    reason: str


@dataclasses.dataclass(slots=True)
class Written:
    """What one committed transaction did with each envelope of its batch; all of them may be acknowledged."""

    committed: list[Received]
    duplicates: list[Received]
    conflicts: list[Received]
    samples: int
