"""The values that the stages exchange. No behaviour beyond what the words themselves mean.

What crosses a border (wire, disk) is a msgspec Struct; everything is immutable.
Times are unix seconds (UTC), durations seconds, sizes bytes, percentages 0-100.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

Labels = dict[str, str]
MetricKind = Literal["gauge", "counter"]
ProbeStatus = Literal["ok", "error", "timeout"]


class Severity(StrEnum):
    """How bad: ok < info < warning < critical; `unknown` is no data, and ranks beside ok."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """For comparing; the strings themselves compare alphabetically."""
        return _RANKS[self]


_RANKS = {Severity.OK: 0, Severity.INFO: 1, Severity.WARNING: 2, Severity.CRITICAL: 3}


class TransitionKind(StrEnum):
    """Why an incident has a new version. The first five are why we speak; the others change what is shown.

    `muted` and `unmuted`: a silence, a maintenance window or a dependency begins or ceases to hold it back;
    `flapping` and `steady`: it changes too often to be told each time, and it does so no more.
    """

    OPENED = "opened"
    ESCALATED = "escalated"
    DEESCALATED = "deescalated"
    REMINDED = "reminded"
    RESOLVED = "resolved"
    ACKNOWLEDGED = "acknowledged"
    MUTED = "muted"
    UNMUTED = "unmuted"
    FLAPPING = "flapping"
    STEADY = "steady"
    EVIDENCE = "evidence"


class Metric(msgspec.Struct, frozen=True, omit_defaults=True):
    """One measured value. `counter` marks a total that only grows; a plugin that can, sends rates."""

    name: str
    value: float
    unit: str = ""
    kind: MetricKind = "gauge"
    labels: Labels = {}

    @property
    def series(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What tells this metric from every other of the host: name and sorted labels."""
        return self.name, tuple(sorted(self.labels.items()))


class ProbeResult(msgspec.Struct, frozen=True):
    """What one run of one probe brought, its self-metrics included. `error` is set unless ok."""

    probe: str
    time: float
    status: ProbeStatus
    duration: float
    metrics: tuple[Metric, ...]
    error: str = ""


class Transition(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step in an incident's life. `version` is the incident's version that it led to."""

    incident: str
    version: int
    kind: TransitionKind
    severity: Severity
    time: float
    value: float | None = None
    note: str = ""


class Evidence(msgspec.Struct, frozen=True):
    """What was likely behind it at the moment of crossing: "Top processes by CPU", one line each."""

    title: str
    lines: tuple[str, ...]


class Incident(msgspec.Struct, frozen=True, omit_defaults=True):
    """One breach with a life: one threshold on one series of one host, from opened to resolved.

    `severity` is the present one (that of the last breach once resolved), `peak` the worst so far.
    `limit` is the bound that was crossed, in the metric's unit. `version` grows by one with every
    transition; of two copies the one with the higher version is the truth.
    """

    id: str
    host: str
    threshold: str
    metric: str
    severity: Severity
    peak: Severity
    started_at: float
    fired_at: float
    updated_at: float
    version: int
    state: Literal["open", "resolved"] = "open"
    labels: Labels = {}
    unit: str = ""
    op: str = ""
    value: float | None = None
    limit: float | None = None
    grade: str = ""
    summary: str = ""
    runbook: str = ""
    resolved_at: float | None = None
    acknowledged_by: str = ""
    peak_value: float | None = None
    """The worst value between opened and `updated_at`."""
    acknowledged_at: float | None = None
    muted: str = ""
    """Why it is not told at present, in words ("silenced by U1 until …: reason"); "" where it is."""
    flapping: bool = False
    forecast: str = ""
    """Where the trend leads, in words: "full in 9 h (6-14 h)"."""
    history: tuple[float | None, ...] = ()
    """The hour before it opened, one mean a minute, oldest first; None where there was nothing."""
    history_unit: str | None = None
    """The metric's own, where the value is something else: how fast it changes, or for how long nothing came."""
    evidence: tuple[Evidence, ...] = ()


class Sight(msgspec.Struct, frozen=True, omit_defaults=True):
    """A post, or the reply `call`, that Slack has taken as `ts` and nobody has seen there yet."""

    nonce: str
    asked_at: float
    call: Transition | None = None
    ts: str = ""
    tries: int = 0
    """Looks that have failed."""


class DeliveryState(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far one incident's message has come on its way to Slack. Times are unix seconds.

    `untold` is what has no message and gets none as it stands: muted, or over before its turn in a storm.
    What follows `next_try` is for whoever writes next: it goes on from there.
    """

    incident: str
    version: int
    state: Literal["pending", "sending", "delivered", "ambiguous", "dead", "untold"]
    channel: str = ""
    ts: str = ""
    attempts: int = 0
    error: str = ""
    next_try: float | None = None
    desired: int = 0
    """The version that should be shown."""
    open: bool = False
    generation: int = 1
    doing: Literal["", "post", "reply"] = ""
    nonce: str = ""
    asked_at: float = 0.0
    call: Transition | None = None
    """What the thread is still to be told."""
    thread: str = ""
    """The message in whose thread this one is, or is to be; "" for a root."""
    reminded: int = 0
    reminded_at: float = 0.0
    escalated: bool = False
    snoozed_until: float = 0.0
    snoozes: int = 0
    """How often it was put off: the last time holds, be it the shorter."""
    unseen: Sight | None = None


class Gap(msgspec.Struct, frozen=True):
    """Samples that a bound made the spool drop: `count` envelopes of `epoch`, as inclusive seq ranges."""

    epoch: str
    ranges: tuple[tuple[int, int], ...]
    count: int
    reason: Literal["bytes", "age", "disk", "corrupt"]
    first_time: float
    last_time: float


class ComponentHealth(msgspec.Struct, frozen=True):
    """0-100, or None where it could not be measured: unknown is never 100."""

    score: float | None
    grade: str = ""


class Health(msgspec.Struct, frozen=True):
    """A host's overall score and word, and the components it was made from."""

    time: float
    score: float | None
    status: Literal["EXCELLENT", "GOOD", "WARNING", "CRITICAL", "UNKNOWN"]
    components: dict[str, ComponentHealth]
