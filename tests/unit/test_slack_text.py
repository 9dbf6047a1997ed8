"""Cutting and escaping, and the last hour as a line."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from agent.slack.sparkline import COLUMNS, span, sparkline
from agent.slack.text import code_block, escape, link, moment, plain
from tests.fakes.slack_rules import check_escaping


def test_plain_keeps_to_its_limit() -> None:
    """With an ellipsis where it cut."""
    assert plain("a" * 10, 10) == "a" * 10
    assert plain("a" * 11, 10) == "a" * 9 + "…"
    assert plain(" a\r\n\tb ", 10) == "a b"


@given(st.text(alphabet="&<>ab\n"), st.integers(2, 60))
def test_escaping_keeps_to_its_limit_and_cuts_no_entity(text: str, limit: int) -> None:
    escaped = escape(text, limit)
    check_escaping(escaped)
    assert len(escaped) <= limit
    unescaped = escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    whole = plain(text, 1000)
    assert unescaped == whole or whole.startswith(unescaped.removesuffix("…"))


@given(st.lists(st.text(alphabet="&`a \n", max_size=50), max_size=40), st.integers(60, 400))
def test_a_code_block_ends_where_it_should(lines: list[str], limit: int) -> None:
    block = code_block(lines, limit)
    assert len(block) <= limit
    assert block.count("`") in (0, 6)


def test_a_code_block_says_what_it_left_out() -> None:
    assert code_block(["one", "two"], 100) == "```\none\ntwo\n```"
    assert code_block(["line"] * 50, 60).splitlines()[-2] == "… and 43 more"
    assert code_block([], 100) == ""


def test_only_the_web_is_linked() -> None:
    assert link("https://x/?a=1&b=2", "Runbook") == "<https://x/?a=1&amp;b=2|Runbook>"
    assert link("javascript:alert(1)", "Runbook") == ""
    assert link("https://x/" + "&" * 500, "Runbook") == ""


def test_a_moment_outside_of_every_calendar_is_still_one() -> None:
    assert moment(1_790_000_000).startswith("<!date^1790000000^")
    for odd in (math.nan, math.inf, -5.0, 1e300):
        check_escaping(moment(odd))


def test_a_line_goes_from_the_lowest_to_the_highest() -> None:
    assert sparkline([float(value) for value in range(8)]) == "▁▂▃▄▅▆▇█"
    assert sparkline([3.0, 1.0, None, 2.0]) == "█▁·▅"


def test_an_hour_fits_on_a_phone() -> None:
    """Two minutes a bar; a gap shows where both are missing."""
    hour = [None if minute in (10, 11, 20) else float(minute) for minute in range(60)]
    line = sparkline(hour)
    assert len(line) == COLUMNS
    assert [index for index, bar in enumerate(line) if bar == "·"] == [5]


def test_what_does_not_move_stands_at_half_height() -> None:
    assert sparkline([5.0] * 4) == "▄▄▄▄"
    assert sparkline([5.0]) == "▄"
    assert sparkline([None, 5.0]) == "·▄"


def test_nothing_known_is_no_line() -> None:
    assert sparkline([]) == ""
    assert sparkline([None, None]) == ""
    assert sparkline([math.nan, math.inf]) == ""
    assert span([None, math.nan], "percent") == ""


def test_what_is_no_number_is_a_gap() -> None:
    assert sparkline([1.0, math.nan, 2.0, -math.inf]) == "▁·█·"


@given(st.lists(st.none() | st.floats(), max_size=200))
def test_any_history_makes_a_line_of_one_length(history: list[float | None]) -> None:
    line = sparkline(history)
    known = [value for value in history if value is not None and math.isfinite(value)]
    assert len(line) == (min(COLUMNS, len(history)) if known else 0)
    assert bool(span(history, "bytes")) == bool(known)


def test_the_range_is_in_the_unit() -> None:
    assert span([62.0, None, 85.23], "percent") == "62 % to 85.2 %"
    assert span([1024.0**3, 2.5 * 1024**3], "bytes") == "1 GiB to 2.5 GiB"
    assert span([7.0, 7.0], "percent") == "7 %"
