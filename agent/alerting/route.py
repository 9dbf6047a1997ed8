"""Where an incident is told: the first route that matches says the channel and whom to mention."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from agent.config.hours import Hours
from agent.config.match import glob
from agent.config.schema import SlackRoute
from agent.model import Incident, Severity


class Destination(msgspec.Struct, frozen=True):
    """Seconds; None where nothing is to be done."""

    channel: str
    mention: str = ""
    escalate_after: float | None = None
    escalate_to: str = ""
    remind_every: float | None = None


def route(routes: Sequence[SlackRoute], incident: Incident, default: str, now: float) -> Destination:
    """Beside its labels an incident can be matched by `host`, `threshold` and `metric`.

    `severity` is the least that a route takes; the worst that the incident has been counts. `now`: unix seconds.
    """
    facts = {**incident.labels, "host": incident.host, "threshold": incident.threshold, "metric": incident.metric}
    for candidate in routes:
        if Severity(candidate.severity).rank > incident.peak.rank:
            continue
        if not Hours.parse(candidate.days, candidate.hours, candidate.timezone).covers(now):
            continue
        if all(glob(pattern).fullmatch(facts.get(name, "")) for name, pattern in candidate.match.items()):
            return _destination(candidate, default)
    return Destination(default)


def _destination(route: SlackRoute, default: str) -> Destination:
    return Destination(
        route.channel or default,
        route.mention,
        escalate_after=None if route.escalate_after is None else float(route.escalate_after),
        escalate_to=route.escalate_to,
        remind_every=None if route.remind_every is None else float(route.remind_every),
    )


def digest(channel: str, routes: Sequence[SlackRoute]) -> str:
    """Tells whether two lead to the same channels, and nothing of where."""
    return hashlib.blake2b(repr((channel, *routes)).encode(), digest_size=6).hexdigest()
