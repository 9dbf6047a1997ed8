"""The hour before an incident as a picture."""

from __future__ import annotations

import io
import math
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from PIL import Image

from agent.slack import picture
from agent.slack.blocks import COLOURS
from agent.slack.chart import chart
from agent.slack.facts import trend
from agent.slack.samples import samples
from agent.slack.scale import scale
from agent.slack.sheet import BOTTOM, HEIGHT, LEFT, LIMIT, LINE, RIGHT, TOP, WIDTH

DISK = samples(1_790_000_000.0)[0].incident
UNITS = ("percent", "bytes", "bytes/s", "seconds", "", "1/s")


def pixels(png: bytes) -> Any:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    assert image.size == (WIDTH, HEIGHT)
    return image.convert("RGB")


def near(image: Any, colour: str, box: tuple[float, float, float, float]) -> int:
    """How many pixels of about this colour a part of the picture has."""
    wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    part = image.crop([round(edge) for edge in box])
    found = part.getdata() if not hasattr(part, "get_flattened_data") else part.get_flattened_data()
    return sum(all(abs(one - other) < 40 for one, other in zip(pixel, wanted, strict=True)) for pixel in found)


def test_a_line_its_limit_and_where_it_stands() -> None:
    """The line rises from left to right, the limit is dashed across, the end is marked in the severity's colour."""
    image = pixels(chart(DISK))
    plot = (WIDTH - LEFT - RIGHT) / 10
    assert near(image, LINE, (LEFT, (TOP + HEIGHT - BOTTOM) / 2, LEFT + plot, HEIGHT - BOTTOM)) > 50
    assert near(image, LINE, (LEFT, TOP, LEFT + plot, TOP + 80)) == 0
    assert near(image, LIMIT, (LEFT, TOP, WIDTH, HEIGHT)) > 300
    assert near(image, COLOURS[DISK.severity], (WIDTH - RIGHT - 10, TOP, WIDTH, HEIGHT)) > 80
    assert near(image, COLOURS[DISK.severity], (0, 0, 8, HEIGHT)) > 2000


def test_the_hour_of_what_changes_too_fast_is_in_its_own_unit() -> None:
    """The limit is one of the change, and so is not drawn beside the values; nor is the change one of them."""
    gib = 2.0**30
    growing = tuple(minute * gib for minute in range(60))
    fast = replace(DISK, unit="bytes/h", value=90 * gib, limit=gib, history=growing, history_unit="bytes")
    assert trend(fast) == "0 B to 59 GiB"
    assert near(pixels(chart(fast)), LIMIT, (LEFT, TOP, WIDTH, HEIGHT)) == 0
    assert chart(fast) == chart(replace(fast, value=1.0))


def test_a_gap_is_one() -> None:
    image = pixels(chart(replace(DISK, history=tuple(None if 20 <= m < 40 else 80.0 for m in range(60)))))
    minute = (WIDTH - LEFT - RIGHT) / 59
    assert near(image, LINE, (LEFT + 21 * minute, TOP, LEFT + 38 * minute, HEIGHT - BOTTOM)) == 0
    assert near(image, LINE, (LEFT + 2 * minute, TOP, LEFT + 18 * minute, HEIGHT - BOTTOM)) > 100


@pytest.mark.parametrize("history", [(), (None,) * 60, (None, 5.0), (math.nan, math.inf, 1.0), (1e301, 1e301)])
def test_nothing_to_draw_is_no_picture(history: tuple[float | None, ...]) -> None:
    assert chart(replace(DISK, history=history)) == b""


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.none() | st.floats(), max_size=65).map(tuple),
    st.none() | st.floats(),
    st.sampled_from([">", "<", "absent", "x"]),
    st.sampled_from(UNITS),
    st.text(max_size=40),
)
def test_whatever_a_host_sends_is_drawn_or_not_but_breaks_nothing(
    history: tuple[float | None, ...], value: float | None, op: str, unit: str, text: str
) -> None:
    changes: dict[str, Any] = {"value": value, "limit": value, "op": op, "unit": unit, "threshold": text}
    png = chart(replace(DISK, history=history, labels={text: text}, fired_at=value or 0.0, **changes))
    assert png == b"" or pixels(png)


limited = st.floats(-1e299, 1e299, allow_subnormal=False)


@given(limited, limited, st.sampled_from(UNITS))
@example(1e16, 1e16 + 2, "")
@example(-9.999999999999448e298, -9.999999999999447e298, "")
def test_a_scale_holds_its_values_with_a_few_round_marks(one: float, other: float, unit: str) -> None:
    low, high = min(one, other), max(one, other)
    axis = scale(low, high, unit)
    assert axis.low <= low
    assert axis.high >= high
    assert axis.low < axis.high
    assert 2 <= len(axis.ticks) <= 8
    assert list(axis.ticks) == sorted(set(axis.ticks))


def test_a_scale_speaks_the_unit() -> None:
    """A share of the whole ends at the whole; bytes have round numbers of their own."""
    assert scale(71, 99, "percent").ticks == (60, 70, 80, 90, 100)
    assert scale(0, 40 * 1024**3, "bytes").ticks == tuple(step * 16 * 1024**3 for step in range(4))
    assert scale(5, 5, "").low < 5 < scale(5, 5, "").high


async def test_it_is_drawn_in_a_process_of_its_own() -> None:
    """The same picture, and the library is not in ours for it."""
    assert await picture.draw(DISK) == chart(DISK)


async def test_a_drawing_that_fails_is_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And no picture; an alert has other worries."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert await picture.draw(DISK) == b""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert await picture.draw(DISK) == b""
    assert [record.message for record in caplog.records] == ["no picture was drawn"] * 2


async def test_a_drawing_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(slow))
    monkeypatch.setattr(picture, "DEADLINE", 0.1)
    assert await picture.draw(DISK) == b""
