"""Whether systemd may believe that we live: the loop turns (else nobody asks), probes finish, the spool commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

SLACK = 60.0
"""Seconds beyond its interval that a run or a commit may take before it counts as stuck."""
BACKOFF = 600.0
"""A failing probe runs this seldom at worst."""


class Timed(Protocol):
    """What a planned probe tells of its times."""

    @property
    def name(self) -> str: ...

    @property
    def interval(self) -> float | None: ...


def fair_time(planned: Sequence[Timed], failing: Mapping[str, bool]) -> float | None:
    """Seconds within which some probe must have finished, those that fail as seldom as they may; None where only cron
    says when.
    """
    intervals = [
        max(each.interval, BACKOFF) if failing.get(each.name) else each.interval
        for each in planned
        if each.interval is not None
    ]
    return 2 * min(intervals) + SLACK if intervals else None


def stuck(now: float, last_run: float, last_commit: float, fair: float | None, interval: float) -> str:
    """Why we do not live, or "" if we do. All are monotonic seconds; `interval` is that of the daemon's own probe."""
    if fair is not None and now - last_run > fair:
        return f"no probe has finished for {now - last_run:.0f} s"
    if now - last_commit > interval + SLACK:
        return f"the spool has not committed for {now - last_commit:.0f} s"
    return ""
