"""Why a threshold judges as it does: what it remembers of each series, in words. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from agent.alerting.figure import duration, figure
from agent.alerting.flapping import BEGINS, ENDS, share
from agent.alerting.memory import Series, Track
from agent.alerting.threshold import Level, Rule
from agent.model import Labels


def explain(
    rule: Rule, tracks: Mapping[Series, Track], now: float, monotonic: float, waiting: Track | None = None
) -> list[str]:
    """Lines: the rule, then each series that is not at rest. `now` unix seconds, `monotonic` the same moment.

    `waiting` stands for the series that never came.
    """
    lines = [_rule(rule)]
    if waiting is not None:
        return [*lines, *_never(rule, waiting, monotonic)]
    for (_, _), track in sorted(tracks.items()):
        lines += _series(rule, track, now, monotonic)
    if not tracks:
        lines.append("every series is at rest: no result is beyond a bound, and nothing is remembered of any")
    return lines


def _rule(rule: Rule) -> str:
    config = rule.config
    parts = [f"{rule.name}: {rule.metric}"]
    if rule.match:
        parts.append(f"where {_labels(config.match)}")
    parts += [f"{level.severity} {_bound(rule, level)}" for level in rule.levels]
    if rule.hold:
        parts.append(f"for {duration(rule.hold)}")
    if config.of:
        parts.append(f"in {config.of} results")
    if rule.absent_for is not None:
        parts.append(f"{rule.absent} after {duration(rule.absent_for)} without data")
    return ", ".join(parts)


def _never(rule: Rule, waiting: Track, monotonic: float) -> Iterator[str]:
    yield f"{_labels(waiting.labels) or 'any series'}: no result since the start of the daemon"
    yield f"  {_silence(rule, waiting, monotonic)}"
    yield from _incidents(waiting)


def _series(rule: Rule, track: Track, now: float, monotonic: float) -> Iterator[str]:
    yield f"{_labels(track.labels) or 'without labels'}: {track.state.severity.upper()}"
    yield f"  {_value(track, now, monotonic)}"
    for index, level in enumerate(rule.levels):
        yield f"  {level.severity}: {_level(rule, track, index, level, monotonic)}"
    if rule.absent_for is not None:
        yield f"  {_silence(rule, track, monotonic)}"
    if rule.config.flapping and track.flaps.ranks:
        words, changes = "flapping" if track.flaps.on else "not flapping", share(track.flaps.ranks)
        yield f"  {words}: {changes:.1f} % of changes; begins above {BEGINS:g} %, ends below {ENDS:g} %"
    yield from _incidents(track)


def _silence(rule: Rule, track: Track, monotonic: float) -> str:
    return f"silent for {duration(monotonic - track.seen)} of {duration(rule.absent_for or 0.0)}"


def _incidents(track: Track) -> Iterator[str]:
    for incident in (track.incident, track.absence):
        if incident is not None:
            yield f"  incident {incident.id}, version {incident.version}: {incident.severity}"
            if incident.acknowledged_by:
                yield f"    acknowledged by {incident.acknowledged_by}"
            if incident.forecast:
                yield f"    {incident.forecast}"
            yield f"    not told: {incident.muted}" if incident.muted else "    told"


def _value(track: Track, now: float, monotonic: float) -> str:
    if track.value is None:
        return "no result since the start of the daemon"
    age = max(0.0, monotonic - (track.seen if track.heard is None else track.heard))
    clock = time.strftime("%H:%M:%S UTC", time.gmtime(now - age))
    return f"last judged {figure(track.value, track.unit)} at {clock}, {duration(age)} ago"


def _level(rule: Rule, track: Track, index: int, level: Level, monotonic: float) -> str:
    """Whether it is reached, and why it is on or not yet."""
    state = track.state
    on = state.severity.rank >= level.severity.rank
    begun = state.since[index] if index < len(state.since) else None
    words = []
    if track.value is not None:
        beyond = rule.beyond(track.value, level.bound)
        words.append("beyond its bound" if beyond else "held until it is back past its end" if on else "not reached")
    if rule.window > 1:
        reached = sum(count > index for count in state.recent)
        words.append(f"in {reached} of the last {len(state.recent)} results, {rule.need} of {rule.window} are needed")
    if begun is not None:
        words.append(f"for {duration(monotonic - begun)}")
        if not on:
            words.append(f"has to last {duration(rule.hold)}")
    return f"{'on' if on else 'off'}; " + ", ".join(words)


def _bound(rule: Rule, level: Level) -> str:
    unit = rule.told_in(rule.unit)
    ends = "" if level.ends == level.bound else f" (ends at {figure(level.ends, unit)})"
    return f"{rule.config.op} {figure(level.bound, unit)}{ends}"


def _labels(labels: Labels) -> str:
    return ", ".join(f"{name}={text}" for name, text in sorted(labels.items()))
