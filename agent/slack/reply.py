"""What the thread of an incident is told, in one sentence, pure and not escaped."""

from __future__ import annotations

from agent.alerting.bulletin import is_bulletin
from agent.alerting.figure import duration
from agent.model import Incident, Transition, TransitionKind
from agent.slack.facts import against, taker, worst
from agent.slack.text import plain

_RISEN = "Now {word}: {stands}."
_STILL_FLAPPING = "After {lasted} it still comes and goes, at its worst {worst}."
_SENTENCES = {
    TransitionKind.OPENED: _RISEN,
    TransitionKind.ESCALATED: _RISEN,
    TransitionKind.DEESCALATED: "Eased to {word}: {stands}.",
    TransitionKind.REMINDED: "Still {word} after {lasted}: {stands}. {taken}.",
    TransitionKind.RESOLVED: "Resolved after {lasted}, at its worst {worst}.",
    TransitionKind.ACKNOWLEDGED: "Acknowledged by {who}.",
    TransitionKind.MUTED: "Muted: {muted}.",
    TransitionKind.UNMUTED: "No longer muted, and {word}: {stands}.",
    TransitionKind.FLAPPING: "It comes and goes; from now on not each time is told.",
    TransitionKind.STEADY: "It comes and goes no more: {stands}.",
    TransitionKind.EVIDENCE: "What is likely behind it stands in the message above.",
}


def reply_line(incident: Incident, transition: Transition) -> str:
    """A note that the transition carries stands behind it."""
    who = taker(incident)
    again = transition.kind is TransitionKind.FLAPPING and transition.note
    sentence = (_STILL_FLAPPING if again else _SENTENCES[transition.kind]).format_map(
        {
            "word": transition.severity.upper(),
            "stands": _stands(incident),
            "lasted": duration(max(0.0, transition.time - incident.started_at)),
            "worst": worst(incident),
            "who": who,
            "taken": f"{who} has it" if who else "Nobody has it yet",
            "muted": plain(incident.muted, 300),
        }
    )
    return f"{sentence} {plain(transition.note, 300)}".strip()


def _stands(incident: Incident) -> str:
    if is_bulletin(incident):
        return incident.summary
    return f"{plain(incident.metric, 200)} {_brings(incident)} {against(incident)}"


def _brings(incident: Incident) -> str:
    return "brings" if incident.op == "absent" and incident.state == "open" else "is"
