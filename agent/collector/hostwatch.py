"""Incidents about hosts themselves: one that is gone cannot tell it.

They are made and kept as a host's own are, but by the collector: threshold "host", metric "host.up".
"""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from agent.alerting.figure import duration
from agent.alerting.incident import Breach, Reading, acknowledge, advance, mute, new_id, open_incident
from agent.alerting.memory import Memory, Pair, pair_key
from agent.alerting.muting import Muting
from agent.alerting.silence import Silence
from agent.alerting.state import State
from agent.clock import Clock
from agent.collector.fleet import Absence, Gone
from agent.config.schema import MaintenanceConfig
from agent.model import Incident, Severity

log = logging.getLogger(__name__)

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
    """`look` once a second; what it returns is kept until `settled`, over restarts too.

    People acknowledge and silence here as they do with a host's engine.
    """

    def __init__(
        self,
        state: State,
        clock: Clock,
        rng: random.Random | None = None,
        *,
        maintenance: Sequence[MaintenanceConfig] = (),
    ) -> None:
        self._memory = Memory(state, clock)
        self._clock = clock
        self._rng = rng or random.Random()
        self._muting = Muting(state, clock, self._rng)
        self._muting.configure((), maintenance)
        self._open = {fact.incident.id: fact.incident for fact in self._memory.incidents()}
        self._since: dict[str, tuple[Absence, float]] = {}
        self.unsettled: dict[str, Pair] = self._memory.pairs()
        """Transitions that are not yet in the database, in order."""

    @property
    def incidents(self) -> list[Incident]:
        """The open ones."""
        return sorted(self._open.values(), key=lambda incident: incident.id)

    def standing(self, host: str) -> Incident:
        """What is said of it now, or what would be."""
        return next((incident for incident in self.incidents if incident.host == host), None) or _about(host)

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
        self._muting.expire()
        return pairs + self._review()

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

    # -- what people do

    def acknowledge(self, incident_id: str, by: str) -> list[Pair]:
        """Somebody looks after it. KeyError where none of this id is open; a second time changes nothing."""
        now = self._clock.now()
        pair = acknowledge(self._open[incident_id], by, now)
        return [] if pair is None else [self._keep(pair)]

    def silence(self, match: str, seconds: float, author: str, reason: str) -> tuple[Silence, list[Pair]]:
        """Hold back what matches, from now on for `seconds`. ValueError tells what was expected."""
        silence = self._muting.add(match, seconds, author, reason)
        return silence, self._review()

    def unsilence(self, silence_id: str, author: str) -> list[Pair]:
        """End a silence before its time; KeyError where there is none."""
        self._muting.remove(silence_id)
        log.info("silence ended", extra={"silence": silence_id, "author": author})
        return self._review()

    def silences(self) -> list[Silence]:
        """Those that hold, oldest first."""
        return self._muting.silences()

    # -- parts

    def _report(self, host: str, gone: Gone, known: Incident | None) -> list[Pair]:
        kind = KINDS[gone.how]
        if known is not None and known.severity.rank >= kind.severity.rank:
            return []
        now = self._clock.now()
        summary = kind.words.format(silence=duration(max(1.0, gone.silence)))
        reading = Reading(kind.severity, now, summary=summary, note=gone.how)
        if known is None:
            breach = Breach(host, THRESHOLD, METRIC, "absent", now - gone.silence, {}, "seconds")
            incident, transition = open_incident(new_id(now, self._rng), breach, reading)
            return [self._keep((replace(incident, muted=self._muted(incident)), transition))]
        pair = advance(known, reading)
        return [] if pair is None else [self._keep(pair)]

    def _muted(self, incident: Incident) -> str:
        return "" if self._muting.idle else self._muting.words(incident, self._open.values())

    def _review(self) -> list[Pair]:
        """Let every open incident say whether, and why, it is muted now."""
        now = self._clock.now()
        found = [mute(incident, self._muted(incident), now) for incident in self.incidents]
        return [self._keep(pair) for pair in found if pair is not None]

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


def _about(host: str) -> Incident:
    severity = Severity.CRITICAL
    return Incident("", host, THRESHOLD, METRIC, severity, severity, 0.0, 0.0, 0.0, 0)
