"""The collector's counters about itself, for /metrics."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(slots=True)
class Stats:
    """Totals since the process start; `commit_seconds` is the sum over `batches`."""

    envelopes: int = 0
    samples: int = 0
    duplicates: int = 0
    conflicts: int = 0
    quarantined: int = 0
    undecodable: int = 0
    dropped: int = 0
    """Messages dropped because too much waited for the database; they come again."""
    batches: int = 0
    commit_seconds: float = 0.0
    acks: int = 0
    store_errors: int = 0
    store_up: bool = False
    broker_up: bool = False
    connects: int = 0
    waiting: int = 0
    """Envelopes received and not yet committed."""
