"""The hour before an incident as a PNG that can be read on a phone.

`python -m agent.slack.chart` draws the incident that stands as JSON on its standard input: a process of its own, so
that neither the library nor its pictures stay in the daemon's memory.
"""

from __future__ import annotations

import math
import os
import sys
import time
from typing import TYPE_CHECKING, Any, TypeGuard

import msgspec

from agent.alerting.figure import figure
from agent.model import Incident
from agent.slack.blocks import colour
from agent.slack.facts import bound, headline
from agent.slack.scale import Scale, scale
from agent.slack.text import plain, sane

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw as Pen

WIDTH, HEIGHT = 800, 440
LEFT, TOP, RIGHT, BOTTOM = 126, 108, 26, 58
LARGE, SMALL = 28, 24
_FINE = 2
"""Drawn this much larger and made smaller at the end, which smooths every line."""
INK, MUTED, GRID, PAPER = "#1d1c1d", "#616061", "#e6e4df", "#ffffff"
LINE, LIMIT = "#1264a3", "#c01343"
_TICK = 15
"""Minutes between two marks of time."""


def chart(incident: Incident) -> bytes:
    """b"" where there is no value to draw, or only one."""
    points = [(minute, value) for minute, value in enumerate(incident.history) if _known(value)]
    if len(points) < 2:
        return b""
    limit = incident.limit if incident.op in ("<", ">") and _known(incident.limit) else None
    recent = incident.updated_at - incident.fired_at < 60 and points[-1][0] == len(incident.history) - 1
    if limit is not None and recent and _known(incident.value):
        points[-1] = points[-1][0], incident.value  # what crossed the limit, where a minute's mean may not
    values = [value for _, value in points] + ([] if limit is None else [limit])
    sheet = _Sheet(len(incident.history), scale(min(values), max(values), incident.unit))
    last, value = points[-1]
    sheet.head(headline(incident), plain(incident.metric, 80), figure(value, incident.unit), colour(incident))
    sheet.axes(incident.unit, incident.fired_at)
    sheet.line(points)
    if limit is not None:
        sheet.limit(limit, f"limit {bound(incident)}")
    sheet.dot(last, value, colour(incident))
    return sheet.png()


def _known(value: float | None) -> TypeGuard[float]:
    """A number that an axis can hold."""
    return value is not None and math.isfinite(value) and abs(value) < 1e300


