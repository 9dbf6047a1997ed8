"""The paper that charts are drawn on: axes, lines with gaps, a legend; as a PNG that can be read on a phone.

Of the drawing processes alone: the library and its pictures must not stay in the memory of whoever wants a chart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from agent.alerting.figure import figure
from agent.slack.scale import Scale
from agent.slack.text import sane

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw as Pen

WIDTH, HEIGHT = 800, 440
LEFT, TOP, RIGHT, BOTTOM = 126, 108, 26, 58
ROW = 34
"""Each row of the legend makes the picture this much higher."""
_SHORT = 16
"""Characters of names of which two fit beside each other."""
LARGE, SMALL = 28, 24
_FINE = 2
"""Drawn this much larger and made smaller at the end, which smooths every line."""
INK, MUTED, GRID, PAPER = "#1d1c1d", "#616061", "#e6e4df", "#ffffff"
LINE, LIMIT = "#1264a3", "#c01343"

Point = tuple[float, float]
"""Unix seconds, and the value."""


class Key(NamedTuple):
    """What the legend says of one line."""

    tone: str
    name: str
    value: str


def known(value: float | None) -> TypeGuard[float]:
    """A number that an axis can hold."""
    return value is not None and math.isfinite(value) and abs(value) < 1e300


class Sheet:
    """Coordinates are unix seconds from `start` to `end`, and values; all drawing is in pixels of the finer picture."""

    def __init__(self, start: float, end: float, axis: Scale, keys: Sequence[Key] = ()) -> None:
        from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415 - of these processes alone, and of no other import

        self._columns = 2 if all(len(key.name) <= _SHORT for key in keys) else 1
        self._height = HEIGHT + -(-len(keys) // self._columns) * ROW
        self._image = Image.new("RGB", (WIDTH * _FINE, self._height * _FINE), PAPER)
        self._draw: Pen = ImageDraw.Draw(self._image)
        self._fonts = {size: ImageFont.load_default(size=size * _FINE) for size in (SMALL, LARGE)}
        self._start, self._end = start, end
        self._axis = axis
        self._legend(keys)

    def png(self) -> bytes:
        import io  # noqa: PLC0415

        from PIL import Image  # noqa: PLC0415

        small = self._image.resize((WIDTH, self._height), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        small.quantize(128).save(file, "PNG", optimize=True)
        return file.getvalue()

    def head(self, title: str, metric: str, value: str, tone: str) -> None:
        self._draw.rectangle(_fine(0, 0, 8, self._height), tone)
        self._text(26, 32, title, LARGE, anchor="lm", room=WIDTH - 26 - RIGHT)
        self._text(26, 70, metric, SMALL, MUTED, anchor="lm", room=WIDTH - 226 - RIGHT)
        self._text(WIDTH - RIGHT, 70, value, LARGE, anchor="rm", room=180)

    def axes(self, unit: str, marks: Sequence[float], form: str = "%H:%M") -> None:
        """`marks`: unix seconds; one at the right end says its zone too."""
        for value in self._axis.ticks:
            y = self._y(value)
            self._draw.line(_fine(LEFT, y, WIDTH - RIGHT, y), GRID, width=2)
            self._text(LEFT - 12, y, figure(value, unit), SMALL, MUTED, anchor="rm", room=LEFT - 22)
        for moment in marks:
            x, last = self._x(moment), moment >= self._end
            self._draw.line(_fine(x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 6), MUTED, width=2)
            text = time.strftime(f"{form} UTC" if last else form, time.gmtime(sane(moment)))
            place = (WIDTH - RIGHT, "rm") if last else (x, "mm")
            self._text(place[0], HEIGHT - BOTTOM + 28, text, SMALL, MUTED, anchor=place[1])

    def line(self, points: Sequence[Point], apart: float, tone: str = LINE, *, shaded: bool = True) -> None:
        """Broken where two are further `apart`; what stands alone is a dot."""
        part: list[Point] = []
        before = -math.inf
        for moment, value in points:
            if moment - before > apart:
                self._stroke(part, tone, shaded=shaded)
                part = []
            part.append((self._x(moment), self._y(value)))
            before = moment
        self._stroke(part, tone, shaded=shaded)

    def limit(self, value: float, text: str) -> None:
        y = self._y(value)
        for x in range(LEFT, WIDTH - RIGHT, 16):
            self._draw.line(_fine(x, y, min(x + 9, WIDTH - RIGHT), y), LIMIT, width=2 * _FINE)
        above = y - 18 > TOP
        self._text(LEFT + 8, y - 17 if above else y + 18, text, SMALL, LIMIT, anchor="lm", halo=True)

    def dot(self, moment: float, value: float, tone: str) -> None:
        """Where it stands."""
        x, y = self._x(moment), self._y(value)
        self._draw.ellipse(_fine(x - 8, y - 8, x + 8, y + 8), tone, PAPER, 2 * _FINE)

    def _legend(self, keys: Sequence[Key]) -> None:
        """Below the axis, each name beside its value."""
        column = (WIDTH - RIGHT - 26) / self._columns
        for index, key in enumerate(keys):
            row, place = divmod(index, self._columns)
            x, y = 26 + place * column, HEIGHT + row * ROW + 6
            self._draw.rectangle(_fine(x, y - 5, x + 26, y + 5), key.tone)
            self._text(x + 36, y, self._fitting(key.name, column - 170), SMALL, anchor="lm")
            self._text(x + column - 12, y, key.value, SMALL, MUTED, anchor="rm", room=112)

    def _fitting(self, name: str, room: float) -> str:
        """Cut in its middle, as long names of one kind differ at their ends."""
        font: Any = self._fonts[SMALL]
        kept = name
        while len(kept) > 3 and font.getlength(kept) > room * _FINE:
            half = (len(kept) - 2) // 2
            kept = f"{name[:half]}…{name[-half:]}"
        return kept

    def _stroke(self, part: list[Point], tone: str, *, shaded: bool) -> None:
        if not part:
            return
        bottom = HEIGHT - BOTTOM
        if len(part) == 1:
            x, y = part[0]
            self._draw.ellipse(_fine(x - 3, y - 3, x + 3, y + 3), tone)
            return
        if shaded:
            under = [(part[0][0], bottom), *part, (part[-1][0], bottom)]
            self._shade([(x * _FINE, y * _FINE) for x, y in under], tone)
        self._draw.line([(x * _FINE, y * _FINE) for x, y in part], tone, width=4 * _FINE, joint="curve")

    def _shade(self, corners: list[Point], tone: str) -> None:
        from PIL import Image, ImageDraw  # noqa: PLC0415

        mask = Image.new("L", self._image.size, 0)
        ImageDraw.Draw(mask).polygon(corners, fill=26)
        self._image.paste(tone, mask=mask)

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

    def _x(self, moment: float) -> float:
        return LEFT + (WIDTH - RIGHT - LEFT) * (moment - self._start) / ((self._end - self._start) or 1.0)

    def _y(self, value: float) -> float:
        share = (value - self._axis.low) / (self._axis.high - self._axis.low)
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share


def _fine(*edges: float) -> list[float]:
    return [edge * _FINE for edge in edges]
