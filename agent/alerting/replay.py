"""What rules would have done: stored samples, through a fresh engine, on a clock that the samples drive."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.alerting.delivery import Delivery
from agent.alerting.engine import Engine
from agent.alerting.memory import Pair
from agent.alerting.state import State
from agent.config.schema import MaintenanceConfig, ThresholdConfig
from agent.model import Incident, Metric, ProbeResult, Severity, TransitionKind


class ReplayClock:
    """Stands still between samples."""

    def __init__(self, at: float) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        raise RuntimeError(f"nothing sleeps in a replay, not even {seconds:g} s")


class Recorded(NamedTuple):
    """What came at one moment (unix seconds) of what comes every `interval` seconds."""

    at: float
    interval: float
    metrics: Sequence[Metric]


class Replayed(NamedTuple):
    """Every transition, in order; and what is wrong with rules, as the engine would say it in the log."""

    pairs: list[Pair]
    faults: list[str]


@dataclass(slots=True)
class Verdict:
    """One rule: its incidents as they ended, and what they would have cost.

    `messages` are posts and thread replies; `edits` are counted apart, as they disturb nobody. Each is what the
    outbox does of an incident's row when nothing holds it up: so without reminders, storms and outages of Slack.
    """

    rule: str
    incidents: dict[str, Incident] = field(default_factory=dict)
    messages: int = 0
    edits: int = 0
    flapped: int = 0
    _rows: dict[str, Delivery] = field(default_factory=dict)

    def take(self, pair: Pair) -> None:
        incident, transition = pair
        self.incidents[incident.id] = incident
        self.flapped += transition.kind is TransitionKind.FLAPPING
        row = self._rows.setdefault(incident.id, Delivery(incident, channel="#"))
        row.desire(incident)
        while (operation := row.next()) is not None:
            row.begin(operation, transition.time)
            row.done(operation, row.channel, "shown")
            self.edits += operation == "edit"
            self.messages += operation != "edit"
        if row.resolved:
            del self._rows[incident.id]

    @property
    def peak(self) -> Severity:
        return max((i.peak for i in self.incidents.values()), key=lambda s: s.rank, default=Severity.OK)


def replay(
    thresholds: Sequence[ThresholdConfig],
    maintenance: Sequence[MaintenanceConfig],
    host: str,
    results: Iterable[Recorded],
    *,
    until: float,
) -> Replayed:
    """`results` oldest first. The engine ticks in each second in which a tick may change something."""
    clock: ReplayClock | None = None
    engine: Engine | None = None
    pairs: list[Pair] = []
    for at, interval, metrics in results:
        if clock is None or engine is None:
            clock = ReplayClock(at)
            engine = Engine(State(None), host, clock, random.Random(0))
            engine.start(thresholds, maintenance)
        pairs += _pass(engine, clock, at)
        pairs += engine.observe(ProbeResult("replay", at, "ok", 0.0, tuple(metrics)), interval)
    if clock is None or engine is None:
        return Replayed([], [])
    pairs += _pass(engine, clock, until)
    return Replayed(pairs, engine.faults())


def judge(pairs: Iterable[Pair], names: Iterable[str]) -> list[Verdict]:
    """One for each rule named, in their order, also for those that never fired; others are left out."""
    found = {name: Verdict(name) for name in names}
    for pair in pairs:
        if pair[0].threshold in found:
            found[pair[0].threshold].take(pair)
    return list(found.values())


def _pass(engine: Engine, clock: ReplayClock, until: float) -> list[Pair]:
    """Let time go by: in whole seconds, past all those in which nothing can happen at once."""
    pairs: list[Pair] = []
    while clock.at + (ahead := _ahead(engine, clock.at, until)) < until:
        clock.at += ahead
        pairs += engine.tick()
    clock.at = max(clock.at, until)
    return pairs


def _ahead(engine: Engine, at: float, until: float) -> float:
    return max(1.0, math.floor(min(engine.idle_until, until) - at))
