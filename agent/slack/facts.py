"""An incident in words, pure and not escaped: what Slack, the terminal and the chart's title have in common."""

from __future__ import annotations

import math
from typing import NamedTuple

from agent.alerting.bulletin import DIGEST, is_bulletin
from agent.alerting.figure import duration, figure
from agent.alerting.grade import spoken
from agent.model import Incident
from agent.slack.person import called
from agent.slack.sparkline import span
from agent.slack.text import is_address, plain

YEAR = 366 * 86400.0


class Fact(NamedTuple):
    name: str
    text: str


def headline(incident: Incident) -> str:
    """One line: the severity's word, what, and where."""
    word = "RESOLVED" if incident.state == "resolved" else incident.severity.upper()
    if incident.metric == DIGEST:
        return f"DIGEST: {plain(incident.threshold, 100)} for {lasted(incident)}"
    return f"{word}: {subject(incident)}"


def subject(incident: Incident) -> str:
    """What, and where."""
    return f"{plain(incident.threshold, 100)} on {where(incident)}"


def where(incident: Incident) -> str:
    labels = f" ({_labels(incident)})" if incident.labels else ""
    return f"{plain(incident.host, 70)}{labels}"


def facts(incident: Incident) -> list[Fact]:
    """What there is to know beside headline, summary and times; the most telling first."""
    resolved = incident.state == "resolved"
    if is_bulletin(incident):
        return [Fact("Lasted", lasted(incident))] if resolved else []
    found = [Fact("Value at the end" if resolved else "Value", against(incident))]
    if resolved:
        found += [Fact("Worst", worst(incident)), Fact("Lasted", lasted(incident))]
    if incident.grade:
        found.append(Fact("Grade", spoken(plain(incident.grade, 20))))
    if incident.forecast and not resolved:
        found.append(Fact("Forecast", plain(incident.forecast, 120)))
    return [*found, Fact("Metric", plain(incident.metric, 200))]


def trend(incident: Incident) -> str:
    """The hour before it opened: "62 % to 85.2 %"; "" where nothing is known of it."""
    return plain(span(incident.history, history_unit(incident)), 120)


def history_unit(incident: Incident) -> str:
    return incident.unit if incident.history_unit is None else incident.history_unit


def states(incident: Incident) -> list[Fact]:
    """Who has it in hand, and what holds it back; only while it is open."""
    if incident.state == "resolved":
        return [Fact("Acknowledged", _acknowledged(incident))] if incident.acknowledged_by else []
    found = []
    if incident.acknowledged_by:
        found.append(Fact("Acknowledged", _acknowledged(incident)))
    if incident.muted:
        found.append(Fact("Muted", plain(incident.muted, 300)))
    if incident.flapping:
        found.append(Fact("Flapping", "it changes too often to tell each time"))
    return found


def links(incident: Incident, dashboard_url: str) -> list[Fact]:
    """(text, address); an address that is no http one is left out."""
    found = [Fact("Runbook", incident.runbook)]
    if dashboard_url:
        page = "incidents" if is_bulletin(incident) else f"incidents/{incident.id}"
        found.append(Fact("Dashboard", f"{dashboard_url.rstrip('/')}/{page}"))
    return [entry for entry in found if is_address(entry.text)]


def bound(incident: Incident) -> str:
    """Such as "> 90 %" and "no data for 1 h"; "" where there is none."""
    if incident.limit is None:
        return ""
    text = _figure(incident.limit, incident)
    return f"no data for {text}" if incident.op == "absent" else f"{plain(incident.op, 10)} {text}"


def against(incident: Incident) -> str:
    """The value beside its limit."""
    if incident.op == "absent" and incident.state == "open":
        return bound(incident) or "no data"
    limit = "" if incident.limit is None or incident.op == "absent" else f" (limit {bound(incident)})"
    return f"{_value(incident)}{limit}"


def worst(incident: Incident) -> str:
    if incident.peak_value is None or incident.op == "absent":
        return incident.peak.upper()
    return f"{_figure(incident.peak_value, incident)}, {incident.peak.upper()}"


def lasted(incident: Incident) -> str:
    end = incident.updated_at if incident.resolved_at is None else incident.resolved_at
    seconds = end - incident.started_at
    return duration(min(seconds, 100 * YEAR)) if math.isfinite(seconds) else "a time unknown"


def taker(incident: Incident) -> str:
    """Who has acknowledged it; "" where nobody has. The audit has the id."""
    return plain(called(incident.acknowledged_by), 80)


def _acknowledged(incident: Incident) -> str:
    return f"by {taker(incident)}"


def _labels(incident: Incident) -> str:
    pairs = [f"{plain(name, 60)}={plain(text, 120)}" for name, text in sorted(incident.labels.items())[:20]]
    return plain(", ".join(pairs), 300)


def _value(incident: Incident) -> str:
    if incident.op == "absent":
        return "data is back" if incident.state == "resolved" else "no data"
    return "unknown" if incident.value is None else _figure(incident.value, incident)


def _figure(value: float, incident: Incident) -> str:
    return plain(figure(value, incident.unit), 80)
