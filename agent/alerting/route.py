"""Where an incident is told: the first route that matches says the channel and whom to mention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.config.match import glob
from agent.config.schema import SlackRoute
from agent.model import Incident, Severity


@dataclass(frozen=True, slots=True)
class Destination:
    channel: str
    mention: str = ""


def route(routes: Sequence[SlackRoute], incident: Incident, default: str) -> Destination:
    """Beside its labels an incident can be matched by `host`, `threshold` and `metric`.

    `severity` is the least that a route takes; the worst that the incident has been counts.
    """
    facts = {"host": incident.host, "threshold": incident.threshold, "metric": incident.metric, **incident.labels}
    for candidate in routes:
        if Severity(candidate.severity).rank > incident.peak.rank:
            continue
        if all(glob(pattern).fullmatch(facts.get(name, "")) for name, pattern in candidate.match.items()):
            return Destination(candidate.channel or default, candidate.mention)
    return Destination(default)
