"""An incident as a Slack message, pure. The worst that a host can send stays within every limit of Slack's.

Characters at most: headline 700, fields 8 x 220, evidence 4 x 1100, links 2 x 1100; all of it below the 13 000
that one message may hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agent.model import Evidence, Incident, Severity, Transition, TransitionKind
from agent.slack.buttons import buttons
from agent.slack.facts import facts, headline, links, states, subject, trend
from agent.slack.reply import reply_line
from agent.slack.sparkline import sparkline
from agent.slack.text import code_block, escape, link, mention, moment

Block = dict[str, Any]

COLOURS = {
    "resolved": "#2eb67d",
    Severity.OK: "#2eb67d",
    Severity.INFO: "#36c5f0",
    Severity.WARNING: "#ecb22e",
    Severity.CRITICAL: "#e01e5a",
}
SIGNS = {
    "resolved": ":large_green_circle:",
    Severity.OK: ":large_green_circle:",
    Severity.INFO: ":large_blue_circle:",
    Severity.WARNING: ":large_yellow_circle:",
    Severity.CRITICAL: ":red_circle:",
}
CALLS = (TransitionKind.ESCALATED, TransitionKind.REMINDED, TransitionKind.UNMUTED)
"""What somebody is called for."""
STATE_SIGNS = {"Acknowledged": ":eyes:", "Muted": ":no_bell:", "Flapping": ":left_right_arrow:"}
EVIDENCE, EVIDENCE_CHARACTERS = 4, 1000
"""Blocks of it in one message, and the characters of each."""


@dataclass(frozen=True, slots=True)
class Message:
    """What chat.postMessage and chat.update take. `text` is what notifications and screen readers say."""

    text: str
    blocks: list[Block] = field(default_factory=list)
    attachments: list[Block] = field(default_factory=list)


def message(
    incident: Incident,
    *,
    dashboard_url: str = "",
    mention: str = "",
    actions: bool = False,
    small: bool = False,
) -> Message:
    """The incident's own message as it stands now. `actions`: with buttons, which takes somebody who hears them.
    `small`: one line, for when the whole was refused.
    """
    title = escape(headline(incident), 600)
    if small:
        return Message(title)
    ping = "" if incident.state == "resolved" else _ping(mention)
    parts = [*_states(incident), *_summary(incident), _fields(incident), *_trend(incident)]
    for evidence in incident.evidence[:EVIDENCE]:
        parts += _evidence(evidence)
    parts += [*(buttons(incident) if actions else []), _links(incident, dashboard_url)]
    return Message(
        title, [_section(f"{_sign(incident)} *{title}*{ping}")], [{"color": colour(incident), "blocks": parts}]
    )


def reply(incident: Incident, transition: Transition, *, mention: str = "", small: bool = False) -> Message:
    """What the thread is told; whom it concerns is named when the severity rises and when nobody has it.

    It says what it is about: a notification shows no more of the thread, and that of a storm is about many.
    """
    about, line = escape(subject(incident), 600), escape(reply_line(incident, transition), 800)
    ping = _ping(mention) if transition.kind in CALLS else ""
    if small:
        return Message(f"{about}: {line}")
    sign = SIGNS["resolved"] if transition.kind is TransitionKind.RESOLVED else SIGNS[transition.severity]
    return Message(f"{about}: {line}", [_section(f"{sign} *{about}*: {line}{ping}")])


def colour(incident: Incident) -> str:
    """Of the bar beside the message: the severity's, green once it is over."""
    return COLOURS["resolved" if incident.state == "resolved" else incident.severity]


def _states(incident: Incident) -> list[Block]:
    found = states(incident)
    if not found:
        return []
    shown = [f"{STATE_SIGNS[name]} *{name}* {escape(text, 350)}" for name, text in found]
    if incident.acknowledged_by and incident.acknowledged_at is not None:
        shown[0] += f", {moment(incident.acknowledged_at)}"
    return [_context(*shown)]


def _summary(incident: Incident) -> list[Block]:
    summary = escape(incident.summary, 600)
    return [_section(summary)] if summary else []


def _fields(incident: Incident) -> Block:
    """In two columns, on a phone in one."""
    lines = [f"*{name}*\n{escape(text, 200)}" for name, text in facts(incident)]
    lines.insert(1, f"*Since*\n{moment(incident.started_at)}")
    if incident.resolved_at is not None:
        lines.append(f"*Resolved*\n{moment(incident.resolved_at)}")
    return {"type": "section", "fields": [_mrkdwn(line) for line in lines]}


def _trend(incident: Incident) -> list[Block]:
    line = sparkline(incident.history)
    return [_context(f"`{line}`  {escape(trend(incident), 150)} in the hour before")] if line else []


def _evidence(evidence: Evidence) -> list[Block]:
    """One line is told beside its title, several stand in a code block below it."""
    title, lines = escape(evidence.title, 80), evidence.lines
    if len(lines) == 1:
        told = escape(lines[0], EVIDENCE_CHARACTERS - 100)
    else:
        told = code_block(lines, EVIDENCE_CHARACTERS - 100)
    shown = [f"*{title}*" if title else "", told]
    return [_section(("\n" if len(lines) > 1 else " ").join(filter(None, shown)))] if told else []


def _links(incident: Incident, dashboard_url: str) -> Block:
    shown = [link(url, text) for text, url in links(incident, dashboard_url)]
    return _context(" · ".join([*filter(None, shown), f"`{escape(incident.id, 80).replace('`', chr(39))}`"]))


def _sign(incident: Incident) -> str:
    return SIGNS["resolved" if incident.state == "resolved" else incident.severity]


def _ping(text: str) -> str:
    shown = mention(text)
    return f" {shown}" if shown else ""


def _context(*texts: str) -> Block:
    return {"type": "context", "elements": [_mrkdwn(text) for text in texts]}


def _section(text: str) -> Block:
    return {"type": "section", "text": _mrkdwn(text)}


def _mrkdwn(text: str) -> Block:
    return {"type": "mrkdwn", "text": text, "verbatim": True}
