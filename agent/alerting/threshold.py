"""When a value is a breach: one rule, one series, pure.

A rule has up to two bounds (warning, critical). A level is reached when a result is beyond its bound,
in N of the last M results where `of` asks so, for as long as `for` asks. It ends at `clear`: the
distance from the lowest bound to `clear` is the room that every level has before it ends, unless
`clear_critical` says where the critical one does.
"""

from __future__ import annotations

import math
import re

import msgspec

from agent.config.match import glob
from agent.config.rules import COURSE_MOST
from agent.config.schema import ThresholdConfig
from agent.config.units import Quantity
from agent.model import Labels, Severity

_OF = re.compile(r"(\d{1,3}) of (\d{1,3})")
LONG_LEAST, LONG_MOST = 3600.0, 3 * 86400.0
"""Seconds: a forecast looks as far back as ahead, within these; and a quarter of it for what happens now."""
_SEVERITIES = (Severity.WARNING, Severity.CRITICAL)


class Level(msgspec.Struct, frozen=True):
    """One severity of a rule: beyond `bound` it begins, back past `ends` it is over."""

    severity: Severity
    bound: float
    ends: float


class Rule(msgspec.Struct, frozen=True):
    """A threshold made ready: bounds in base units, patterns compiled. `unit` "" accepts any metric.

    `first` is the bound of the lowest level, or one that no value crosses. `key` changes with anything
    that changes what the rule means.
    """

    name: str
    metric: str
    above: bool
    first: float
    levels: tuple[Level, ...]
    unit: str
    hold: float
    need: int
    window: int
    absent_for: float | None
    absent: Severity
    match: tuple[tuple[str, re.Pattern[str]], ...]
    config: ThresholdConfig
    key: str
    windows: tuple[float, ...] = ()
    """Seconds of past that are kept of each series: one window for `rate`, a short and a long one for `forecast`."""
    per: str = ""
    """The unit of time of `rate`: s, min, h or d."""
    horizon: float | None = None
    floor: float | None = None
    light: bool = True
    """A calm result of a series at rest may be passed over: neither its silence nor its past matters."""

    def measured_in(self, told: str) -> str:
        """The metric's own unit, of the one that this rule tells its values in."""
        return told.removesuffix(f"/{self.per}") if self.per else told

    def told_in(self, unit: str) -> str:
        """The unit of what is judged of a metric in `unit`."""
        return f"{unit or '1'}/{self.per}" if self.per else unit

    def fits(self, unit: str) -> bool:
        """Whether a metric in `unit` can be held against the bounds."""
        return self.unit in ("", unit) or (self.unit == "1" and not unit)

    def matches(self, labels: Labels) -> bool:
        """A label that the series does not have reads as ""."""
        return all(pattern.fullmatch(labels.get(name, "")) for name, pattern in self.match)

    def beyond(self, value: float, bound: float) -> bool:
        return value > bound if self.above else value < bound

    def calm(self, value: float) -> bool:
        """Whether `value` is no breach of any level: for a series at rest, nothing is to be done."""
        return not (value > self.first if self.above else value < self.first)

    def limit(self, severity: Severity) -> float | None:
        """The bound of a severity; of the lowest level for one that has none."""
        bounds = {level.severity: level.bound for level in self.levels}
        return bounds.get(severity, self.levels[0].bound if self.levels else None)


class SeriesState(msgspec.Struct, frozen=True):
    """What a rule remembers of one series. Times are monotonic seconds.

    `since[i]`: from when level i has been reached without a break, None while it is not.
    `recent`: for the last results, newest last, how many levels each reached.
    """

    severity: Severity = Severity.OK
    since: tuple[float | None, ...] = ()
    recent: tuple[int, ...] = ()

    @property
    def at_rest(self) -> bool:
        """Nothing to remember: dropping this state changes no later severity."""
        return self.severity is Severity.OK and not any(self.recent) and all(s is None for s in self.since)


