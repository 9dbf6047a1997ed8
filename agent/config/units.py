"""Values as people write them: "10s", "256MiB", "80%", "200ms".

Each type is a plain number in base units (seconds, bytes, percent 0-100) that knows how it is written.
"""

from __future__ import annotations

import math
import re
from typing import Self

_DURATIONS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_NUMBER = r"(\d+(?:\.\d+)?)"
_GRADE = re.compile(r"A\+{0,3}|B\+?|C")
_QUANTITY = re.compile(rf"(-?){_NUMBER}\s*([a-zA-Z%]*)(/(?:s|min|h|d))?")


class Duration(float):
    """Seconds. Written "500ms", "10s", "5m", "72h", "7d", "1h30m"; a bare number is refused."""

    expected = 'a duration such as "10s", "5m" or "72h"'

    @classmethod
    def parse(cls, text: object) -> Duration:
        if isinstance(text, str):
            pairs = re.findall(rf"{_NUMBER}([a-z]+)", text)
            if pairs and "".join(number + unit for number, unit in pairs) == text:
                try:
                    return cls(sum(float(number) * _DURATIONS[unit] for number, unit in pairs))
                except KeyError:
                    pass
        raise ValueError(f"expected {cls.expected}")


class Size(int):
    """Bytes. Written "4MiB", "256MiB", "1GB"; a bare number is refused."""

    expected = 'a size such as "4MiB" or "1GB"'

    @classmethod
    def parse(cls, text: object) -> Size:
        if isinstance(text, str) and (match := re.fullmatch(rf"{_NUMBER}\s*([a-zA-Z]+)", text)):
            factor = _SIZES.get(match[2])
            if factor is not None:
                return cls(float(match[1]) * factor)
        raise ValueError(f"expected {cls.expected}")


class Percent(float):
    """0-100. Written "5%"."""

    expected = 'a percentage such as "5%"'

    @classmethod
    def parse(cls, text: object) -> Percent:
        if isinstance(text, str) and (match := re.fullmatch(rf"{_NUMBER}\s*%", text)) and float(match[1]) <= 100:
            return cls(match[1])
        raise ValueError(f"expected {cls.expected}")


class Quantity(float):
    """A bound in the base unit of its metric: "200ms" is 0.2 seconds, "80%" is 80, "1GiB/s" bytes/s, 4 is 4.

    "1GiB/h" is 2**30 bytes/h: what is written per min, h or d stays so, as a rule that judges change says it so.

    `unit` is the base unit that the writing implies ("" where it was a bare number), so that a bound in
    milliseconds on a metric in bytes can be refused. A grade ("B", "A+") is not a number until its scale is known.
    """

    expected = 'a number, or a quantity such as "80%", "200ms" or "1GiB"'
    unit: str
    grade: str

    def __new__(cls, value: float, unit: str = "", grade: str = "") -> Self:
        self = super().__new__(cls, value)
        self.unit, self.grade = unit, grade
        return self

    @classmethod
    def parse(cls, text: object) -> Quantity:
        if isinstance(text, int | float) and not isinstance(text, bool):
            return cls(text)
        if isinstance(text, str) and _GRADE.fullmatch(text):
            return cls(math.nan, grade=text)
        if isinstance(text, str) and (match := _QUANTITY.fullmatch(text)):
            sign = -1.0 if match[1] else 1.0
            number, suffix, rate = sign * float(match[2]), match[3], match[4] or ""
            if not suffix:
                return cls(number, "1" + rate if rate else "")
            if suffix == "%":
                return cls(number, "percent" + rate)
            if suffix in _DURATIONS:
                return cls(number * _DURATIONS[suffix], "seconds" + rate)
            if suffix in _SIZES:
                return cls(number * _SIZES[suffix], "bytes" + rate)
        raise ValueError(f"expected {cls.expected}")
