"""What a probe may return: checked once, here, so that every later stage can rely on it."""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from agent.model import Metric

MOST = 5000
"""Metrics in one run; more is a label that should not be one."""
_NAME = re.compile(r"[a-z0-9_.]+")


def screen(returned: object) -> tuple[Metric, ...]:
    """The metrics as they came; ValueError or TypeError names the first that cannot be taken."""
    if not isinstance(returned, list | tuple):
        raise TypeError(f"collect returned {type(returned).__name__}, expected a list of metrics")
    if len(returned) > MOST:
        raise ValueError(f"collect returned {len(returned)} metrics, expected at most {MOST}")
    seen: set[Any] = set()
    taken = []
    for metric in returned:
        taken.append(_checked(metric))
        series = (metric.name, frozenset(metric.labels.items())) if metric.labels else metric.name
        if series in seen:
            raise ValueError(f"metric {shown(metric)} comes twice in one run")
        seen.add(series)
    return tuple(taken)


def shown(metric: Metric) -> str:
    """`disk.used_percent{mount=/}`, short enough for an error text."""
    labels = ",".join(f"{key}={value}" for key, value in sorted(metric.labels.items(), key=str))
    return f"{metric.name}{{{labels}}}"[:200] if labels else str(metric.name)[:200]


def _checked(metric: object) -> Metric:
    if not isinstance(metric, Metric):
        raise TypeError(f"collect returned a list with {type(metric).__name__} in it, expected metrics")
    if not isinstance(metric.name, str) or not _NAME.fullmatch(metric.name):
        raise ValueError(f"metric name {metric.name!r:.120} does not match [a-z0-9_.]+")
    if metric.name.startswith("probe."):
        raise ValueError(f"metric name {metric.name:.120} begins with probe., which is the agent's own")
    _check_texts(metric)
    value: object = metric.value
    if type(value) is float:
        number = value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = _number(metric, value)
        metric = msgspec.structs.replace(metric, value=number)
    else:
        raise TypeError(f"metric {shown(metric)} has a value of type {type(value).__name__}, expected a number")
    if not math.isfinite(number):
        raise ValueError(f"metric {shown(metric)} is {number}, expected a finite number")
    return metric


def _number(metric: Metric, value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"metric {shown(metric)} is too large for a number") from None


def _check_texts(metric: Metric) -> None:
    """Labels and unit are texts that UTF-8 can carry (a lone surrogate from a file name cannot be)."""
    if metric.kind not in ("gauge", "counter"):
        raise ValueError(f"metric {metric.name:.120} is of kind {metric.kind!r:.40}, expected gauge or counter")
    if not isinstance(metric.labels, dict):
        raise TypeError(f"metric {metric.name:.120} has labels of type {type(metric.labels).__name__}, expected a dict")
    for text in (metric.unit, *metric.labels, *metric.labels.values()):
        if not isinstance(text, str):
            raise TypeError(f"metric {metric.name:.120} has {text!r:.80} as unit or label, expected a text")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise ValueError(f"metric {metric.name:.120} has a label that is no UTF-8: {text!r:.80}") from None
