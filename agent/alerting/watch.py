"""One rule over all of its series: judges results, notices silence, moves incidents."""

from __future__ import annotations

import logging
import math
import random
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import msgspec

from agent.alerting.figure import duration, figure
from agent.alerting.flapping import STILL, follow, told, turn
from agent.alerting.grade import grade, scale_of
from agent.alerting.incident import Breach, Reading, advance, amend, new_id, open_incident
from agent.alerting.lens import forecast, look
from agent.alerting.memory import HEARD_EVERY, IncidentFact, Kind, Memory, Pair, Series, Track, TrackFact
from agent.alerting.threshold import Rule, evaluate, interrupt
from agent.alerting.witness import Witness
from agent.clock import Clock
from agent.model import Evidence, Incident, Labels, Metric, Severity, TransitionKind

if TYPE_CHECKING:
    from agent.alerting.explain import Latest

log = logging.getLogger(__name__)

_WORD = re.compile(r"\{(?:host|labels|value|limit)\}")
MAX_SERIES = 10_000
"""Series with something to remember, per rule; those beyond it are left out, with a fault."""
MAX_FOLLOWED = 1000
"""The same for rules that keep the past of each series: a few KiB each."""
PAST_EVERY = 60.0
"""Seconds at least between two notes of a series' past in the file."""
RENEWED_EVERY = 3600.0
"""Seconds after which an open incident says its forecast anew."""
UNHEARD, UNHEARD_GAPS = 60.0, 5.0
"""Seconds without a result, and that many times what is usual between two, after which a pending breach begins anew."""


class Host(msgspec.Struct, frozen=True):
    """What every watch of this host shares."""

    name: str
    clock: Clock
    rng: random.Random
    memory: Memory
    faults: dict[str, None]
    witness: Witness
    muted: Callable[[Incident], str]

    def fault(self, text: str) -> None:
        """Told in the log once."""
        if text not in self.faults:
            self.faults[text] = None
            log.error("threshold fault", extra={"fault": text})


