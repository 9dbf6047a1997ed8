"""The course of a metric as a PNG, one line for each of its series.

`python -m agent.slack.graph` draws the graph that stands as JSON on its standard input: a process of its own, as in
`agent.slack.chart`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

import msgspec

from agent.alerting.figure import figure
from agent.slack.scale import scale
from agent.slack.sheet import LINE, Key, Point, Sheet, known
from agent.slack.text import plain, sane

MOST_LINES, MOST_POINTS = 8, 500
"""Of one picture; a phone shows no more."""
TONES = (LINE, "#d55e00", "#009e73", "#b0429e", "#e0a100", "#56b4e9", "#1d1c1d", "#8c6d46")
"""Told apart also by most who are colour-blind."""
_MARKS = 5
"""At most so many marks of time."""
_STEPS = (60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 432000, 864000, 2592000)
_DAYS = 2 * 86400
_APART = 2.5
"""A gap is longer than so many of a line's usual steps."""


class Line(msgspec.Struct, frozen=True):
    name: str
    points: list[Point]


class Graph(msgspec.Struct, frozen=True):
    """`lines` of one metric from `start` to `end` in unix seconds; `step`: of these one point is a mean."""

    title: str
    about: str
    unit: str
    start: float
    end: float
    step: float
    lines: list[Line]


def graph(wanted: Graph) -> bytes:
    """b"" where there is nothing to draw."""
    start, end = sane(wanted.start), sane(wanted.end)
    lines = [(line.name, _within(line.points, start, end)) for line in wanted.lines[:MOST_LINES]]
    lines = [(name, points) for name, points in lines if points]
    if not lines or start >= end:
        return b""
    values = [value for _, points in lines for _, value in points]
    keys = [
        Key(tone, plain(name, 300), figure(points[-1][1], wanted.unit))
        for tone, (name, points) in zip(TONES, lines, strict=False)
    ]
    alone = len(lines) == 1
    sheet = Sheet(start, end, scale(min(values), max(values), wanted.unit), () if alone else keys)
    sheet.head(plain(wanted.title, 120), plain(wanted.about, 120), keys[0].value if alone else "", LINE)
    sheet.axes(wanted.unit, marks(start, end), "%H:%M" if end - start <= _DAYS else "%d %b")
    for key, (_, points) in zip(keys, lines, strict=True):
        sheet.line(points, _apart(points, wanted.step), key.tone, shaded=alone)
    if alone:
        sheet.dot(*lines[0][1][-1], LINE)
    return sheet.png()


def marks(start: float, end: float) -> list[float]:
    """Round moments between, and the end itself; none so close to it that their words would meet."""
    span = end - start
    step = next((step for step in _STEPS if span / step <= _MARKS), span / _MARKS)
    first = -(-start // step) * step
    round_ = [first + index * step for index in range(_MARKS + 1)]
    return [*(moment for moment in round_ if moment < end - 0.3 * span), end]


def _within(points: Sequence[Point], start: float, end: float) -> list[Point]:
    """What can be drawn: in order, in time, numbers, and the newest where there are too many."""
    return sorted((moment, value) for moment, value in points if start <= moment <= end and known(value))[-MOST_POINTS:]


def _apart(points: Sequence[Point], step: float) -> float:
    usual = median([later - earlier for (earlier, _), (later, _) in pairwise(points)] or [step])
    return _APART * max(step, usual)


def main() -> None:
    """The PNG on standard output; nothing where there is nothing to draw."""
    os.nice(10)
    sys.stdout.buffer.write(graph(msgspec.json.decode(sys.stdin.buffer.read(), type=Graph)))


if __name__ == "__main__":
    main()
