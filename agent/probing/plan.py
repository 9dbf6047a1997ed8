"""What shall run: one probe with its schedule, decoded and checked."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import msgspec

from agent.plugin import Probe


class PlannedProbe(msgspec.Struct, frozen=True):
    """One `[probes.NAME]`. Times in seconds; `interval` is None where `cron` (five fields, UTC) is set.

    `create` makes a fresh, unopened probe. Two plans with equal `key` are the same probe with the same
    configuration and code, so that a reload leaves it running.
    """

    name: str
    create: Callable[[], Probe]
    interval: float | None
    cron: str
    timeout: float
    jitter: float
    key: Hashable
