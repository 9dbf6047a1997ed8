"""One incident for each thing that a message can say: what the gallery shows and the golden files hold. Pure."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from msgspec.structs import replace

from agent.alerting.bulletin import Storm, digest
from agent.model import Evidence, Incident, Severity, Transition, TransitionKind
from agent.slack.blocks import Message, message, reply


class Sample(NamedTuple):
    """`says` is for who looks at the gallery. With a transition it is what the thread is told."""

    name: str
    says: str
    incident: Incident
    transition: Transition | None = None
    mention: str = ""
    small: bool = False


MEMORY = Evidence(
    "Top processes by memory", ("mysqld         5.1 GiB", "php-fpm        1.9 GiB", "redis-server  612 MiB")
)
GROWTH = Evidence(
    "Largest directories",
    (
        "/srv/shop/var/log     41.2 GiB  (+6.3 GiB in 20 min)",
        "/srv/shop/media       28.9 GiB  (+12 MiB in 20 min)",
        "/srv/backup           12.0 GiB",
    ),
)
_HOUR = tuple(62 + 23.2 * (minute / 59) ** 2 for minute in range(60))
_BURSTS = tuple(30 + 4 * math.sin(minute) + (45 if minute > 54 else 0) for minute in range(60))
_GAPS = tuple(None if 20 <= minute < 30 else 0.09 + 0.002 * minute for minute in range(60))


def samples(now: float) -> list[Sample]:
    """As if all was over by `now` (unix seconds)."""
    begun = now - 7500
    disk, memory, api, backup = _disk(begun), _memory(begun), _api(begun), _backup(begun)
    risen = replace(disk, severity=Severity.CRITICAL, peak=Severity.CRITICAL, value=95.4, peak_value=95.4, limit=95.0)
    risen = replace(risen, version=2, updated_at=begun + 600, summary="mount=/srv: 95.4 % full")
    eased = replace(risen, severity=Severity.WARNING, value=89.7, limit=85.0, version=3, updated_at=begun + 1800)
    eased = replace(eased, summary="mount=/srv: 89.7 % full")
    over = replace(eased, state="resolved", resolved_at=now, updated_at=now, value=40.0, version=4)
    taken = replace(risen, acknowledged_by="slack:U0123ABCD (ada)", acknowledged_at=begun + 660, version=3)
    muted = "silenced by ada until 18:00 UTC: the log rotation is being repaired"
    return [
        Sample("warning", "A warning opens", disk, mention="@here"),
        Sample("critical", "Something critical opens, with what is likely behind it", memory, mention="@here"),
        Sample("response_time", "With a grade", api),
        Sample("evidence", "What has grown, found after the message went out", replace(disk, evidence=(GROWTH,))),
        Sample("forecast", "Where the trend leads", replace(disk, forecast="full in 9 h (6-14 h)")),
        Sample("escalated", "The severity rises: the message is edited", risen),
        Sample("escalated_reply", "… and its thread told", risen, _step(risen, TransitionKind.ESCALATED), "@here"),
        Sample("deescalated", "It eases: the message is edited", eased),
        Sample("acknowledged", "Somebody has it in hand", taken),
        Sample("muted", "A silence holds it back", replace(disk, muted=muted)),
        Sample("flapping", "It comes and goes", replace(memory, flapping=True, evidence=(), history=_BURSTS)),
        Sample("absent", "No data comes any more", backup),
        Sample("resolved", "It is over: the message turns green", over),
        Sample("resolved_reply", "… and its thread told", over, _step(over, TransitionKind.RESOLVED)),
        Sample("storm", "More than anybody can read: one message with a thread", _storm(begun)),
        Sample("digest", "What happened while Slack was out of reach", _digest(disk, over, begun, now)),
        Sample("small", "What is left where Slack refused the whole", disk, small=True),
    ]


def rendered(sample: Sample, dashboard_url: str) -> Message:
    """As Slack is given it, with buttons."""
    if sample.transition is not None:
        return reply(sample.incident, sample.transition, mention=sample.mention, small=sample.small)
    return message(
        sample.incident, dashboard_url=dashboard_url, mention=sample.mention, actions=True, small=sample.small
    )


def _storm(begun: float) -> Incident:
    storm = Storm("inc_storm01kx2m7p9q4r5s6t", "#alerts", begun, begun)
    found = []
    for number in range(84):
        severity = Severity.CRITICAL if number % 7 == 0 else Severity.WARNING
        rule, host = ("api-response", "disk-io", "load")[number % 5 % 3], f"web-{number % 19 + 1}"
        one = Incident(f"inc_{number}", host, rule, "api.p95_seconds", severity, severity, begun, begun, begun, 1)
        storm.join(one, begun + number / 2)
        found.append(one)
    return storm.incident(found[20:], begun + 60, host="all hosts")


def _digest(stands: Incident, over: Incident, begun: float, now: float) -> Incident:
    changed = [stands, over]
    return digest("inc_digest01kx2m7p9q4r5s", begun - 4000, now, changed, opened=2, host="all hosts", version=1)


def _step(incident: Incident, kind: TransitionKind) -> Transition:
    severity = Severity.OK if kind is TransitionKind.RESOLVED else incident.severity
    return Transition(incident.id, incident.version, kind, severity, incident.updated_at, incident.value)


def _disk(now: float) -> Incident:
    return _opened(
        now,
        id="inc_0d0v2rj9g0abcdef",
        threshold="disk-space",
        metric="disk.used_percent",
        severity=Severity.WARNING,
        labels={"mount": "/srv", "type": "ext4"},
        unit="percent",
        value=85.23,
        limit=85.0,
        summary="mount=/srv: 85.2 % full",
        runbook="https://wiki.example.org/disk?a=1&b=2",
        history=_HOUR,
    )


def _memory(now: float) -> Incident:
    return _opened(
        now,
        id="inc_0d0v2rj9g0abcdeg",
        threshold="memory",
        metric="memory.used_percent",
        severity=Severity.CRITICAL,
        unit="percent",
        value=93.7,
        limit=90.0,
        summary="93.7 % of the memory is in use",
        history=tuple(71 + 0.38 * minute for minute in range(60)),
        evidence=(MEMORY,),
    )


def _api(now: float) -> Incident:
    return _opened(
        now,
        id="inc_0d0v2rj9g0abcdeh",
        threshold="api-response",
        metric="http.response_time",
        severity=Severity.WARNING,
        labels={"url": "https://shop/?a=<b>&c"},
        unit="seconds",
        value=0.21,
        limit=0.2,
        grade="A",
        history=_GAPS,
    )


def _backup(now: float) -> Incident:
    return _opened(
        now,
        id="inc_0d0v2rj9g0abcdej",
        threshold="backup",
        metric="backup.age_seconds",
        severity=Severity.CRITICAL,
        op="absent",
        unit="seconds",
        value=3600.0,
        limit=3600.0,
        summary="no data for 1 h",
    )


def _opened(now: float, *, op: str = ">", **facts: Any) -> Incident:
    """One that has just begun."""
    facts |= {"started_at": now - 60, "fired_at": now, "updated_at": now}
    facts |= {"peak": facts["severity"], "peak_value": facts["value"]}
    return Incident(host="web-1", op=op, version=1, **facts)
