"""Figures as people read them: 71.2 %, 1.3 GiB, 210 ms."""

from __future__ import annotations

import math

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_COUNTED = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def figure(value: float, unit: str) -> str:
    """A value in the base unit `unit` with three significant digits and the unit that suits its size."""
    if not math.isfinite(value):
        return str(value)
    base, slash, per = unit.partition("/")
    rate = slash + per
    if base == "percent":
        return f"{_digits(value)} %{rate}"
    if base == "1":
        return _digits(value) + rate
    if base == "bytes":
        return _bytes(value) + rate
    if base == "seconds" and not rate:
        return _seconds(value)
    return f"{_digits(value)} {unit}".rstrip()


def standing(value: float | None, unit: str, op: str) -> str:
    """How an incident stands, in a list. The value of one about silence is how long that was when it was noticed."""
    if op == "absent":
        return "no data"
    return "" if value is None else figure(value, unit)


def duration(seconds: float) -> str:
    """How long something lasted, in its two largest units: "2 h 5 min"; under a second is "0 s"."""
    rest = max(0, round(seconds))
    parts: list[str] = []
    for unit, size in _COUNTED:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part) or "0 s"


def _digits(value: float) -> str:
    """Three significant digits, but never fewer than the integer part has, and no trailing zeros."""
    size = abs(value)
    places = 0 if size >= 100 else 1 if size >= 10 else 2
    if 0 < size < 0.01:
        return f"{value:.3g}"
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _bytes(value: float) -> str:
    size, index = abs(value), 0
    while size >= 1023.5 and index < len(_BINARY) - 1:
        size, index = size / 1024, index + 1
    sign = "-" if value < 0 else ""
    return f"{sign}{_digits(size)} {_BINARY[index]}"


def _seconds(value: float) -> str:
    size = abs(value)
    if size >= 120:
        return ("-" if value < 0 else "") + duration(size)
    if size >= 1 or size == 0:
        return f"{_digits(value)} s"
    if size >= 0.001:
        return f"{_digits(value * 1000)} ms"
    return f"{_digits(value * 1e6)} µs"


def counted(number: int, noun: str) -> str:
    """Such as "1 host" and "2 hosts"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
