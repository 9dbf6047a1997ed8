"""What was seen before a crossing, and what took most at that moment."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.schema import ThresholdConfig
from agent.config.units import Quantity
from agent.daemon import witness as module
from agent.daemon.hour import MINUTES, Hour
from agent.daemon.suspects import table
from agent.daemon.witness import Witness
from agent.model import Labels, Metric, ProbeResult
from agent.plugin import gauge
from tests.fakes.clock import ManualClock

RULES = [
    ThresholdConfig(name=name, metric=metric, warning=Quantity(80))
    for name, metric in (("cpu", "cpu.used_percent"), ("disk", "disk.used_percent"))
]


def result(clock: ManualClock, probe: str, *metrics: Metric) -> ProbeResult:
    return ProbeResult(probe, clock.now(), "ok", 0.0, metrics)


@pytest.fixture
def witness(clock: ManualClock) -> Witness:
    return Witness(clock, RULES)


def see(witness: Witness, clock: ManualClock, value: float, **labels: str) -> None:
    witness.observe(result(clock, "cpu", gauge("cpu.used_percent", value, "percent", **labels)))


def test_an_hour_is_one_mean_a_minute(witness: Witness, clock: ManualClock) -> None:
    """The minute under way stands at the end; what lies before the first result is nothing."""
    for value in (10.0, 20.0, 60.0):
        see(witness, clock, value)
        clock.tick(20)
    see(witness, clock, 50.0)
    history = witness.history("cpu.used_percent", {})
    assert len(history) == MINUTES
    assert history[-2:] == (30.0, 50.0)
    assert set(history[:-2]) == {None}


def test_silence_is_a_gap_and_what_is_old_is_gone(witness: Witness, clock: ManualClock) -> None:
    see(witness, clock, 1.0)
    clock.tick(180)
    see(witness, clock, 2.0)
    assert witness.history("cpu.used_percent", {})[-4:] == (1.0, None, None, 2.0)
    clock.tick(58 * 60)
    assert [value for value in witness.history("cpu.used_percent", {}) if value is not None] == [2.0]
    clock.tick(120)
    assert set(witness.history("cpu.used_percent", {})) == {None}


def test_only_what_a_rule_names_is_kept(witness: Witness, clock: ManualClock) -> None:
    witness.observe(result(clock, "cpu", gauge("cpu.user_percent", 5.0)))
    assert witness.history("cpu.user_percent", {}) == ()
    see(witness, clock, 5.0)
    assert witness.probe("cpu.used_percent", {}) == "cpu"
    witness.reload(RULES[1:])
    assert witness.history("cpu.used_percent", {}) == ()


def test_labels_tell_series_apart_in_any_order(witness: Witness, clock: ManualClock) -> None:
    see(witness, clock, 1.0, core="0", node="a")
    see(witness, clock, 2.0, core="1", node="a")
    assert witness.history("cpu.used_percent", {"node": "a", "core": "1"})[-1] == 2.0


def test_what_is_no_number_is_a_gap(witness: Witness, clock: ManualClock) -> None:
    for value in (math.nan, math.inf, 1e300):
        see(witness, clock, value)
        assert witness.history("cpu.used_percent", {})[-1] is None
        clock.tick(60)


def test_memory_is_bounded(witness: Witness, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a series has no history, until others have been silent for an hour."""
    monkeypatch.setattr(module, "MAX_SERIES", 2)
    for core in "abc":
        see(witness, clock, 1.0, core=core)
    assert witness.history("cpu.used_percent", {"core": "c"}) == ()
    clock.tick(3600)
    see(witness, clock, 1.0, core="c")
    assert witness.history("cpu.used_percent", {"core": "c"})[-1] == 1.0
    assert witness.history("cpu.used_percent", {"core": "a"}) == ()


