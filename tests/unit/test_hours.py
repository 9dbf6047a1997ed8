"""Times of the week, over midnight and over the change of clocks."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from agent.config.hours import Hours


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def test_nothing_said_is_always():
    assert Hours.parse().covers(at("2026-11-26T03:00"))


@pytest.mark.parametrize(
    ("days", "hours", "moment", "covered"),
    [
        ("mon-fri", "09:00-18:00", "2026-11-26T09:00", True),  # a Thursday
        ("mon-fri", "09:00-18:00", "2026-11-26T17:59", True),
        ("mon-fri", "09:00-18:00", "2026-11-26T18:00", False),
        ("mon-fri", "09:00-18:00", "2026-11-28T12:00", False),
        ("sat,sun", "", "2026-11-28T00:00", True),
        ("fri-mon", "", "2026-11-30T12:00", True),
        ("fri-mon", "", "2026-12-01T12:00", False),
        ("fri", "22:00-06:00", "2026-11-27T23:00", True),
        ("fri", "22:00-06:00", "2026-11-28T05:59", True),  # began on Friday
        ("fri", "22:00-06:00", "2026-11-27T05:00", False),  # would have begun on Thursday
        ("", "00:00-24:00", "2026-11-27T23:59", True),
    ],
)
def test_days_and_hours(days, hours, moment, covered):
    assert Hours.parse(days, hours).covers(at(moment)) is covered


def test_in_a_zone_of_its_own_summer_and_winter():
    """Nine o'clock is nine o'clock on the wall, whatever the clocks were set to."""
    hours = Hours.parse("", "09:00-10:00", "Europe/Berlin")
    for moment in ("2026-07-01T09:30", "2026-12-01T09:30", "2026-10-25T09:30"):
        assert hours.covers(at(moment, "Europe/Berlin"))
        assert not hours.covers(at(moment, "Europe/Berlin") + 3600)
    assert datetime.fromtimestamp(at("2026-07-01T09:30", "Europe/Berlin"), UTC).hour == 7


@pytest.mark.parametrize(
    ("days", "hours", "zone", "words"),
    [
        ("someday", "", "", "mon-fri"),
        ("mon-", "", "", "mon-fri"),
        ("", "9-18", "", "09:00-18:00"),
        ("", "09:00-24:30", "", "09:00-18:00"),
        ("", "", "Mars/Olympus", "Europe/Berlin"),
        ("", "", "../etc/passwd", "Europe/Berlin"),
    ],
)
def test_what_is_none_is_told(days, hours, zone, words):
    with pytest.raises(ValueError, match=words):
        Hours.parse(days, hours, zone)
