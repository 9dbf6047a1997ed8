"""Stored samples through a fresh engine: when rules would have fired, how often they flapped, what it would have cost.

The engine is the daemon's own, with a clock that the samples turn, so what it says is what a daemon with these rules
would have said, had it begun to run where the replay begins. Nobody acknowledges, nothing is silenced.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from agent.alerting.delivery import Delivery
from agent.alerting.engine import Engine
from agent.alerting.memory import Pair, Series
from agent.alerting.reminders import due, remind
from agent.alerting.route import route
from agent.alerting.state import State
from agent.alerting.trend import median
from agent.config.schema import MaintenanceConfig, SlackConfig, ThresholdConfig
from agent.model import Incident, Labels, Metric, MetricKind, ProbeResult, TransitionKind

GAPS = 20
"""Gaps between two samples of a series whose median is taken for its interval."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Samples of one series, (unix seconds, value), oldest first."""

    metric: str
    unit: str
    kind: MetricKind
    labels: Labels
    points: Sequence[tuple[float, float]]


@dataclass(slots=True)
class Firing:
    """One incident that would have been: as it stood last, and what Slack would have had to do for it."""

    incident: Incident
    flapped: int = 0
    messages: int = 0
    edits: int = 0


@dataclass(slots=True)
class ReplayClock:
    """Stands still until a sample turns it."""

    time: float

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError(f"nothing waits in a replay ({seconds:g} s)")


@dataclass(slots=True)
class Replay:
    """`feed` pages of samples in order of time, then `end`.

    `pairs` is every transition, `firings` the incidents by id, in the order in which they opened.
    """

    host: str
    thresholds: Sequence[ThresholdConfig]
    start: float
    maintenance: Sequence[MaintenanceConfig] = ()
    slack: SlackConfig = field(default_factory=SlackConfig)
    pairs: list[Pair] = field(default_factory=list)
    firings: dict[str, Firing] = field(default_factory=dict)
    samples: int = 0
    _rows: dict[str, Delivery] = field(default_factory=dict)
    _times: dict[Series, list[float]] = field(default_factory=dict)
    _clock: ReplayClock = field(init=False)
    _engine: Engine = field(init=False)

    def __post_init__(self) -> None:
        self._clock = ReplayClock(self.start)
        self._engine = Engine(State(None), self.host, self._clock)
        self._engine.start(self.thresholds, self.maintenance)

    @property
    def now(self) -> float:
        """How far it has come (unix seconds)."""
        return self._clock.time

    def faults(self) -> list[str]:
        return self._engine.faults()

    def feed(self, page: Iterable[Recorded], until: float) -> None:
        """All samples before `until`, after those of the page before."""
        for (time, interval), metrics in sorted(self._results(page).items()):
            self._pass(time)
            result = ProbeResult("replay", time, "ok", 0.0, tuple(metrics))
            self._take(self._engine.observe(result, interval))
            self.samples += len(metrics)
        self._pass(math.nextafter(until, 0))  # what comes at `until` is of the next page, and may come before a tick

    def end(self, time: float) -> None:
        """Nothing more came until `time`."""
        self._pass(time)
        for incident_id, row in self._rows.items():
            self._remind(self.firings[incident_id], row, time)

    def _results(self, page: Iterable[Recorded]) -> dict[tuple[float, float], list[Metric]]:
        """What came at one moment, and at one pace, was one result."""
        found: dict[tuple[float, float], list[Metric]] = {}
        for recorded in page:
            interval = self._interval(recorded)
            for time, value in recorded.points:
                metric = Metric(recorded.metric, value, recorded.unit, recorded.kind, recorded.labels)
                found.setdefault((time, interval), []).append(metric)
        return found

    def _interval(self, recorded: Recorded) -> float:
        """As the probe's plan would have it; 0 where there is too little to tell, even with the pages before."""
        times = self._times.setdefault((recorded.metric, tuple(sorted(recorded.labels.items()))), [])
        times += [time for time, _ in recorded.points[: GAPS + 1 - len(times)]]
        return median([later - earlier for earlier, later in pairwise(times)] or [0.0])

    def _pass(self, time: float) -> None:
        """Turn the clock to `time`; every full second on the way in which a tick may change something is one."""
        clock = self._clock
        while (idle := self._engine.idle_until) < time:
            second = max(int(clock.time - self.start) + 1, int(idle - self.start))
            if self.start + second > time:
                break
            clock.time = self.start + second
            self._take(self._engine.tick())
        clock.time = max(clock.time, time)

    def _take(self, pairs: list[Pair]) -> None:
        for incident, transition in pairs:
            self._engine.mark_shipped(incident.id, transition.version)
            self.pairs.append((incident, transition))
            firing = self.firings.setdefault(incident.id, Firing(incident))
            firing.incident = incident
            firing.flapped += transition.kind is TransitionKind.FLAPPING
            self._desire(firing, incident)
        for incident_id in dict.fromkeys(incident.id for incident, _ in pairs):  # what came at once is told at once
            row = self._rows[incident_id]
            _deliver(self.firings[incident_id], row, self._clock.time)
            if row.over:
                del self._rows[incident_id]

    # -- what it would have cost

    def _desire(self, firing: Firing, incident: Incident) -> None:
        """As the outbox does, to a Slack that takes everything at once."""
        row, now = self._rows.get(incident.id), self._clock.time
        if row is None:
            to = route(self.slack.routes, incident, self.slack.channel, now)
            row = self._rows[incident.id] = Delivery(incident, to.channel, to.mention)
        else:
            self._remind(firing, row, now)
            row.desire(incident)

    def _remind(self, firing: Firing, row: Delivery, until: float) -> None:
        """What was due meanwhile."""
        to = route(self.slack.routes, row.incident, self.slack.channel, row.incident.fired_at)
        while (at := due(row, to, until)) is not None and at <= until:
            remind(row, to, at)
            _deliver(firing, row, at)


def _deliver(firing: Firing, row: Delivery, now: float) -> None:
    while (operation := row.next()) is not None:
        row.begin(operation, now)
        row.done(operation, row.channel, row.ts or "1")
        firing.messages += operation in ("post", "reply")
        firing.edits += operation == "edit"
