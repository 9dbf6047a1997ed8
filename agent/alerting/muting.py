"""Why an incident is not told at present: a silence, a maintenance window, or another incident that explains it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from agent.alerting.incident import new_token
from agent.alerting.silence import MOST, Silence, check
from agent.alerting.state import State
from agent.clock import Clock
from agent.config.hours import Hours
from agent.config.match import Match
from agent.config.schema import MaintenanceConfig, ThresholdConfig
from agent.model import Incident


class Window(msgspec.Struct, frozen=True):
    """One maintenance window made ready: between two moments, or at its hours of the week."""

    name: str
    match: Match
    start: float | None
    end: float | None
    hours: Hours | None

    @classmethod
    def of(cls, config: MaintenanceConfig) -> Window:
        start = None if config.start is None else config.start.timestamp()
        end = None if config.end is None else config.end.timestamp()
        hours = Hours.parse(config.days, config.hours, config.timezone) if config.recurring else None
        return cls(config.name, Match.parse(config.match), start, end, hours)

    def holds(self, now: float) -> bool:
        if (self.start is not None and now < self.start) or (self.end is not None and now >= self.end):
            return False
        return self.hours is None or self.hours.covers(now)


class Muting:
    """`words` says why, "" where nothing holds it back. Silences are kept in `state`, the rest is configuration."""

    def __init__(self, state: State, clock: Clock, rng: random.Random) -> None:
        self._state = state
        self._clock = clock
        self._rng = rng
        self._windows: list[Window] = []
        self._depends: dict[str, tuple[str, ...]] = {}
        self._silences: dict[str, tuple[Silence, Match]] = {}
        for silence in state.read("silence", Silence).values():
            self._silences[silence.id] = silence, Match.parse(silence.match)

    def configure(self, thresholds: Sequence[ThresholdConfig], maintenance: Sequence[MaintenanceConfig]) -> None:
        self._depends = {config.name: config.depends_on for config in thresholds if config.depends_on}
        self._windows = [Window.of(config) for config in maintenance]

    @property
    def idle(self) -> bool:
        """Nothing could hold anything back."""
        return not (self._silences or self._windows or self._depends)

    def words(self, incident: Incident, others: Iterable[Incident]) -> str:
        """`others` are the open incidents of this host."""
        now = self._clock.now()
        for silence, match in self._silences.values():
            if now < silence.until and match.covers(incident):
                return silence.words
        for window in self._windows:
            if window.holds(now) and window.match.covers(incident):
                return f"maintenance: {window.name}"
        causes = self._depends.get(incident.threshold, ())
        for other in others if causes else ():
            if other.threshold in causes and other.id != incident.id and _related(incident, other):
                return f"because of {other.threshold}: {other.id}"
        return ""

    def add(self, match: str, seconds: float, author: str, reason: str) -> Silence:
        """ValueError for what is not to be silenced so."""
        parsed = check(match, seconds, author, reason)
        if len(self._silences) >= MOST:
            raise ValueError(f"there are {MOST} silences already; end some first")
        now = self._clock.now()
        silence = Silence(
            "sil_" + new_token(now, self._rng), match, now, now + seconds, author.strip()[:120], reason.strip()[:300]
        )
        self._silences[silence.id] = silence, parsed
        self._state.put({("silence", silence.id): silence})
        return silence

    def remove(self, silence_id: str) -> None:
        """KeyError where there is none."""
        del self._silences[silence_id]
        self._state.put({("silence", silence_id): None})

    def expire(self) -> None:
        """Forget silences whose time is over. Where the clock was set back to before one was made, it begins anew."""
        now = self._clock.now()
        for silence, match in [pair for pair in self._silences.values() if pair[0].created_at > now]:
            again = replace(silence, created_at=now, until=now + silence.until - silence.created_at)
            self._silences[silence.id] = again, match
            self._state.put({("silence", silence.id): again})
        for silence_id in [key for key, (silence, _) in self._silences.items() if silence.until <= now]:
            self.remove(silence_id)

    def silences(self) -> list[Silence]:
        """Those that hold, oldest first."""
        now = self._clock.now()
        return [silence for silence, _ in self._silences.values() if now < silence.until]


def _related(incident: Incident, cause: Incident) -> bool:
    """The labels that both have are the same: a full disk explains what happens on that mount, and not on others."""
    return all(incident.labels.get(name, text) == text for name, text in cause.labels.items())