class Watch:
    """Results and ticks in, (incident, transition) pairs out; every change goes to memory first."""

    def __init__(self, rule: Rule, host: Host) -> None:
        self.rule = rule
        self._host = host
        self._tracks: dict[Series, Track] = {}
        self._matches: dict[Series, bool] = {}
        self._since = host.clock.monotonic()
        self._waiting: Track | None = None
        """Stands for the series that never came; only with `absent_for`."""

    # -- results

    def judge(self, metric: Metric, pairs: list[Pair], interval: float = 0.0) -> None:
        """Cheap for the common case: nothing remembered, and nothing to remember."""
        rule = self.rule
        idle = rule.light and rule.calm(metric.value)
        if idle and not self._tracks:
            return
        series = metric.series
        track = self._tracks.get(series)
        if track is None and (idle or not self._matching(series, metric)):
            return
        if not self._unit_fits(metric):
            return
        if track is None:
            most = MAX_FOLLOWED if rule.windows else MAX_SERIES
            self._prune()
            if len(self._tracks) >= most:
                self._host.fault(f"thresholds.{rule.name}: more than {most} series to remember")
                return
            track = self._tracks[series] = Track(metric.labels)
            if rule.absent_for is not None:  # so that its silence is noticed after a restart too
                self._keep(series, track)
        self._take(series, track, metric, pairs, interval)

    def _take(self, series: Series, track: Track, metric: Metric, pairs: list[Pair], interval: float) -> None:
        at = self._host.clock.monotonic()
        rule = self.rule
        track.seen, track.unit = at, rule.told_in(metric.unit)
        self._end_silence(track, pairs)
        if not math.isfinite(metric.value):
            return
        before = track.state, track.flaps
        held = track.state if self._heard(track, at, interval) else interrupt(track.state, rule)
        judged = lasts = value = metric.value
        if rule.windows:
            seen = look(rule, track, metric, at)
            if seen is None:  # its past is too short: unknown
                track.state = held
                return
            judged, lasts, value = seen
        track.value = judged
        track.state, severity = evaluate(rule, held, judged, at, lasts)
        track.flaps = follow(track.flaps, severity, at) if rule.config.flapping else STILL
        if (track.state, track.flaps) != before or self._due(track, at):
            self._keep(series, track)  # first, so that a file which holds the incident holds this too
        if not track.flaps.on:
            self._turn(track, value, pairs)
        self._step(track, value, told(track.flaps, severity, track.incident), pairs)
        self._turn(track, value, pairs)
        self._renew(track, value, pairs)
        if rule.light and track.idle:
            del self._tracks[series]

    def _prune(self) -> None:
        """Before there is a new one: let go of series that ended long ago, such as those of a container."""
        if not self.rule.windows or self.rule.absent_for is not None:
            return
        gone = self._host.clock.monotonic() - 2 * max(self.rule.windows)
        for series, track in [(series, track) for series, track in self._tracks.items() if track.seen < gone]:
            if track.idle:
                del self._tracks[series]
                self._host.memory.forget_track(self.rule.name, series[0], track.labels)

    def _due(self, track: Track, at: float) -> bool:
        """Whether the file is to hear that results still come: of what is pending, and of a past that is kept."""
        if self.rule.windows and at - track.noted >= max(PAST_EVERY, self.rule.windows[0] / 20):
            return True
        return interrupt(track.state, self.rule) != track.state and at - track.noted >= HEARD_EVERY

    @staticmethod
    def _heard(track: Track, at: float, interval: float) -> bool:
        """Note that there is a result; False when there was none for too long to know what was meanwhile.

        One gap may be an outage: that two of them were long says that this series is slow.
        """
        before, track.heard = track.heard, at
        if before is None:
            return True
        usual, gap = max(interval, min(track.gaps)), at - before
        track.gaps = (track.gaps[1], gap)
        return gap <= max(UNHEARD, UNHEARD_GAPS * usual)

    def _step(self, track: Track, value: float, severity: Severity, pairs: list[Pair]) -> None:
        """Move the incident about the value to `severity`, if that is a change."""
        rule, incident = self.rule, track.incident
        if incident is None and severity.rank == 0:
            track.worst = None
            return
        worse = max if rule.above else min
        track.worst = value if track.worst is None else worse(track.worst, value)
        if incident is not None and incident.severity is severity:
            return
        limit = rule.limit(severity)
        scale = scale_of(rule.metric, track.unit)
        reading = Reading(
            severity,
            self._host.clock.now(),
            value=value,
            limit=limit,
            peak=track.worst,
            grade="" if scale is None else grade(scale, value),
            summary=self._summary(track, value, limit),
            evidence=self._evidence(track, severity),
            forecast=forecast(rule, track, value, limit),
        )
        begun = min((since for since in track.state.since if since is not None), default=track.seen)
        track.incident = self._move(incident, reading, "value", track, pairs, begun=begun)

    def _turn(self, track: Track, value: float, pairs: list[Pair]) -> None:
        """Have the incident say whether it flaps."""
        pair = turn(track.flaps, track.incident, self._host.clock.now(), value)
        if pair is not None:
            summary = self._summary(track, value, pair[0].limit)
            track.incident = msgspec.structs.replace(pair[0], summary=summary)
            self._remember((track.incident, pair[1]), "value", pairs)

    def _renew(self, track: Track, value: float, pairs: list[Pair]) -> None:
        """Have the incident say anew, now and then, when its limit will be reached."""
        incident, now = track.incident, self._host.clock.now()
        if self.rule.horizon is None or incident is None or now - incident.updated_at < RENEWED_EVERY:
            return
        words = forecast(self.rule, track, value, incident.limit)
        if words != incident.forecast:
            said = {"forecast": words, "value": value, "summary": self._summary(track, value, incident.limit)}
            pair = amend(incident, TransitionKind.EVIDENCE, now, "forecast", **said)
            track.incident = pair[0]
            self._remember(pair, "value", pairs)

    def _evidence(self, track: Track, severity: Severity) -> tuple[Evidence, ...]:
        """Looked for when it opens or gets worse."""
        if track.incident is not None and severity.rank <= track.incident.severity.rank:
            return ()
        return self._host.witness.evidence(self.rule.metric, track.labels)

    # -- absence

    def seek_silence(self, pairs: list[Pair]) -> None:
        """Open an incident for every series that brought nothing for `absent_for`."""
        absent_for = self.rule.absent_for
        if absent_for is None:
            return
        now = self._host.clock.monotonic()
        if not self._tracks and self._waiting is None:
            self._waiting = Track(self._literal_labels(), seen=self._since)
        waiting = [] if self._waiting is None else [("waiting", self._waiting)]
        for kind, track in [*waiting, *(("absence", track) for track in self._tracks.values())]:
            silent = now - track.seen
            if track.absence is None and silent > absent_for:
                summary = f"no data for {duration(silent)}"
                time = self._host.clock.now()
                reading = Reading(self.rule.absent, time, silent, absent_for, silent, summary=summary)
                track.absence = self._move(None, reading, cast("Kind", kind), track, pairs, begun=track.seen)

    @property
    def silent_at(self) -> float:
        """Beyond then (monotonic seconds) the next silence is noticed; inf where there is none to notice."""
        absent_for = math.inf if self.rule.absent_for is None else self.rule.absent_for
        if not self._tracks and self._waiting is None:
            return self._since + absent_for
        tracks = [*self._tracks.values(), *([self._waiting] if self._waiting else [])]
        return min((track.seen for track in tracks if track.absence is None), default=math.inf) + absent_for

    def _end_silence(self, track: Track, pairs: list[Pair]) -> None:
        """Data is back: on this series; and nobody waits for a first one any longer."""
        waiting, self._waiting = self._waiting, None
        for silent, kind in ((waiting, "waiting"), (track, "absence")):
            if silent is not None and silent.absence is not None:
                reading = Reading(Severity.OK, self._host.clock.now(), note="data is back")
                silent.absence = self._move(
                    silent.absence, reading, cast("Kind", kind), silent, pairs, begun=silent.seen
                )

    def _literal_labels(self) -> Labels:
        return {name: text for name, text in self.rule.config.match.items() if "*" not in text}

    # -- memory

    def restore_track(self, fact: TrackFact, track: Track) -> None:
        self._tracks[fact.metric, tuple(sorted(fact.labels.items()))] = track

    def restore_incident(self, fact: IncidentFact) -> None:
        """Put an open incident of this very rule back; its series is as if seen just now."""
        incident = fact.incident
        if fact.kind == "waiting":
            self._waiting = Track(incident.labels, seen=self._since, absence=incident)
            return
        series = (incident.metric, tuple(sorted(incident.labels.items())))
        track = self._tracks.setdefault(series, Track(incident.labels, seen=self._since))
        if fact.kind == "absence":
            track.absence = incident
        else:
            track.incident, track.worst, track.unit = incident, incident.peak_value, incident.unit
            if (
                track.state.severity is not incident.severity and not track.flaps.on
            ):  # its own fact was lost: the incident is the truth
                track.state = msgspec.structs.replace(track.state, severity=incident.severity)

    def adopt(self, other: Watch) -> None:
        """Go on from a watch of the same rule."""
        self._tracks, self._waiting, self._since = other._tracks, other._waiting, other._since

    def abandon(self, note: str, pairs: list[Pair]) -> None:
        """The rule is gone: resolve what it has open, forget what it remembers."""
        for track in [*self._tracks.values(), *([self._waiting] if self._waiting else [])]:
            reading = Reading(Severity.OK, self._host.clock.now(), note=note)
            for incident in (track.incident, track.absence):
                if incident is not None:
                    self._move(incident, reading, "value", track, pairs, begun=track.seen)
        for metric, labels in self._tracks:
            self._host.memory.forget_track(self.rule.name, metric, dict(labels))
        self._tracks, self._waiting = {}, None

    def explain(self, latest: Latest) -> list[str]:
        """Why it judges as it does, in lines; `latest` are the last results of the series that it matches."""
        from agent.alerting.explain import Moment, explain  # noqa: PLC0415 - only for who asks

        moment = Moment(self._host.clock.now(), self._host.clock.monotonic())
        return explain(self.rule, self._tracks, self._waiting, latest, moment)

    def incidents(self) -> list[Incident]:
        tracks = [*self._tracks.values(), *([self._waiting] if self._waiting else [])]
        return [i for track in tracks for i in (track.incident, track.absence) if i is not None]

    # -- parts

    def _move(
        self, current: Incident | None, reading: Reading, kind: Kind, track: Track, pairs: list[Pair], *, begun: float
    ) -> Incident | None:
        """One transition, remembered and told; returns the incident if it is open afterwards."""
        if current is None:
            current_id = new_id(reading.time, self._host.rng)
            pair: Pair | None = self._open(current_id, self._breach(reading, kind, track, begun), reading)
        else:
            pair = advance(current, reading)
        if pair is None:
            return current
        self._remember(pair, kind, pairs)
        incident, _ = pair
        return incident if incident.state == "open" else None

    def _open(self, incident_id: str, breach: Breach, reading: Reading) -> Pair:
        incident, transition = open_incident(incident_id, breach, reading)
        return msgspec.structs.replace(incident, muted=self._host.muted(incident)), transition

    def amend(self, change: Callable[[Incident], Pair | None], pairs: list[Pair]) -> None:
        """Let `change` make a new version of each open incident, or None where nothing is to change."""
        for track in [*self._tracks.values(), *([self._waiting] if self._waiting else [])]:
            silent: Kind = "waiting" if track is self._waiting else "absence"
            if track.incident is not None and (pair := change(track.incident)) is not None:
                track.incident = pair[0]
                self._remember(pair, "value", pairs)
            if track.absence is not None and (pair := change(track.absence)) is not None:
                track.absence = pair[0]
                self._remember(pair, silent, pairs)

    def _remember(self, pair: Pair, kind: Kind, pairs: list[Pair]) -> None:
        incident, transition = pair
        self._host.memory.keep_pair(incident, transition, self.rule.key, kind)
        pairs.append(pair)
        log.warning(
            "incident changed",
            extra={
                "incident": incident.id,
                "transition": str(transition.kind),
                "severity": str(transition.severity),
                "threshold": incident.threshold,
                "metric": incident.metric,
                "labels": incident.labels,
                "value": transition.value,
                "note": transition.note,
            },
        )

    def _breach(self, reading: Reading, kind: Kind, track: Track, begun: float) -> Breach:
        told, measured = track.unit if kind == "value" else "seconds", self.rule.measured_in(track.unit)
        return Breach(
            host=self._host.name,
            threshold=self.rule.name,
            metric=self.rule.metric,
            op=self.rule.config.op if kind == "value" else "absent",
            started_at=reading.time - (self._host.clock.monotonic() - begun),
            labels=track.labels,
            unit=told,
            runbook=self.rule.config.runbook,
            history=self._host.witness.history(self.rule.metric, track.labels),
            history_unit=None if measured == told else measured,
        )

    def _keep(self, series: Series, track: Track) -> None:
        """A series at rest needs no place in the file, unless its silence is to be noticed."""
        if track.quiet and self.rule.light:
            self._host.memory.forget_track(self.rule.name, series[0], track.labels)
        else:
            track.noted = self._host.clock.monotonic()
            self._host.memory.keep_track(self.rule.name, self.rule.key, series[0], track)

    def _matching(self, series: Series, metric: Metric) -> bool:
        known = self._matches.get(series)
        if known is None:
            known = self.rule.matches(metric.labels)
            if len(self._matches) < MAX_SERIES:
                self._matches[series] = known
        return known

    def _unit_fits(self, metric: Metric) -> bool:
        rule = self.rule
        if rule.fits(metric.unit):
            return True
        given, wanted = metric.unit or "no unit", rule.told_in(rule.unit)
        self._host.fault(f"thresholds.{rule.name}: its bounds are in {wanted}, but {metric.name} is in {given}")
        return False

    def _summary(self, track: Track, value: float, limit: float | None) -> str:
        words = {
            "{host}": self._host.name,
            "{labels}": ", ".join(f"{name}={text}" for name, text in sorted(track.labels.items())),
            "{value}": figure(value, track.unit),
            "{limit}": "" if limit is None else figure(limit, track.unit),
        }
        return _WORD.sub(lambda found: words[found[0]], self.rule.config.summary)