class _Sheet:
    """Coordinates are minutes (from 0) and values; all drawing is in pixels of the finer picture."""

    def __init__(self, minutes: int, axis: Scale) -> None:
        from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415 - of this process alone, and of no other import

        self._image = Image.new("RGB", (WIDTH * _FINE, HEIGHT * _FINE), PAPER)
        self._draw: Pen = ImageDraw.Draw(self._image)
        self._fonts = {size: ImageFont.load_default(size=size * _FINE) for size in (SMALL, LARGE)}
        self._minutes = minutes
        self._axis = axis

    def png(self) -> bytes:
        import io  # noqa: PLC0415

        from PIL import Image  # noqa: PLC0415

        small = self._image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        small.quantize(128).save(file, "PNG", optimize=True)
        return file.getvalue()

    def head(self, title: str, metric: str, value: str, tone: str) -> None:
        self._draw.rectangle(_fine(0, 0, 8, HEIGHT), tone)
        self._text(26, 32, title, LARGE, anchor="lm", room=WIDTH - 26 - RIGHT)
        self._text(26, 70, metric, SMALL, MUTED, anchor="lm", room=WIDTH - 226 - RIGHT)
        self._text(WIDTH - RIGHT, 70, value, LARGE, anchor="rm", room=180)

    def axes(self, unit: str, opened: float) -> None:
        for value in self._axis.ticks:
            y = self._y(value)
            self._draw.line(_fine(LEFT, y, WIDTH - RIGHT, y), GRID, width=2)
            self._text(LEFT - 12, y, figure(value, unit), SMALL, MUTED, anchor="rm", room=LEFT - 22)
        marks = range(self._minutes - 1, -1, -_TICK)
        for minute in marks:
            x, moment = self._x(minute), opened - (self._minutes - 1 - minute) * 60
            self._draw.line(_fine(x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 6), MUTED, width=2)
            last = minute == marks[0]
            text = time.strftime("%H:%M UTC" if last else "%H:%M", time.gmtime(sane(moment)))
            self._text(
                WIDTH - RIGHT if last else x, HEIGHT - BOTTOM + 28, text, SMALL, MUTED, anchor="rm" if last else "mm"
            )

    def line(self, points: list[tuple[int, float]]) -> None:
        """Broken where a minute is missing; what stands alone is a dot."""
        part: list[tuple[float, float]] = []
        before = -2
        for minute, value in points:
            if minute != before + 1:
                self._stroke(part)
                part = []
            part.append((self._x(minute), self._y(value)))
            before = minute
        self._stroke(part)

    def limit(self, value: float, text: str) -> None:
        y = self._y(value)
        for x in range(LEFT, WIDTH - RIGHT, 16):
            self._draw.line(_fine(x, y, min(x + 9, WIDTH - RIGHT), y), LIMIT, width=2 * _FINE)
        above = y - 18 > TOP
        self._text(LEFT + 8, y - 17 if above else y + 18, text, SMALL, LIMIT, anchor="lm", halo=True)

    def dot(self, minute: int, value: float, tone: str) -> None:
        """Where it stands."""
        x, y = self._x(minute), self._y(value)
        self._draw.ellipse(_fine(x - 8, y - 8, x + 8, y + 8), tone, PAPER, 2 * _FINE)

    def _stroke(self, part: list[tuple[float, float]]) -> None:
        if not part:
            return
        bottom = HEIGHT - BOTTOM
        if len(part) == 1:
            x, y = part[0]
            self._draw.ellipse(_fine(x - 3, y - 3, x + 3, y + 3), LINE)
            return
        under = [(part[0][0], bottom), *part, (part[-1][0], bottom)]
        self._shade([(x * _FINE, y * _FINE) for x, y in under])
        self._draw.line([(x * _FINE, y * _FINE) for x, y in part], LINE, width=4 * _FINE, joint="curve")

    def _shade(self, corners: list[tuple[float, float]]) -> None:
        from PIL import Image, ImageDraw  # noqa: PLC0415

        mask = Image.new("L", self._image.size, 0)
        ImageDraw.Draw(mask).polygon(corners, fill=26)
        self._image.paste(LINE, mask=mask)

    def _text(
        self,
        x: float,
        y: float,
        text: str,
        size: int,
        fill: str = INK,
        *,
        anchor: str,
        room: float = 0,
        halo: bool = False,
    ) -> None:
        font: Any = self._fonts[size]
        text = text.replace("µ", "u")  # the one letter of our figures that the font does not have
        while room and len(text) > 1 and font.getlength(text) > room * _FINE:
            text = text[:-2].rstrip() + "…"
        around = 4 * _FINE if halo else 0
        place = x * _FINE, y * _FINE
        self._draw.text(place, text, fill, font, anchor, stroke_width=around, stroke_fill=PAPER)

    def _x(self, minute: int) -> float:
        return LEFT + (WIDTH - RIGHT - LEFT) * minute / max(1, self._minutes - 1)

    def _y(self, value: float) -> float:
        share = (value - self._axis.low) / (self._axis.high - self._axis.low)
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share


def _fine(*edges: float) -> list[float]:
    return [edge * _FINE for edge in edges]


def main() -> None:
    """The PNG on standard output; nothing where there is nothing to draw."""
    os.nice(10)  # an alert's picture has time
    sys.stdout.buffer.write(chart(msgspec.json.decode(sys.stdin.buffer.read(), type=Incident)))


if __name__ == "__main__":
    main()
