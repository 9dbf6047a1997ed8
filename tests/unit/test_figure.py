"""Figures as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alerting.figure import duration, figure


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (71.23, "percent", "71.2 %"),
        (100.0, "percent", "100 %"),
        (0.0, "percent", "0 %"),
        (0.004, "percent", "0.004 %"),
        (1.3 * 2**30, "bytes", "1.3 GiB"),
        (1023.9, "bytes", "1 KiB"),
        (-2048, "bytes", "-2 KiB"),
        (3 * 2**20, "bytes/s", "3 MiB/s"),
        (0.21, "seconds", "210 ms"),
        (0.00021, "seconds", "210 µs"),
        (12.5, "seconds", "12.5 s"),
        (7500, "seconds", "2 h 5 min"),
        (4.0, "", "4"),
        (12.0, "1/s", "12/s"),
        (17, "connections", "17 connections"),
        (float("nan"), "bytes", "nan"),
    ],
)
def test_a_figure_has_the_unit_that_suits_its_size(value: float, unit: str, text: str) -> None:
    """Three significant digits, and a unit a person would choose."""
    assert figure(value, unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (125, "2 min 5 s"), (3600, "1 h"), (90061, "1 d 1 h"), (-5, "0 s")],
)
def test_a_duration_shows_its_two_largest_units(seconds: float, text: str) -> None:
    """Seconds do not matter after a day."""
    assert duration(seconds) == text


@given(st.floats(), st.sampled_from(["percent", "bytes", "bytes/s", "seconds", "", "1/s", "other"]))
def test_every_float_can_be_written(value: float, unit: str) -> None:
    """No value breaks a message, and none makes it long."""
    assert 0 < len(figure(value, unit)) < 340
