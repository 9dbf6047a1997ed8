"""Times of the week as people write them: days "mon-fri", hours "22:00-06:00", timezone "Europe/Berlin". Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

import msgspec

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")


class Hours(msgspec.Struct, frozen=True):
    """`days` by number, Monday 0; minutes of the day from `begin` to before `end`.

    What runs over midnight belongs to the day on which it begins; equal ends mean the whole day.
    """

    days: frozenset[int]
    begin: int
    end: int
    zone: tzinfo

    @classmethod
    def parse(cls, days: str = "", hours: str = "", timezone: str = "") -> Hours:
        """Nothing said means every day, all day, UTC. ValueError tells what was expected."""
        begin, end = _minutes(hours)
        return cls(_days(days), begin, end, _zone(timezone))

    def covers(self, now: float) -> bool:
        """Whether this unix second is among them."""
        here = datetime.fromtimestamp(now, self.zone)
        minute, day = here.hour * 60 + here.minute, here.weekday()
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        if minute >= self.begin:
            return day in self.days
        return minute < self.end and (here - timedelta(days=1)).weekday() in self.days


def _days(text: str) -> frozenset[int]:
    if not text:
        return frozenset(range(7))
    found: set[int] = set()
    for part in text.lower().replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError('expected days such as "mon-fri" or "sat,sun"')
        start, end = DAYS.index(first), DAYS.index(last or first)
        found |= {day % 7 for day in range(start, end + 1 if end >= start else end + 8)}
    return frozenset(found)


def _minutes(text: str) -> tuple[int, int]:
    if not text:
        return 0, 24 * 60
    match = _HOURS.fullmatch(text.replace(" ", ""))
    begin, end = (int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])) if match else (0, 9999)
    if end > 24 * 60:
        raise ValueError('expected hours such as "09:00-18:00" or "22:00-06:00"')
    return begin, end


def _zone(name: str) -> tzinfo:
    if not name or name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - most need no other zone

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError('expected a time zone such as "Europe/Berlin"') from None