@given(st.lists(st.tuples(st.integers(0, 90), st.floats(0, 100)), max_size=30))
def test_an_hour_agrees_with_a_plain_list(steps: list[tuple[int, float]]) -> None:
    """Whatever the gaps, each minute holds the mean of its own values."""
    minute, hour, minutes = 0, None, dict[int, list[float]]()
    for gap, value in steps:
        minute += gap
        hour = hour or Hour("cpu", minute)
        hour.add(value, minute)
        minutes.setdefault(minute, []).append(value)
    if hour is not None:
        expected = [minutes.get(each) for each in range(minute - MINUTES + 1, minute + 1)]
        for mean, values in zip(hour.history(minute), expected, strict=True):
            assert (mean is None) == (values is None)
            assert values is None or mean == pytest.approx(sum(values) / len(values), rel=1e-5, abs=1e-30)


def busy(witness: Witness, clock: ManualClock) -> None:
    programs = (("mysqld", 41.5, 5e9), ("php", 12.0, 2e9), ("idle", 0.0, 1e6))
    top = [gauge("processes.cpu_percent", share, "percent", name=name) for name, share, _ in programs]
    witness.observe(
        result(
            clock,
            "processes",
            *top,
            *(gauge("processes.rss_bytes", size, "bytes", name=name) for name, _, size in programs),
        )
    )
    rates = (("eth0", 3e6, 1e6), ("wg0", 1e3, 2e3))
    directions = (("receive", 1), ("transmit", 2))
    witness.observe(
        result(
            clock,
            "network",
            *(
                gauge(f"network.{direction}_bytes_per_second", row[column], "bytes/s", interface=row[0])  # type: ignore[arg-type]
                for row in rates
                for direction, column in directions
            ),
        )
    )
    witness.observe(result(clock, "diskio", gauge("diskio.busy_percent", 97.0, "percent", device="sda")))


@pytest.mark.parametrize(
    ("metric", "labels", "titles"),
    [
        ("cpu.used_percent", {}, ["Top processes by CPU"]),
        ("load.per_core_5m", {}, ["Top processes by CPU"]),
        ("memory.used_percent", {}, ["Top processes by memory"]),
        ("memory.swap_used_percent", {}, ["Top processes by memory"]),
        ("pressure.full_percent", {"resource": "memory"}, ["Top processes by memory"]),
        ("pressure.some_percent", {"resource": "cpu"}, ["Top processes by CPU"]),
        ("pressure.full_percent", {"resource": "io"}, ["Busiest disks"]),
        ("network.errors_per_second", {"interface": "eth0"}, ["Busiest interfaces"]),
        ("diskio.busy_percent", {"device": "sda"}, ["Busiest disks", "Top processes by CPU"]),
        ("backup.age_seconds", {}, []),
    ],
)
def test_each_kind_of_crossing_has_its_suspects(
    witness: Witness, clock: ManualClock, metric: str, labels: Labels, titles: list[str]
) -> None:
    assert witness.evidence(metric, labels) == ()
    busy(witness, clock)
    assert [evidence.title for evidence in witness.evidence(metric, labels)] == titles


def test_the_largest_come_first_in_human_units(witness: Witness, clock: ManualClock) -> None:
    """Both directions of an interface are one; what took nothing is no suspect."""
    busy(witness, clock)
    assert witness.evidence("cpu.used_percent", {})[0].lines == ("mysqld  41.5 %", "php       12 %")
    assert witness.evidence("memory.used_percent", {})[0].lines[0] == "mysqld  4.66 GiB"
    assert witness.evidence("network.errors_per_second", {})[0].lines[0] == "eth0  3.81 MiB/s"


def test_an_old_result_accuses_nobody(witness: Witness, clock: ManualClock) -> None:
    busy(witness, clock)
    clock.tick(200)
    assert witness.evidence("cpu.used_percent", {}) == ()


def test_a_long_name_is_cut_in_its_middle() -> None:
    (line,) = table([("/srv/" + "x" * 100 + "/end", "1 GiB")])
    assert line.startswith("/srv/xx")
    assert line.endswith("/end  1 GiB")
    assert "…" in line
