"""What the store hands out. Times are unix seconds; all are JSON as the HTTP API shows them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from agent.model import Evidence, Incident, Labels, MetricKind


class HostRow(msgspec.Struct, frozen=True):
    """A host as last known: its birth or will, its health message, and when it was last heard."""

    host: str
    first_seen: float
    last_seen: float
    state: Literal["online", "offline", ""] = ""
    epoch: str = ""
    session: int = 0
    version: str = ""
    labels: Labels = {}
    health: dict[str, Any] | None = None


class SeriesRow(msgspec.Struct, frozen=True):
    """One series; `points` are (time, value), oldest first, means over `step` where one was asked for.

    `thinned`: some point stands for several samples.
    """

    metric: str
    unit: str
    kind: MetricKind
    labels: Labels
    points: list[tuple[float, float]]
    thinned: bool = False


class IncidentRow(msgspec.Struct, frozen=True):
    """One incident at its highest version: one entry of /api/v1/incidents, but for `delivery`."""

    id: str
    host: str
    threshold: str
    metric: str
    labels: Labels
    severity: str
    peak: str
    grade: str
    state: Literal["open", "resolved"]
    value: float | None
    peak_value: float | None
    limit: float | None
    op: str
    unit: str
    summary: str
    runbook: str
    started_at: float
    fired_at: float
    updated_at: float
    resolved_at: float | None
    acknowledged_by: str
    version: int
    acknowledged_at: float | None = None
    muted: str = ""
    flapping: bool = False
    forecast: str = ""
    history: tuple[float | None, ...] = ()
    history_unit: str | None = None
    evidence: tuple[Evidence, ...] = ()

    @classmethod
    def of(cls, host: str, incident: Incident) -> IncidentRow:
        """As the store would hand it out, for an incident that came from `host`."""
        values = {name: getattr(incident, name) for name in cls.__struct_fields__}
        return cls(**values | {"host": host})

    def incident(self) -> Incident:
        """As the host has sent it."""
        return msgspec.convert(msgspec.to_builtins(self), Incident)


class IncidentDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """What of an incident is stored as one text: nobody searches for it. See `agent.model.Incident`."""

    acknowledged_at: float | None = None
    muted: str = ""
    flapping: bool = False
    forecast: str = ""
    history: tuple[float | None, ...] = ()
    history_unit: str | None = None
    evidence: tuple[Evidence, ...] = ()


class TransitionRow(msgspec.Struct, frozen=True):
    incident: str
    version: int
    kind: str
    severity: str
    time: float
    value: float | None
    note: str


class GapRow(msgspec.Struct, frozen=True):
    """What a spool had to drop; `received` is when the collector learned of it."""

    host: str
    epoch: str
    count: int
    reason: str
    ranges: list[tuple[int, int]]
    first_time: float
    last_time: float
    received: float


class ProbeRow(msgspec.Struct, frozen=True):
    """The latest run of one probe on one host."""

    host: str
    probe: str
    time: float
    status: str
    duration: float
    error: str


class Counts(msgspec.Struct, frozen=True):
    """Rows per table, for /metrics; `samples` is what is kept at full resolution."""

    hosts: int
    series: int
    envelopes: int
    incidents_open: int
    incidents: int
    gaps: int
    quarantine: int
