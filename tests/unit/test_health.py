"""Component scores and the one word for a host."""

from __future__ import annotations

import pytest

from agent.alerting.engine import Engine
from agent.alerting.health import COMPONENTS, FRESH, HealthBook, metrics, overall
from agent.alerting.state import State
from agent.config.schema import ThresholdConfig
from agent.config.units import Quantity
from agent.model import Metric, ProbeResult
from agent.plugin import gauge
from tests.fakes.clock import ManualClock

NOW = 1_790_000_000.0


def result(*metrics: Metric, time: float = NOW) -> ProbeResult:
    return ProbeResult("some", time, "ok", 0.001, metrics)


@pytest.mark.parametrize(
    ("used", "score"), [(0, 100), (70, 100), (70.1, 75), (80, 75), (80.1, 50), (90, 50), (90.1, 10), (100, 10)]
)
def test_memory_steps(used: float, score: float) -> None:
    """Above 70, 80 and 90 percent, each bound still belonging to the better side."""
    book = HealthBook()
    book.observe(result(gauge("memory.used_percent", used, "percent")))
    assert book.health(NOW).components["memory"].score == score


def test_what_was_not_measured_is_unknown_and_never_100() -> None:
    """A host that told nothing has no score; its components are all there, as unknown."""
    health = HealthBook().health(NOW)
    assert (health.score, health.status) == (None, "UNKNOWN")
    assert set(health.components) == set(COMPONENTS)
    assert all(component.score is None and component.grade == "" for component in health.components.values())


def test_a_result_grows_stale() -> None:
    """Memory that was fine two minutes ago is not known to be fine now."""
    book = HealthBook()
    book.observe(result(gauge("memory.used_percent", 10, "percent")))
    assert book.health(NOW + FRESH).components["memory"].score == 100
    assert book.health(NOW + FRESH + 1).components["memory"].score is None


def test_a_slow_probe_is_fresh_for_three_of_its_intervals() -> None:
    """A probe that runs every hundred seconds is not unknown in between."""
    book = HealthBook()
    for at in (0, 100):
        book.observe(result(gauge("memory.used_percent", 10, "percent"), time=NOW + at))
    assert book.health(NOW + 100 + 299).components["memory"].score == 100
    assert book.health(NOW + 100 + 301).components["memory"].score is None


def test_the_fullest_mount_counts() -> None:
    """One full disk is not averaged away by empty ones."""
    book = HealthBook()
    book.observe(
        result(
            gauge("disk.used_percent", 5, "percent", mount="/"), gauge("disk.used_percent", 96, "percent", mount="/var")
        )
    )
    assert book.health(NOW).components["disk"].score == 10


def test_errors_and_drops_of_one_interface_add_up() -> None:
    """Six errors and six drops on one interface are twelve; those of two interfaces are not."""
    book = HealthBook()
    one = [gauge(f"network.{kind}_per_second", 6, "1/s", interface="eth0") for kind in ("errors", "drops")]
    book.observe(result(*one))
    assert book.health(NOW).components["network"].score == 50
    book.observe(result(one[0], gauge("network.drops_per_second", 6, "1/s", interface="eth1"), time=NOW + 10))
    assert book.health(NOW + 10).components["network"].score == 75


def test_one_busy_interval_of_the_cpu_is_no_crisis() -> None:
    """The cpu is judged by the mean of its last six results, of the whole machine alone."""
    book = HealthBook()
    for index, used in enumerate([10, 10, 10, 10, 10, 100]):
        whole = gauge("cpu.used_percent", used, "percent")
        core = gauge("cpu.used_percent", 100, "percent", core="0")
        book.observe(result(whole, core, time=NOW + 10 * index))
    assert book.health(NOW + 50).components["cpu"].score == 100


def test_a_pause_starts_the_mean_anew() -> None:
    """Results from before the host slept say nothing about it now."""
    book = HealthBook()
    book.observe(result(gauge("cpu.used_percent", 0, "percent")))
    book.observe(result(gauge("cpu.used_percent", 99, "percent"), time=NOW + 10_000))
    assert book.health(NOW + 10_000).components["cpu"].score == 10


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"memory": 100, "cpu": 100}, (100, "EXCELLENT")),
        ({"memory": 100, "cpu": 75}, (87.5, "GOOD")),
        ({"memory": 75, "cpu": 75}, (75, "WARNING")),
        ({"memory": 100, "cpu": 100, "disk": 100, "network": 100, "apis": 60}, (84, "WARNING")),
        ({"memory": 10, "cpu": 50}, (30, "CRITICAL")),
        ({"memory": 100, "cpu": None}, (100, "EXCELLENT")),
        ({"memory": None}, (None, "UNKNOWN")),
    ],
)
def test_overall(scores: dict[str, float | None], expected: tuple[float | None, str]) -> None:
    """The mean of what is known, capped by one bad component."""
    assert overall(scores, {}) == expected


def test_weights_count_and_zero_leaves_out() -> None:
    """A component of weight 0 neither counts nor caps."""
    assert overall({"memory": 100, "cpu": 70}, {"memory": 3, "cpu": 1})[0] == 92.5
    assert overall({"memory": 100, "cpu": 10}, {"cpu": 0}) == (100, "EXCELLENT")


def test_health_is_metrics_too() -> None:
    """The score and each known component, in percent; what is unknown is no data, and never 0."""
    book = HealthBook()
    assert metrics(book.health(NOW)) == []
    book.observe(result(gauge("memory.used_percent", 85, "percent"), gauge("disk.used_percent", 10, "percent")))
    assert metrics(book.health(NOW)) == [
        Metric("health.score", 75, "percent"),
        Metric("health.memory", 50, "percent"),
        Metric("health.disk", 100, "percent"),
    ]


def test_a_threshold_on_health(clock: ManualClock) -> None:
    """By figure and by grade; the incident has the grade beside its value."""
    rules = [
        ThresholdConfig("figure", "health.score", op="<", warning=Quantity(85)),
        ThresholdConfig("grade", "health.memory", op="<", warning=Quantity.parse("B+"), critical=Quantity.parse("C")),
    ]
    engine = Engine(State(None), "web-1", clock)
    engine.start(rules)
    book = HealthBook()
    found = {}
    for used in (60.0, 75.0, 95.0):
        book.observe(result(gauge("memory.used_percent", used, "percent"), time=clock.now()))
        for incident, _ in engine.observe(result(*metrics(book.health(clock.now())), time=clock.now())):
            found[incident.threshold, used] = (incident.severity, incident.value, incident.grade)
        clock.tick(10)
    assert found == {
        ("figure", 75): ("warning", 75, "B+"),
        ("grade", 75): ("warning", 75, "B+"),
        ("grade", 95): ("critical", 10, "C"),
    }
