"""Incidents about hosts themselves: one that is gone cannot tell it.

They are made and kept as a host's own are, but by the collector: threshold "host", metric "host.up".
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from agent.alerting.figure import duration
from agent.alerting.incident import Breach, Reading, advance, new_id, open_incident
from agent.alerting.memory import Memory, Pair, pair_key
from agent.alerting.state import State
from agent.clock import Clock
from agent.collector.fleet import Absence, Gone
from agent.model import Incident, Severity

THRESHOLD, METRIC = "host", "host.up"


@dataclass(frozen=True, slots=True)
class _Kind:
    """`patience`: seconds that it must last; `words` are what is said."""

    severity: Severity
    patience: float
    words: str


KINDS: dict[Absence, _Kind] = {
    "lost": _Kind(Severity.CRITICAL, 3.0, "the host is gone: its connection broke without a goodbye"),
    "silent": _Kind(Severity.CRITICAL, 0.0, "the host is silent: nothing was heard for {silence}"),
    "stopped": _Kind(Severity.WARNING, 120.0, "the agent was stopped, and is not back"),
}
"""A broken connection is given the time of a reconnect; a stopped agent that of a restart or an upgrade."""


class HostWatch:
    """`look` once a second; what it returns is kept until `settled`, over restarts too."""

    def __init__(self, state: State, clock: Clock, rng: random.Random | None = None) -> None:
        self._memory = Memory(state, clock)
        self._clock = clock
        self._rng = rng or random.Random()
        self._open = {fact.incident.id: fact.incident for fact in self._memory.incidents()}
        self._since: dict[str, tuple[Absence, float]] = {}
        self.unsettled: dict[str, Pair] = self._memory.pairs()
        """Transitions that are not yet in the database, in order."""

    @property
    def incidents(self) -> list[Incident]:
        """The open ones."""
        return sorted(self._open.values(), key=lambda incident: incident.id)

    def look(self, absent: Mapping[str, Gone], present: Collection[str]) -> list[Pair]:
        """`absent` are the hosts known to be gone, `present` those online, by name. A host that is neither
        (not heard yet since our start) stays as it was.
        """
        now = self._clock.monotonic()
        pairs = [self._resolve(incident) for incident in self.incidents if incident.host in present]
        known = {incident.host: incident for incident in reversed(self.incidents)}
        self._since = {host: known for host, known in self._since.items() if host in absent}
        for host, gone in absent.items():
            before = self._since.get(host)
            if before is None or before[0] != gone.how:
                before = self._since[host] = gone.how, now
            if now - before[1] >= KINDS[gone.how].patience:
                pairs += self._report(host, gone, known.get(host))
        return pairs

    def adopt(self, stored: Iterable[Incident]) -> list[Incident]:
        """Go on from what the database has of these; those that are news, as they are open or were so here.

        What it has not got yet of ours stays as it is. Two about one host, where two have led at once, end together.
        """
        known: dict[str, int] = {}
        for ours in [*self._open.values(), *(incident for incident, _ in self.unsettled.values())]:
            known[ours.id] = max(ours.version, known.get(ours.id, 0))
        newer = [incident for incident in stored if incident.version > known.get(incident.id, 0)]
        news = [incident for incident in newer if incident.state == "open" or incident.id in self._open]
        for incident in news:
            self._memory.keep_incident(incident, THRESHOLD, "absence")
            self._put(incident)
        return news

    def settled(self, incident: str, version: int) -> None:
        """The database has this transition."""
        key = pair_key(incident, version)
        if self.unsettled.pop(key, None) is not None:
            self._memory.forget_pairs([key])

    def _report(self, host: str, gone: Gone, known: Incident | None) -> list[Pair]:
        kind = KINDS[gone.how]
        if known is not None and known.severity.rank >= kind.severity.rank:
            return []
        now = self._clock.now()
        summary = kind.words.format(silence=duration(max(1.0, gone.silence)))
        reading = Reading(kind.severity, now, summary=summary, note=gone.how)
        if known is None:
            breach = Breach(host, THRESHOLD, METRIC, "absent", now - gone.silence, {}, "seconds")
            return [self._keep(open_incident(new_id(now, self._rng), breach, reading))]
        pair = advance(known, reading)
        return [] if pair is None else [self._keep(pair)]

    def _resolve(self, incident: Incident) -> Pair:
        pair = advance(incident, Reading(Severity.OK, self._clock.now(), note="the host is back"))
        if pair is None:
            raise AssertionError("an open incident can always be resolved")
        return self._keep(pair)

    def _keep(self, pair: Pair) -> Pair:
        incident, transition = pair
        self._memory.keep_pair(incident, transition, THRESHOLD, "absence")
        self.unsettled[pair_key(incident.id, transition.version)] = pair
        self._put(incident)
        return pair

    def _put(self, incident: Incident) -> None:
        if incident.state == "open":
            self._open[incident.id] = incident
        else:
            del self._open[incident.id]
