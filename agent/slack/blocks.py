"""An incident as a Slack message, pure. Everything that came from a host is cut to length and escaped here."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.alerting.figure import duration, figure
from agent.alerting.grade import spoken
from agent.model import Incident, Severity, Transition, TransitionKind

Block = dict[str, Any]

COLOURS = {"resolved": "#2eb67d", Severity.INFO: "#36c5f0", Severity.WARNING: "#ecb22e", Severity.CRITICAL: "#e01e5a"}
SIGNS = {
    "resolved": ":large_green_circle:",
    Severity.INFO: ":large_blue_circle:",
    Severity.WARNING: ":large_yellow_circle:",
    Severity.CRITICAL: ":red_circle:",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_URL = re.compile(r"https?://[^\s|<>\"]{1,1000}")


@dataclass(frozen=True, slots=True)
class Message:
    """What chat.postMessage and chat.update take. `text` is what notifications and screen readers say."""

    text: str
    blocks: list[Block] = field(default_factory=list)
    attachments: list[Block] = field(default_factory=list)


def message(incident: Incident, *, dashboard_url: str = "", mention: str = "", small: bool = False) -> Message:
    """The incident's own message as it stands now. `small`: one line, for when the whole was refused."""
    title = headline(incident)
    if small:
        return Message(escape(title, 500))
    ping = "" if incident.state == "resolved" else _mention(mention)
    header = f"{_sign(incident)} *{escape(title, 600)}*" + (f" {ping}" if ping else "")
    summary, fields = escape(incident.summary, 500), _fields(incident)
    parts = [_section(summary)] if summary else []
    parts += [{"type": "section", "fields": fields[start : start + 10]} for start in range(0, len(fields), 10)]
    if links := _links(incident, dashboard_url):
        parts.append({"type": "context", "elements": [_mrkdwn(links)]})
    return Message(escape(title, 500), [_section(header)], [{"color": _colour(incident), "blocks": parts}])


def reply(incident: Incident, transition: Transition, *, mention: str = "", small: bool = False) -> Message:
    """What the thread is told when severity rises, and when it is over."""
    text = escape(reply_line(incident, transition), 800)
    ping = _mention(mention) if transition.kind is TransitionKind.ESCALATED else ""
    if small:
        return Message(text)
    sign = SIGNS["resolved"] if transition.kind is TransitionKind.RESOLVED else SIGNS[transition.severity]
    return Message(text, [_section(f"{sign} {text}" + (f" {ping}" if ping else ""))])


def headline(incident: Incident) -> str:
    """One line, not escaped: the severity's word, what, and where."""
    word = "RESOLVED" if incident.state == "resolved" else incident.severity.upper()
    return f"{word}: {plain(incident.threshold, 100)} on {plain(incident.host, 70)}{_where(incident)}"


def reply_line(incident: Incident, transition: Transition) -> str:
    """One sentence, not escaped."""
    if transition.kind is TransitionKind.RESOLVED:
        return f"Resolved after {duration(_lasted(incident))}, at its worst {_worst(incident)}."
    limit = "" if incident.limit is None else f" (limit {_bound(incident)})"
    return f"Now {transition.severity.upper()}: {plain(incident.metric, 200)} is {_value(incident)}{limit}."


def facts(incident: Incident) -> list[tuple[str, str]]:
    """What there is to know, as (name, text), not escaped; times are not among them."""
    found = [("Host", plain(incident.host, 70)), ("Metric", plain(incident.metric, 200))]
    if incident.labels:
        found.append(("Labels", _labels(incident)))
    resolved = incident.state == "resolved"
    found.append(("Value" if not resolved else "Value at the end", _value(incident)))
    if incident.limit is not None:
        found.append(("Limit", _bound(incident)))
    if incident.grade:
        found.append(("Grade", spoken(incident.grade)))
    if resolved:
        found += [("Worst", _worst(incident)), ("Lasted", duration(_lasted(incident)))]
    if incident.acknowledged_by:
        found.append(("Acknowledged by", plain(incident.acknowledged_by, 80)))
    return found


