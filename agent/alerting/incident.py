"""The life of one breach, pure: opened, escalated, deescalated, resolved; never opened again."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from agent.model import Evidence, Incident, Labels, Severity, Transition, TransitionKind

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class Breach(msgspec.Struct, frozen=True):
    """What a new incident is about. `started_at` is when the breach began, before any `for`."""

    host: str
    threshold: str
    metric: str
    op: str
    started_at: float
    labels: Labels
    unit: str = ""
    runbook: str = ""
    history: tuple[float | None, ...] = ()
    history_unit: str | None = None


class Reading(msgspec.Struct, frozen=True):
    """How it stands now: `time` unix seconds, `limit` the bound of `severity`, `peak` the worst value so far."""

    severity: Severity
    time: float
    value: float | None = None
    limit: float | None = None
    peak: float | None = None
    grade: str = ""
    summary: str = ""
    note: str = ""
    evidence: tuple[Evidence, ...] = ()
    forecast: str = ""


def new_id(now: float, rng: random.Random) -> str:
    """Short, unique, URL-safe, and sorts by time: 9 letters of milliseconds, then 7 (35 bits) of chance."""
    return "inc_" + new_token(now, rng)


def new_token(now: float, rng: random.Random) -> str:
    """What comes after "inc_"."""
    return _base32(int(now * 1000), 9) + _base32(rng.getrandbits(35), 7)


def open_incident(incident_id: str, breach: Breach, reading: Reading) -> tuple[Incident, Transition]:
    """The first version; `reading.severity` must be a breach."""
    if reading.severity.rank == 0:
        raise ValueError("an incident opens with a breach")
    incident = Incident(
        id=incident_id,
        host=breach.host,
        threshold=breach.threshold,
        metric=breach.metric,
        severity=reading.severity,
        peak=reading.severity,
        started_at=min(breach.started_at, reading.time),
        fired_at=reading.time,
        updated_at=reading.time,
        version=1,
        labels=breach.labels,
        unit=breach.unit,
        op=breach.op,
        value=reading.value,
        limit=reading.limit,
        grade=reading.grade,
        summary=reading.summary,
        runbook=breach.runbook,
        peak_value=reading.peak,
        history=breach.history,
        history_unit=breach.history_unit,
        evidence=reading.evidence,
        forecast=reading.forecast,
    )
    return incident, _transition(incident, TransitionKind.OPENED, reading)


def advance(incident: Incident, reading: Reading) -> tuple[Incident, Transition] | None:
    """The next version, or None when there is nothing to say. ValueError on a resolved incident."""
    if incident.state != "open":
        raise ValueError(f"{incident.id} is resolved; a new breach is a new incident")
    rank = reading.severity.rank
    if rank == incident.severity.rank:
        return None
    if rank == 0:
        return _resolve(incident, reading)
    rises = rank > incident.severity.rank
    after = msgspec.structs.replace(
        incident,
        severity=reading.severity,
        peak=max(incident.peak, reading.severity, key=lambda severity: severity.rank),
        updated_at=reading.time,
        version=incident.version + 1,
        value=reading.value,
        limit=reading.limit,
        grade=reading.grade,
        summary=reading.summary or incident.summary,
        peak_value=reading.peak,
        evidence=reading.evidence or incident.evidence,
        forecast=reading.forecast,
    )
    kind = TransitionKind.ESCALATED if rises else TransitionKind.DEESCALATED
    return after, _transition(after, kind, reading)


def amend(
    incident: Incident, kind: TransitionKind, now: float, note: str = "", **changes: Any
) -> tuple[Incident, Transition]:
    """The next version with other things than its severity changed. ValueError on a resolved incident."""
    if incident.state != "open":
        raise ValueError(f"{incident.id} is resolved, and stays as it is")
    after = msgspec.structs.replace(incident, updated_at=now, version=incident.version + 1, **changes)
    return after, Transition(incident.id, after.version, kind, incident.severity, now, None, note)


def acknowledge(incident: Incident, by: str, now: float) -> tuple[Incident, Transition] | None:
    """Somebody looks after it; None where somebody does already."""
    if incident.acknowledged_by:
        return None
    return amend(incident, TransitionKind.ACKNOWLEDGED, now, by, acknowledged_by=by, acknowledged_at=now)


def mute(incident: Incident, words: str, now: float) -> tuple[Incident, Transition] | None:
    """Have it say why it is not told, "" where nothing holds it back; None where it says so already."""
    if words == incident.muted:
        return None
    kind = TransitionKind.MUTED if words else TransitionKind.UNMUTED
    return amend(incident, kind, now, words or incident.muted, muted=words)


def _resolve(incident: Incident, reading: Reading) -> tuple[Incident, Transition]:
    after = msgspec.structs.replace(
        incident,
        state="resolved",
        flapping=False,
        forecast="",
        updated_at=reading.time,
        resolved_at=reading.time,
        version=incident.version + 1,
        value=incident.value if reading.value is None else reading.value,
        grade=reading.grade or incident.grade,
        peak_value=incident.peak_value if reading.peak is None else reading.peak,
    )
    return after, _transition(after, TransitionKind.RESOLVED, reading)


def _transition(incident: Incident, kind: TransitionKind, reading: Reading) -> Transition:
    return Transition(incident.id, incident.version, kind, reading.severity, reading.time, reading.value, reading.note)


def _base32(number: int, width: int) -> str:
    letters = [_ALPHABET[number >> (5 * place) & 31] for place in range(width)]
    return "".join(reversed(letters))
