"""Why a rule judges as it does: the last evaluation of each of its series, in lines for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from agent.alerting.figure import counted, duration, figure
from agent.alerting.flapping import BEGINS, ENDS, share
from agent.alerting.lens import forecast
from agent.alerting.memory import Series, Track
from agent.alerting.threshold import Level, Rule
from agent.alerting.trend import Points
from agent.model import Incident, Metric


class Moment(msgspec.Struct, frozen=True):
    """When it is looked at, by both clocks."""

    now: float
    monotonic: float

    def ago(self, monotonic: float) -> str:
        return f"{duration(self.monotonic - monotonic)} ago"


Latest = Mapping[Series, tuple[Metric, float]]
"""The last result of every series of the rule's metric, and its unix second."""


def explain(
    rule: Rule, tracks: Mapping[Series, Track], waiting: Track | None, latest: Latest, moment: Moment
) -> list[str]:
    """The rule, then each series with what was found; those without any result at the end."""
    lines = rule_lines(rule)
    for series in sorted({*tracks, *latest}):
        track = tracks.get(series)
        lines += ["", *series_lines(rule, track, latest.get(series), moment, dict(series[1]))]
    if not tracks and not latest:
        lines += ["", f"no series of {rule.metric} has come that it matches"]
    if waiting is not None:
        lines += _silence(rule, waiting, moment)
        lines += [f"  {line}" for line in _incident(waiting.absence, moment)] if waiting.absence else []
    return lines


def rule_lines(rule: Rule) -> list[str]:
    """What the rule asks for, as it was understood."""
    config = rule.config
    match = ", ".join(f"{name}={pattern}" for name, pattern in sorted(config.match.items()))
    where = f" where {match}" if match else ""
    lines = [f"{rule.name}: {rule.metric}{where}"]
    sign = ">" if rule.above else "<"
    for level in rule.levels:
        unit = rule.told_in(rule.unit)
        ends = "" if level.ends == level.bound else f", until it is back at {figure(level.ends, unit)}"
        lines.append(f"  {level.severity} {sign} {figure(level.bound, unit)}{ends}")
    lines += _course(rule)
    if rule.hold:
        lines.append(f"  for {duration(rule.hold)} without a break")
    if rule.window > 1:
        lines.append(f"  in {rule.need} of the last {rule.window} results")
    if rule.absent_for is not None:
        lines.append(f"  {rule.absent} after {duration(rule.absent_for)} without data")
    if config.depends_on:
        lines.append(f"  not told while one of these is open: {', '.join(config.depends_on)}")
    if not config.flapping:
        lines.append("  flapping is not looked for")
    return lines


def _course(rule: Rule) -> list[str]:
    if rule.per:
        return [f"  of the change over {duration(rule.windows[0])}"]
    if rule.horizon is None:
        return []
    floor = "" if rule.floor is None else f", while it is itself beyond {figure(rule.floor, rule.unit)}"
    return [f"  of the value in {duration(rule.horizon)}{floor}"]


def series_lines(
    rule: Rule, track: Track | None, last: tuple[Metric, float] | None, moment: Moment, labels: Mapping[str, str]
) -> list[str]:
    name = ", ".join(f"{key}={value}" for key, value in sorted(labels.items())) or "the series without labels"
    if last is None:
        lines = [f"{name}: not among the latest results; judged last: {_severity(track)}"]
    else:
        metric, time = last
        value = figure(metric.value, metric.unit)
        lines = [f"{name}: {value}, {duration(max(0.0, moment.now - time))} ago: {_severity(track)}"]
        if not rule.fits(metric.unit):
            given, wanted = metric.unit or "no unit", rule.told_in(rule.unit)
            return [*lines, f"  not judged: the bounds are in {wanted}, the metric is in {given}"]
        lines += [f"  {line}" for line in _judged(rule, track, metric, moment)]
    if track is not None:
        lines += [f"  {line}" for line in _remembered(rule, track)]
        lines += _silence(rule, track, moment)
        lines += [f"  {line}" for one in (track.incident, track.absence) if one for line in _incident(one, moment)]
    return lines