def links(incident: Incident, dashboard_url: str) -> list[tuple[str, str]]:
    """(text, address); an address that is no http one is left out."""
    found = [("Runbook", incident.runbook)]
    if dashboard_url:
        found.append(("Dashboard", f"{dashboard_url.rstrip('/')}/incidents/{incident.id}"))
    return [(text, url) for text, url in found if _URL.fullmatch(url)]


def plain(text: str, limit: int) -> str:
    """Without control and direction characters, in one line, at most `limit` characters long."""
    text = _CONTROL.sub(" ", text).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def escape(text: str, limit: int) -> str:
    """For Slack: `limit` counts characters before they are escaped, so that no entity is cut."""
    return plain(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def moment(seconds: float) -> str:
    """A time that Slack shows in the reader's own zone, and anything else in UTC."""
    fallback = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    return f"<!date^{int(seconds)}^{{date_short_pretty}} {{time_secs}}|{fallback}>"


def _fields(incident: Incident) -> list[Block]:
    lines = [f"*{name}*\n{escape(text, 350)}" for name, text in facts(incident)]
    lines.append(f"*Since*\n{moment(incident.started_at)}")
    if incident.resolved_at is not None:
        lines.append(f"*Resolved*\n{moment(incident.resolved_at)}")
    return [_mrkdwn(line) for line in lines]


def _links(incident: Incident, dashboard_url: str) -> str:
    shown = [f"<{url.replace('&', '&amp;')}|{text}>" for text, url in links(incident, dashboard_url)]
    return " · ".join([*shown, f"`{incident.id}`"])


def _where(incident: Incident) -> str:
    return f" ({_labels(incident)})" if incident.labels else ""


def _labels(incident: Incident) -> str:
    pairs: Sequence[str] = [f"{plain(name, 60)}={plain(text, 120)}" for name, text in sorted(incident.labels.items())]
    return plain(", ".join(pairs), 300)


def _value(incident: Incident) -> str:
    if incident.op == "absent":
        return "data is back" if incident.state == "resolved" else "no data"
    return "unknown" if incident.value is None else figure(incident.value, incident.unit)


def _bound(incident: Incident) -> str:
    if incident.limit is None:
        return ""
    text = figure(incident.limit, incident.unit)
    return f"no data for {text}" if incident.op == "absent" else f"{incident.op} {text}"


def _worst(incident: Incident) -> str:
    if incident.peak_value is None or incident.op == "absent":
        return incident.peak.upper()
    return f"{figure(incident.peak_value, incident.unit)}, {incident.peak.upper()}"


def _lasted(incident: Incident) -> float:
    end = incident.updated_at if incident.resolved_at is None else incident.resolved_at
    return end - incident.started_at


def _colour(incident: Incident) -> str:
    return COLOURS["resolved" if incident.state == "resolved" else incident.severity]


def _sign(incident: Incident) -> str:
    return SIGNS["resolved" if incident.state == "resolved" else incident.severity]


def _mention(text: str) -> str:
    """From our own configuration: "@here", "@channel", "U…" and "S…" ids, or Slack's own writing `<…>`."""
    if not text or (text.startswith("<") and text.endswith(">")):
        return text
    name = text.removeprefix("@")
    if name in ("here", "channel", "everyone"):
        return f"<!{name}>"
    if re.fullmatch(r"[UW][A-Z0-9]{5,}", name):
        return f"<@{name}>"
    if re.fullmatch(r"S[A-Z0-9]{5,}", name):
        return f"<!subteam^{name}>"
    return escape(text, 80)


def _section(text: str) -> Block:
    return {"type": "section", "text": _mrkdwn(text)}


def _mrkdwn(text: str) -> Block:
    return {"type": "mrkdwn", "text": text, "verbatim": True}