REST = SeriesState()


def evaluate(
    rule: Rule, state: SeriesState, value: float, at: float, lasts: float | None = None
) -> tuple[SeriesState, Severity]:
    """Judge one result that came `at` (monotonic seconds). What is not finite is no data: nothing changes.

    `lasts`: what is held against where a level ends, if that is not the value itself.
    """
    if not math.isfinite(value):
        return state, state.severity
    lasts = value if lasts is None else lasts
    reached = sum(_reached(rule, state, level, value, lasts) for level in rule.levels)
    recent = (*state.recent, reached)[-rule.window :] if rule.window > 1 else ()
    counts = recent or (reached,)
    since: list[float | None] = []
    severity = Severity.OK
    for index, level in enumerate(rule.levels):
        begun = state.since[index] if state.since else None
        if sum(count > index for count in counts) < rule.need:
            since.append(None)
            continue
        begun = at if begun is None else begun
        since.append(begun)
        if at - begun >= rule.hold or state.severity.rank >= level.severity.rank:
            severity = level.severity
    return SeriesState(severity, tuple(since), recent), severity


def interrupt(state: SeriesState, rule: Rule) -> SeriesState:
    """There was no data for a while: a breach that has not lasted yet begins anew, a level that is on stays."""
    if all(begun is None for begun in state.since):  # the common case, of every result
        return state
    held = zip(rule.levels, state.since, strict=False)
    since = tuple(begun if state.severity.rank >= level.severity.rank else None for level, begun in held)
    return msgspec.structs.replace(state, since=since)


def _reached(rule: Rule, state: SeriesState, level: Level, value: float, lasts: float) -> bool:
    """Beyond the bound; or, once the level is on, not yet back past where it ends."""
    if rule.beyond(value, level.bound):
        return True
    return state.severity.rank >= level.severity.rank and rule.beyond(lasts, level.ends)


def compile_rule(config: ThresholdConfig) -> tuple[Rule | None, list[str]]:
    """The rule that a `[[thresholds]]` table asks for, or None and every fault, as "thresholds.NAME: …"."""
    faults = _faults(config)
    if faults:
        return None, [f"thresholds.{config.name}: {fault}" for fault in faults]
    need, window = _need(config.of) or (1, 1)
    levels = _levels(config)
    unit = next((q.unit for q in _quantities(config) if q.unit), "")
    base, _, per = unit.partition("/")
    rule = Rule(
        name=config.name,
        metric=config.metric,
        above=config.op == ">",
        first=levels[0].bound if levels else math.inf if config.op == ">" else -math.inf,
        levels=levels,
        unit=unit if config.rate is None else base,
        hold=float(config.hold),
        need=need,
        window=window,
        absent_for=None if config.absent_for is None else float(config.absent_for),
        absent=Severity(config.absent),
        match=tuple((name, glob(pattern)) for name, pattern in sorted(config.match.items())),
        config=config,
        key=_key(config),
        windows=_windows(config),
        per="" if config.rate is None else per or "s",
        horizon=None if config.forecast is None else float(config.forecast),
        floor=None if config.floor is None else float(config.floor),
        light=config.absent_for is None and config.rate is None and config.forecast is None,
    )
    return rule, []


def _windows(config: ThresholdConfig) -> tuple[float, ...]:
    if config.rate is not None:
        return (float(config.rate),)
    if config.forecast is None:
        return ()
    long = min(max(float(config.forecast), LONG_LEAST), LONG_MOST)
    return long / 4, long


def _levels(config: ThresholdConfig) -> tuple[Level, ...]:
    given = [
        (severity, float(bound))
        for severity, bound in zip(_SEVERITIES, (config.warning, config.critical), strict=True)
        if bound is not None
    ]
    room = 0.0 if config.clear is None or not given else float(config.clear) - given[0][1]
    own = {} if config.clear_critical is None else {Severity.CRITICAL: float(config.clear_critical)}
    return tuple(Level(severity, bound, own.get(severity, bound + room)) for severity, bound in given)