def _judged(rule: Rule, track: Track | None, metric: Metric, moment: Moment) -> list[str]:
    """What was held against the bounds, and how it came out."""
    if not rule.windows:
        return _levels(rule, track, metric.value, moment)
    if track is None or track.value is None or not track.past:
        return ["not judged: too little is known of its past"]
    reach = ", ".join(_reach(points, moment) for points in track.past)
    lines = [f"judged as {figure(track.value, track.unit)} by {reach}"]
    limit = rule.limit(track.state.severity)
    if words := forecast(rule, track, metric.value, limit):
        lines.append(f"foreseen: {words}")
    return lines + _levels(rule, track, track.value, moment)


def _reach(points: Points, moment: Moment) -> str:
    began = points.kept[0][0] if points.kept else moment.monotonic
    lasted = duration(moment.monotonic - began)
    return f"{counted(len(points.kept), 'point')} of {lasted} (window {duration(points.window)})"


def _severity(track: Track | None) -> str:
    return str(track.state.severity) if track is not None else "ok"


def _levels(rule: Rule, track: Track | None, value: float, moment: Moment) -> list[str]:
    """Per level: which side of its bound the value is on, and what is still missing."""
    track = track or Track({})
    since = track.state.since or (None,) * len(rule.levels)
    unit = track.unit or rule.unit
    found = []
    for level, begun in zip(rule.levels, since, strict=False):
        on = track.state.severity.rank >= level.severity.rank
        text = f"{level.severity}: {_side(rule, level, value, unit, on=on)}"
        if begun is not None and on:
            text += f"; on, reached {moment.ago(begun)}"
        elif begun is not None:
            text += f"; reached for {duration(moment.monotonic - begun)} of {duration(rule.hold)}"
        found.append(text)
    return found


def _side(rule: Rule, level: Level, value: float, unit: str, *, on: bool) -> str:
    beyond = rule.beyond(value, level.bound)
    text = f"{'' if beyond else 'not '}{'above' if rule.above else 'below'} {figure(level.bound, unit)}"
    if on and not beyond and rule.beyond(value, level.ends):
        text += f", but not yet back at {figure(level.ends, unit)}"
    return text


def _remembered(rule: Rule, track: Track) -> list[str]:
    lines = []
    if track.state.recent:
        counts = [sum(count > index for count in track.state.recent) for index in range(len(rule.levels))]
        reached = ", ".join(f"{level.severity} {count}" for level, count in zip(rule.levels, counts, strict=True))
        lines.append(f"of the last {len(track.state.recent)} results reached: {reached}; {rule.need} are asked for")
    if rule.config.flapping and not track.flaps.at_rest:
        state = "it flaps" if track.flaps.on else "it does not flap"
        lines.append(
            f"changes weigh {share(track.flaps.ranks):.1f} % of the last results: {state} "
            f"(begins above {BEGINS:g} %, ends below {ENDS:g} %)"
        )
    return lines


def _silence(rule: Rule, track: Track, moment: Moment) -> list[str]:
    if rule.absent_for is None:
        return []
    silent = moment.monotonic - track.seen
    if track.absence is not None:
        return [f"  silent for {duration(silent)}, longer than {duration(rule.absent_for)}"]
    return [f"  silent for {duration(silent)} of {duration(rule.absent_for)}"]


def _incident(incident: Incident, moment: Moment) -> list[str]:
    since = duration(moment.now - incident.started_at)
    lines = [f"open: {incident.severity} since {since}, version {incident.version} ({incident.id})"]
    if incident.severity is not incident.peak:
        lines[0] += f", at its worst {incident.peak}"
    if incident.acknowledged_by:
        lines.append(f"{incident.acknowledged_by} looks after it")
    lines.append(f"not told: {incident.muted}" if incident.muted else "told")
    if incident.forecast:
        lines.append(f"told: {incident.forecast}")
    return lines
