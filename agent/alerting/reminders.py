"""When nobody has taken an incident: a reminder in its thread, and once a word to somebody else. Pure.

While it flaps an hourly word that it still does takes the place of the reminder. All times are of the wall clock, which
may be set back: one that lies in the future then counts as when that was seen, so that at most one period is lost and
not weeks. The times themselves stay as they are, for when the clock is right again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agent.alerting.delivery import Delivery
from agent.alerting.route import Destination
from agent.alerting.silence import LONGEST
from agent.model import Incident, Transition, TransitionKind

SLOWEST = 86400.0
FLAPPING_EVERY = 3600.0
LOOK_AGAIN = 300.0
"""Seconds at most between two looks at the wall clock while something is to come."""


def due(row: Delivery, to: Destination, now: float) -> float | None:
    """The unix second of the next one; None where nothing is to come."""
    incident, since = row.incident, _past(row, row.incident.fired_at, now)
    quiet = row.resolved or incident.acknowledged_by or incident.muted or row.gathered
    if quiet or not row.ts or row.call is not None or row.state != "delivered":
        return None
    moments = []
    if to.escalate_after is not None and not row.escalated:
        moments.append(since + to.escalate_after)
    if incident.flapping:
        moments.append(max(_past(row, row.flapped_at, now), since) + FLAPPING_EVERY)
    elif to.remind_every is not None:
        pause = min(SLOWEST, to.remind_every * 2.0 ** min(row.reminded, 30))
        moments.append(max(_past(row, row.reminded_at, now), since) + pause)
    snoozed = _past(row, row.snoozed_until - LONGEST, now) + LONGEST
    return max(min(moments), snoozed) if moments else None


def remind(row: Delivery, to: Destination, now: float) -> None:
    """Have the thread told; the call has a note where somebody else is to be called."""
    incident = row.incident
    since = _past(row, incident.fired_at, now)
    escalates = to.escalate_after is not None and not row.escalated and now >= since + to.escalate_after
    row.reminded, row.reminded_at, row.escalated = row.reminded + 1, now, row.escalated or escalates
    note, kind = "So it goes to others." if escalates else "", TransitionKind.REMINDED
    if incident.flapping and not escalates:
        note, kind = "Each time was shown in the message above only.", TransitionKind.FLAPPING
    if incident.flapping:
        row.flapped_at = now
    row.call = Transition(incident.id, incident.version, kind, incident.severity, now, incident.value, note)
    row.state, row.attempts, row.next_try = "pending", 0, None


def _past(row: Delivery, moment: float, now: float) -> float:
    return moment if moment <= now else row.set_back.get(moment, now)


def watch(row: Delivery, now: float) -> bool:
    """Note which of its moments lie in the future: a snooze does where it is longer than can be asked for. Whether
    that has changed.
    """
    before = row.set_back
    moments = (row.incident.fired_at, row.reminded_at, row.flapped_at, row.snoozed_until - LONGEST)
    row.set_back = {moment: min(before.get(moment, now), now) for moment in moments if moment > now}
    return row.set_back != before


def sweep(
    rows: Iterable[Delivery], to: Callable[[Incident], Destination], now: float
) -> tuple[list[Delivery], float | None]:
    """Those that have changed, by a reminder or by a step of the clock; and the seconds until the next look."""
    changed: list[Delivery] = []
    pauses: list[float] = []
    for row in rows:
        destination, touched = to(row.incident), watch(row, now)
        at = due(row, destination, now)
        if at is not None and at <= now:
            remind(row, destination, now)
            touched = True
        elif at is not None:
            pauses.append(min(at - now, LOOK_AGAIN))
        if touched:
            changed.append(row)
    return changed, min(pauses, default=None)
