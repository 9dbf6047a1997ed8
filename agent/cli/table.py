"""Aligned columns and readable values for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

_STEPS = ("", "Ki", "Mi", "Gi", "Ti", "Pi")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the last one is left as it is. Control characters are replaced."""
    lines = [tuple(head), *(tuple(clean(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    )


def clean(text: str) -> str:
    """What came from elsewhere must not move the cursor or colour the terminal of who reads it."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def quantity(value: float, unit: str) -> str:
    """As people read it: "71.2 %", "1.5 GiB", "12 ms", "3.2 MiB/s", "4"."""
    if unit == "percent":
        return f"{value:.1f} %"
    if unit in ("bytes", "bytes/s"):
        return _size(value) + unit.removeprefix("bytes")
    if unit == "seconds":
        return _duration(value)
    number = f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    return f"{number} {unit}".rstrip()


def _size(value: float) -> str:
    for step in _STEPS:
        if abs(value) < 1024 or step == _STEPS[-1]:
            break
        value /= 1024
    return f"{value:.0f} B" if not step else f"{value:.1f} {step}B"


def _duration(value: float) -> str:
    if abs(value) < 1e-3:
        return f"{value * 1e6:.0f} us"
    if abs(value) < 1:
        return f"{value * 1e3:.3g} ms"
    if abs(value) < 120:
        return f"{value:.3g} s"
    if abs(value) < 7200:
        return f"{value / 60:.1f} min"
    return f"{value / 3600:.1f} h" if abs(value) < 172800 else f"{value / 86400:.1f} d"
