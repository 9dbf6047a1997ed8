"""What the spool holds, and what it says about itself."""

from __future__ import annotations

from enum import IntEnum

import msgspec


class Priority(IntEnum):
    """Who goes first, and who is dropped last."""

    METRICS = 0
    GAP = 1
    INCIDENT = 2


class Retain(IntEnum):
    """What the broker keeps: nothing, this message, or this message until it is acknowledged."""

    NO = 0
    KEEP = 1
    FINAL = 2


class Item(msgspec.Struct):
    """One envelope as it was encoded, once: it is sent again byte for byte.

    `row` is its place in the file, 0 while it is in memory alone. `sent` is set by who publishes it.
    """

    epoch: str
    seq: int
    topic: str
    payload: bytes
    priority: int
    retain: int
    time: float
    row: int = 0
    sent: bool = False

    @property
    def key(self) -> tuple[str, int]:
        return self.epoch, self.seq


class SpoolStats(msgspec.Struct, frozen=True):
    """`pending` envelopes not yet acknowledged, `unacked` of them sent; `bytes` of the files on disk.

    `oldest_age` in seconds; `evicted` envelopes dropped by a bound and `ignored` acks that matched nothing, since
    the start. `memory_only`: the disk does not take what waits. `last_commit` is a monotonic time.
    """

    pending: int
    bytes: int
    oldest_age: float
    evicted: int
    unacked: int
    ignored: int
    memory_only: bool
    last_commit: float