def _quantities(config: ThresholdConfig) -> list[Quantity]:
    return [q for q in (*_bounds(config), config.floor) if q is not None]


def _bounds(config: ThresholdConfig) -> tuple[Quantity | None, ...]:
    return config.warning, config.critical, config.clear, config.clear_critical


def _need(of: str) -> tuple[int, int] | None:
    match = _OF.fullmatch(of)
    return (int(match[1]), int(match[2])) if match else None


def _key(config: ThresholdConfig) -> str:
    bounds = [None if q is None else (float(q), q.unit) for q in _bounds(config)]
    if config.clear_critical is None:  # so that what was open before there was this key goes on
        bounds.pop()
    timing = (float(config.hold), config.of, config.absent_for and float(config.absent_for), config.absent)
    means: tuple[object, ...] = (config.metric, sorted(config.match.items()), config.op, bounds, timing)
    if config.rate is not None or config.forecast is not None:  # as above
        ahead = [None if number is None else float(number) for number in (config.rate, config.forecast, config.floor)]
        means += (ahead,)
    return repr(means)


def _faults(config: ThresholdConfig) -> list[str]:
    faults: list[str] = []
    units = sorted({q.unit for q in _quantities(config) if q.unit})
    if len(units) > 1:
        faults.append(f"bounds in different units: {', '.join(units)}")
    if config.warning is None and config.critical is None and config.absent_for is None:
        faults.append("expected at least one of warning, critical, absent_for")
    sign = 1 if config.op == ">" else -1
    if config.warning is not None and config.critical is not None and sign * (config.critical - config.warning) < 0:
        faults.append(f"critical must lie beyond warning in the direction of {config.op!r}")
    first = config.warning if config.warning is not None else config.critical
    if config.clear is not None and (first is None or sign * (first - config.clear) < 0):
        faults.append(f"clear must lie on the good side of the bound that {config.op!r} crosses")
    faults += _own_clear(config, sign) + _course(config, sign)
    if config.of and ((pair := _need(config.of)) is None or not 1 <= pair[0] <= pair[1] <= 100):
        faults.append('of: expected "N of M" with N <= M <= 100, such as "3 of 5"')
    return faults


def _own_clear(config: ThresholdConfig, sign: int) -> list[str]:
    """What is wrong with `clear_critical`: critical must end before, or with, warning."""
    own, warning, critical = config.clear_critical, config.warning, config.critical
    if own is None:
        return []
    if warning is None or critical is None:
        return ["clear_critical needs both warning and critical; for one bound there is clear"]
    ends = warning if config.clear is None else config.clear
    if not sign * ends <= sign * own <= sign * critical:
        return ["clear_critical must lie between where warning ends and critical"]
    return []


def _course(config: ThresholdConfig, sign: int) -> list[str]:
    """What is wrong with `rate`, `forecast` and `floor`."""
    faults: list[str] = []
    first = config.warning if config.warning is not None else config.critical
    if config.rate is not None and config.forecast is not None:
        faults.append("rate and forecast exclude each other; make two thresholds")
    if first is None and (config.rate is not None or config.forecast is not None):
        faults.append("rate and forecast need a bound: warning or critical")
    if any(time is not None and not 0 < time <= COURSE_MOST for time in (config.rate, config.forecast)):
        faults.append(f"rate and forecast: expected more than 0 and at most {COURSE_MOST / 86400:g} days")
    if config.rate is not None and any(q.unit and "/" not in q.unit for q in _quantities(config)):
        faults.append('rate judges change: expected bounds such as "1GiB/h" or "5%/min", or bare numbers per second')
    if config.floor is not None and config.forecast is None:
        faults.append("floor goes with forecast; expected forecast beside it")
    elif config.floor is not None and first is not None and sign * config.floor > sign * first:
        faults.append("floor must lie on the good side of the bounds")
    return faults
