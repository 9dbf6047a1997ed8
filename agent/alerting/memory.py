"""The engine's memory as facts for the state file, where times are unix seconds, to outlive the process."""

from __future__ import annotations

from typing import Literal

import msgspec

from agent.alerting.flapping import STILL, Flaps
from agent.alerting.state import Key, State
from agent.alerting.threshold import REST, SeriesState
from agent.alerting.trend import Point, Points
from agent.clock import Clock
from agent.model import Incident, Labels, Severity, Transition

Pair = tuple[Incident, Transition]
Series = tuple[str, tuple[tuple[str, str], ...]]
Kind = Literal["value", "absence", "waiting"]


HEARD_EVERY = 15.0
"""Seconds between two notes in the file that a series with a pending breach still brings results."""


class Track(msgspec.Struct):
    """What one rule remembers of one series. `seen` is monotonic; `worst` since the incident opened.

    `heard` is when the last result came (monotonic), over restarts too, `noted` what the file has of it;
    `gaps` are the last two seconds-between-results, 0 where not known.
    """

    labels: Labels
    state: SeriesState = REST
    seen: float = 0.0
    value: float | None = None
    """What was judged last; None where nothing was yet."""
    unit: str = ""
    worst: float | None = None
    incident: Incident | None = None
    absence: Incident | None = None
    heard: float | None = None
    noted: float = 0.0
    gaps: tuple[float, float] = (0.0, 0.0)
    flaps: Flaps = STILL
    past: tuple[Points, ...] = ()

    @property
    def quiet(self) -> bool:
        """Its past changes nothing that is to come."""
        return self.state.at_rest and self.flaps.at_rest

    @property
    def idle(self) -> bool:
        return self.quiet and self.incident is None and self.absence is None


class IncidentFact(msgspec.Struct, frozen=True):
    """`rule` is the key of the rule that opened it; `kind` whether it is about a value or about silence; `transition`
    the last one, where that is ours to send.
    """

    incident: Incident
    rule: str
    kind: Kind
    transition: Transition | None = None


class PastFact(msgspec.Struct, frozen=True, array_like=True):
    window: float
    points: tuple[Point, ...]


class TrackFact(msgspec.Struct, frozen=True):
    threshold: str
    rule: str
    metric: str
    labels: Labels
    severity: Severity = Severity.OK
    since: tuple[float | None, ...] = ()
    recent: tuple[int, ...] = ()
    heard: float | None = None
    gaps: tuple[float, float] = (0.0, 0.0)
    ranks: tuple[int, ...] = ()
    flapping: bool = False
    past: tuple[PastFact, ...] = ()


class PairFact(msgspec.Struct, frozen=True):
    incident: Incident
    transition: Transition


class Memory:
    """Writes and reads these facts; the one place that turns monotonic times into unix seconds and back."""

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    def keep_pair(self, incident: Incident, transition: Transition, rule: str, kind: Kind) -> None:
        """A transition and the incident as it stands after it, in one transaction."""
        facts: dict[Key, object | None] = {
            ("incident", incident.id): IncidentFact(incident, rule, kind, transition),
            ("transition", pair_key(incident.id, transition.version)): PairFact(incident, transition),
        }
        self._state.put(facts)

    def keep_incident(self, incident: Incident, rule: str, kind: Kind) -> None:
        """As another has told of it: its transition is not ours to send. One that is over is forgotten."""
        kept = IncidentFact(incident, rule, kind) if incident.state == "open" else None
        self._state.put({("incident", incident.id): kept})

    def forget_pairs(self, keys: list[str]) -> None:
        self._state.put({("transition", key): None for key in keys})

    def keep_track(self, threshold: str, rule: str, metric: str, track: Track) -> None:
        ahead = self._clock.now() - self._clock.monotonic()
        state = track.state
        since = tuple(None if begun is None else begun + ahead for begun in state.since)
        heard = None if track.heard is None else track.heard + ahead
        past = tuple(
            PastFact(points.window, tuple((round(at + ahead, 1), value) for at, value in points.kept))
            for points in track.past
        )
        fact = TrackFact(
            threshold=threshold,
            rule=rule,
            metric=metric,
            labels=track.labels,
            severity=state.severity,
            since=since,
            recent=state.recent,
            heard=heard,
            gaps=track.gaps,
            ranks=track.flaps.ranks,
            flapping=track.flaps.on,
            past=past,
        )
        self._state.put({("series", _series_key(threshold, metric, track.labels)): fact})

    def forget_track(self, threshold: str, metric: str, labels: Labels) -> None:
        self._state.put({("series", _series_key(threshold, metric, labels)): None})

    def pairs(self) -> dict[str, Pair]:
        found = self._state.read("transition", PairFact)
        return {key: (fact.incident, fact.transition) for key, fact in sorted(found.items())}

    def incidents(self) -> list[IncidentFact]:
        """The open ones."""
        found = self._state.read("incident", IncidentFact)
        return [fact for _, fact in sorted(found.items()) if fact.incident.state == "open"]

    def tracks(self) -> list[tuple[TrackFact, Track]]:
        """Each with its times turned to this process's clock; what lies in the future begins now."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        restored = []
        for fact in self._state.read("series", TrackFact).values():
            since = tuple(None if at is None else monotonic - max(0.0, now - at) for at in fact.since)
            state = SeriesState(fact.severity, since, fact.recent)
            # The note in the file may be this old although results came until the end.
            silent = 0.0 if fact.heard is None else max(0.0, now - fact.heard - HEARD_EVERY)
            heard = monotonic - silent
            track = Track(fact.labels, state, seen=monotonic, heard=heard, gaps=fact.gaps)
            track.flaps = Flaps(fact.ranks, fact.flapping)
            track.past = tuple(
                Points(past.window, [(monotonic - max(0.0, now - at), value) for at, value in past.points])
                for past in fact.past
            )
            restored.append((fact, track))
        return restored


def pair_key(incident_id: str, version: int) -> str:
    """Sorts by incident, then by version."""
    return f"{incident_id}.{version:06d}"


def _series_key(threshold: str, metric: str, labels: Labels) -> str:
    return msgspec.json.encode((threshold, metric, sorted(labels.items()))).decode()
