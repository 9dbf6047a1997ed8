"""What rules would have done: stored samples, through a fresh engine, on a clock that the samples drive."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from agent.alerting.engine import Engine
from agent.alerting.memory import Pair
from agent.alerting.state import State
from agent.config.schema import MaintenanceConfig, ThresholdConfig
from agent.model import Incident, Metric, ProbeResult, Severity, TransitionKind

POSTED = frozenset({TransitionKind.OPENED})
REPLIED = frozenset({TransitionKind.ESCALATED, TransitionKind.RESOLVED, TransitionKind.FLAPPING, TransitionKind.STEADY})


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


@dataclass(slots=True)
class Verdict:
    """One rule: its incidents as they ended, and what they would have cost.

    `messages` are posts and thread replies; edits are counted apart, as they disturb nobody; what is muted costs none.
    """

    rule: str
    incidents: dict[str, Incident] = field(default_factory=dict)
    messages: int = 0
    edits: int = 0
    flapped: int = 0

    def take(self, pair: Pair) -> None:
        incident, transition = pair
        self.incidents[incident.id] = incident
        self.flapped += transition.kind is TransitionKind.FLAPPING
        if incident.muted:
            return
        if transition.kind in POSTED or transition.kind is TransitionKind.UNMUTED:
            self.messages += 1
        else:
            self.edits += 1
            self.messages += transition.kind in REPLIED

    @property
    def peak(self) -> Severity:
        return max((i.peak for i in self.incidents.values()), key=lambda s: s.rank, default=Severity.OK)


def replay(
    thresholds: Sequence[ThresholdConfig],
    maintenance: Sequence[MaintenanceConfig],
    host: str,
    results: Iterable[tuple[float, Sequence[Metric]]],
    *,
    interval: float,
    until: float,
) -> list[Pair]:
    """Every transition, in order. `results`: unix seconds and the metrics of one run of a probe, oldest first.

    `interval` is that of the probes, in seconds; the engine ticks each second, where anything waits for time to pass.
    """
    clock: ReplayClock | None = None
    engine: Engine | None = None
    pairs: list[Pair] = []
    for at, metrics in results:
        if clock is None or engine is None:
            clock = ReplayClock(at)
            engine = Engine(State(None), host, clock, random.Random(0))
            engine.start(thresholds, maintenance)
        pairs += _pass(engine, clock, at)
        pairs += engine.observe(ProbeResult("replay", at, "ok", 0.0, tuple(metrics)), interval)
    if clock is not None and engine is not None:
        pairs += _pass(engine, clock, until)
    return pairs


def judge(pairs: Iterable[Pair], names: Iterable[str]) -> list[Verdict]:
    """One for each rule, in their order, also for those that never fired."""
    found = {name: Verdict(name) for name in names}
    for pair in pairs:
        found.setdefault(pair[0].threshold, Verdict(pair[0].threshold)).take(pair)
    return list(found.values())


def _pass(engine: Engine, clock: ReplayClock, until: float) -> list[Pair]:
    """Let time go by, a second at a time where a rule or a silence waits for it, else at once."""
    pairs: list[Pair] = []
    while engine.waits and clock.at + 1.0 < until:
        clock.at += 1.0
        pairs += engine.tick()
    clock.at = max(clock.at, until)
    return pairs
