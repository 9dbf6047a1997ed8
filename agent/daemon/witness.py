"""What was seen of a series before it crossed its threshold, and what took most at that moment.

Implements `agent.alerting.witness.Witness`. Cheap enough to be asked while results are judged; what takes
longer to find out is for `agent.daemon.inquiry`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from agent.clock import Clock
from agent.config.schema import ThresholdConfig
from agent.daemon.hour import MAX_SERIES, MINUTES, Hour
from agent.daemon.suspects import Suspects
from agent.model import Evidence, Labels, ProbeResult

log = logging.getLogger(__name__)

_Series = tuple[str, tuple[tuple[str, str], ...]]


class Witness:
    """`observe` every result before it is judged."""

    def __init__(self, clock: Clock, thresholds: Iterable[ThresholdConfig]) -> None:
        self._clock = clock
        self._hours: dict[_Series, Hour] = {}
        self._suspects = Suspects()
        self._swept = -1
        self._told = False
        self.reload(thresholds)

    def reload(self, thresholds: Iterable[ThresholdConfig]) -> None:
        """Only of metrics that a threshold names is there a history."""
        self._wanted = frozenset(threshold.metric for threshold in thresholds if threshold.enabled)
        self._hours = {series: hour for series, hour in self._hours.items() if series[0] in self._wanted}
        self._told = False

    def observe(self, result: ProbeResult) -> None:
        minute = self._minute()
        for metric in result.metrics:
            if metric.name in self._wanted:
                series = metric.series
                hour = self._hours.get(series)
                if hour is None:
                    hour = self._begin(series, result.probe, minute)
                if hour is not None:
                    hour.add(metric.value, minute)
        self._suspects.observe(result, self._clock.monotonic())

    def history(self, metric: str, labels: Labels) -> tuple[float | None, ...]:
        """One mean a minute of the hour until now, oldest first, None where there was nothing; () if unknown."""
        hour = self._hours.get((metric, tuple(sorted(labels.items()))))
        return () if hour is None else hour.history(self._minute())

    def evidence(self, metric: str, labels: Labels) -> tuple[Evidence, ...]:
        return self._suspects.evidence(metric, labels, self._clock.monotonic())

    def probe(self, metric: str, labels: Labels) -> str:
        """Who brings this series; "" if unknown."""
        hour = self._hours.get((metric, tuple(sorted(labels.items()))))
        return "" if hour is None else hour.probe

    def _begin(self, series: _Series, probe: str, minute: int) -> Hour | None:
        """Where all is taken, room is made by those that have been silent for an hour; looked for once a minute."""
        if len(self._hours) >= MAX_SERIES and self._swept != minute:
            self._swept = minute
            self._hours = {each: hour for each, hour in self._hours.items() if minute - hour.minute < MINUTES}
        if len(self._hours) >= MAX_SERIES:
            if not self._told:
                log.warning("more series than a history is kept of", extra={"series": MAX_SERIES})
            self._told = True
            return None
        hour = self._hours[series] = Hour(probe, minute)
        return hour

    def _minute(self) -> int:
        return int(self._clock.monotonic() // 60)
