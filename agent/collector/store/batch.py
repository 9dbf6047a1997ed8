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
    series: list[int] = dataclasses.field(default_factory=list)
    """The store's ids of the metrics, which the store fills in."""

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
    """What became of each envelope of a batch; all of them may be acknowledged.

    `refused`: the database would not take it, and it is in quarantine.
    """

    committed: list[Received]
    duplicates: list[Received]
    conflicts: list[Received]
    samples: int
    refused: list[Received] = dataclasses.field(default_factory=list)

    def add(self, other: Written) -> None:
        self.committed += other.committed
        self.duplicates += other.duplicates
        self.conflicts += other.conflicts
        self.refused += other.refused
        self.samples += other.samples
