"""When a series changes too often to be told each time: one series, pure.

As Nagios does it: the severity after each of the last 21 results, and how much of the 20 steps between them are
changes, a recent one weighing 1.2 and the oldest 0.8. From rest, the third change begins it and two never do.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.alerting.incident import amend
from agent.model import Incident, Severity, Transition, TransitionKind

RESULTS = 21
BEGINS, ENDS = 15.0, 12.0
"""Percent of weighted changes. Two changes are 11.9 at most; three are 17.8, and 15 where they are spread evenly."""
OLDEST, NEWEST = 0.8, 1.2
APART = 5.0
"""Seconds: a result that changes nothing and comes sooner after the one before counts as the same."""


@dataclass(frozen=True, slots=True)
class Flaps:
    """`ranks`: severities after the last results, newest last; what is missing was calm.

    `at`: when the last of them came (monotonic), None where that is not known; it makes no difference by itself.
    """

    ranks: tuple[int, ...] = ()
    on: bool = False
    at: float | None = field(default=None, compare=False)

    @property
    def at_rest(self) -> bool:
        """Nothing to remember."""
        return not self.on and not any(self.ranks)


STILL = Flaps()


def follow(flaps: Flaps, severity: Severity, at: float) -> Flaps:
    """One more result, which left the series at `severity`, `at` monotonic seconds."""
    last = flaps.ranks[-1] if flaps.ranks else 0
    if severity.rank == last and (flaps.at_rest or (flaps.at is not None and 0 <= at - flaps.at < APART)):
        return flaps
    ranks = (*flaps.ranks, severity.rank)[-RESULTS:]
    changed = share(ranks)
    after = Flaps(ranks, changed > BEGINS or (flaps.on and changed >= ENDS), at)
    return STILL if after.at_rest else after


def share(ranks: tuple[int, ...]) -> float:
    """Percent of weighted changes. Steps in one direction are one change: warning on the way to critical is none."""
    known = (0,) * (RESULTS - len(ranks)) + ranks
    step = (NEWEST - OLDEST) / (RESULTS - 2)
    changes, direction = 0.0, 0
    for index in range(RESULTS - 1):
        moved = known[index + 1] - known[index]
        if moved and moved * direction <= 0:
            changes += OLDEST + step * index
        direction = moved or direction
    return 100 * changes / (RESULTS - 1)


def told(flaps: Flaps, severity: Severity, incident: Incident | None) -> Severity:
    """What an incident says: while it flaps the worst since it opened, so that only what is worse still moves it."""
    if not flaps.on or incident is None or incident.severity.rank <= severity.rank:
        return severity
    return incident.severity


def turn(flaps: Flaps, incident: Incident | None, now: float, value: float) -> tuple[Incident, Transition] | None:
    """The next version where the incident does not yet say whether it flaps; the value is the present one."""
    if incident is None or incident.flapping is flaps.on:
        return None
    kind = TransitionKind.FLAPPING if flaps.on else TransitionKind.STEADY
    return amend(incident, kind, now, flapping=flaps.on, value=value)
