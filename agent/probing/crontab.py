"""Crontab lines as crontab means them. Pure.

The scheduling library counts weekdays from Monday = 0 and wants both day fields to match; crontab counts
from Sunday = 0 (and 7) and is content with either. So numbers become names, and lines that restrict both
are refused rather than read in another way than cron reads them.
"""

from __future__ import annotations

import re

FORM = 'expected "minute hour day month weekday" such as "30 3 * * 1-5" (UTC)'
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART = re.compile(r"(\*|[0-7]|[a-z]{3})(?:-([0-7]|[a-z]{3}))?(?:/([1-9]))?")


def fields(line: str) -> list[str]:
    """The five fields, weekdays by name; ValueError says what is expected."""
    parts = line.lower().split()
    if len(parts) != 5:
        raise ValueError(f"{FORM}, not {len(parts)} fields")
    parts[4] = _weekdays(parts[4])
    if not parts[2].startswith("*") and parts[4] != "*":
        raise ValueError("day of month and weekday exclude each other; set one of them to *")
    return parts


def _weekdays(field: str) -> str:
    if field in ("*", "?"):
        return "*"
    days: list[str] = []
    for part in field.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{FORM}; weekday {part[:20]!r} is not understood")
        first, last, step = match[1], match[2], int(match[3] or 1)
        if first == "*":
            begin, end = 0, 6
        else:
            begin = _number(first)
            end = _number(last) if last else 6 if match[3] else begin
        if last == "7":
            end = 7
        if end < begin:
            end += 7  # "fri-mon"
        days += [_DAYS[day % 7] for day in range(begin, end + 1, step)]
    return ",".join(dict.fromkeys(days))


def _number(day: str) -> int:
    if day.isdigit():
        return int(day) % 7
    if day not in _DAYS:
        raise ValueError(f"{FORM}; weekday {day!r} is not understood")
    return _DAYS.index(day)
