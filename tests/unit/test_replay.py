"""What rules would have done: time, cost and causes, without a collector."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent.alerting.replay import Recorded, Replayed, Verdict, judge, replay
from agent.cli.recording import LEAST, PAGE, Recording
from agent.config.schema import ThresholdConfig
from agent.errors import UsageError
from agent.model import Metric, TransitionKind
from tests.unit.test_engine import disk, kinds, rule

WEEK = 7 * 86400


class Api:
    """A collector with one series: `times`, and a value that is the time. It thins to `most` points in an answer."""

    def __init__(self, times: list[float], most: int = 5000) -> None:
        self.times, self.most, self.asked = times, most, 0

    def get(self, path: str, **query: str) -> dict[str, object]:
        assert path == "series"
        self.asked += 1
        within = [at for at in self.times if float(query["from"]) <= at < float(query["to"])]
        width = (float(query["to"]) - float(query["from"])) / self.most
        points = {at // width: at for at in reversed(within)}
        row = {
            "metric": query["metric"],
            "unit": "",
            "kind": "gauge",
            "labels": {},
            "points": [[at, at] for at in sorted(points.values())],
            "thinned": len(points) < len(within),
        }
        return {"series": [row] if within else []}


def recording(api: Api) -> Recording:
    return Recording(api, "web-1", ["m"], 10.0)  # type: ignore[arg-type]


def told(thresholds: list[ThresholdConfig], *values: float, every: float = 10.0, until: float = 0.0) -> Replayed:
    results = [Recorded(1000.0 + every * n, every, [disk(value)]) for n, value in enumerate(values)]
    return replay(thresholds, (), "web-1", results, until=until or results[-1].at)


def test_every_sample_comes_once_however_close_they_are() -> None:
    """Pages grow shorter until nothing is thinned; a mean would never have been judged by the live engine."""
    times = [1000.0 + n / 8 for n in range(8 * 7000)]
    api = Api(times, most=1000)
    found = list(recording(api).results(1000.0, 8000.0, lambda _: None))
    assert [one.at for one in found] == times
    assert [one.metrics[0].value for one in found] == times


def test_two_samples_at_one_moment_end_the_search() -> None:
    api = Api([1000.0, 1000.0])
    assert len(list(recording(api).results(1000.0, 1000.0 + PAGE, lambda _: None))) == 1
    assert api.asked < 2 * PAGE / LEAST


def test_how_often_a_metric_comes_is_seen_from_its_samples() -> None:
    """So that a probe every five minutes is not taken for one that is silent; an outage changes nothing."""
    times = [1000.0 + 300 * n for n in range(40) if not 20 <= n < 30]
    found = list(recording(Api(times)).results(1000.0, 14_000.0, lambda _: None))
    assert {one.interval for one in found} == {300.0}


def test_what_was_found_and_how_far_it_is() -> None:
    made, at = recording(Api([])), list[float]()
    assert not list(made.results(0.0, 2 * PAGE, at.append))
    assert (at, made.found) == ([0.0, PAGE], set())


def test_a_slow_probe_has_its_breach_last() -> None:
    pairs, _ = told([rule(warning="80%", hold=600)], 10, 85, 85, 85, 85, every=300.0)
    assert [transition.time for _, transition in pairs] == [1900.0]


def test_absence_is_noticed_in_the_second_it_is_in_the_daemon() -> None:
    pairs, _ = told([rule(warning="80%", absent_for=60)], 10, 10, until=2000.0)
    assert [(str(t.kind), t.time) for _, t in pairs] == [("opened", 1071.0)]


def test_a_week_is_not_ticked_through_second_by_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where something can happen."""
    ticks = 0

    def count(_: object) -> list[object]:
        nonlocal ticks
        ticks += 1
        return []

    monkeypatch.setattr("agent.alerting.engine.Engine.tick", count)
    results: Iterator[Recorded] = (Recorded(1000.0 + at, 600.0, [disk(10)]) for at in range(0, WEEK, 600))
    replay([rule(warning="80%", absent_for=900)], (), "web-1", results, until=1000.0 + WEEK)
    assert ticks <= WEEK / 600


def test_messages_are_those_of_the_outbox() -> None:
    """A post, a reply for each rise and for the end; each change after the first is an edit."""
    pairs, _ = told([rule(warning="80%", critical="90%")], 85, 95, 85, 10)
    assert kinds(pairs) == ["opened", "escalated", "deescalated", "resolved"]
    [verdict] = judge(pairs, ["Disk"])
    assert (verdict.messages, verdict.edits, verdict.peak) == (3, 3, "critical")


def test_what_is_muted_costs_nothing_but_is_an_incident() -> None:
    causes = [rule("host", warning="80%"), rule("Disk", warning="80%", depends_on=("host",))]
    pairs, _ = told(causes, 85, 10)
    verdicts = {verdict.rule: verdict for verdict in judge(pairs, ["host", "Disk"])}
    assert len(verdicts["Disk"].incidents) == 1
    assert verdicts["Disk"].messages < verdicts["host"].messages


def test_only_the_rules_asked_for_are_told() -> None:
    pairs, _ = told([rule("a", warning="80%"), rule("b", warning="80%")], 85)
    assert [verdict.rule for verdict in judge(pairs, ["b", "c"])] == ["b", "c"]


def test_a_rule_that_cannot_be_judged_is_a_fault() -> None:
    _, faults = told([rule(warning="80B")], 85)
    assert faults == ["thresholds.Disk: its bounds are in bytes, but disk.used_percent is in percent"]


def test_flapping_is_counted_once_each_time_it_begins() -> None:
    pairs, _ = told([rule(warning="80%")], *[85 if n % 2 else 10 for n in range(12)])
    [verdict] = judge(pairs, ["Disk"])
    assert verdict.flapped == sum(t.kind is TransitionKind.FLAPPING for _, t in pairs) == 1


def test_no_sample_is_no_verdict() -> None:
    assert replay([rule(warning="80%")], (), "web-1", [], until=1.0) == ([], [])
    assert judge([], ["Disk"]) == [Verdict("Disk")]


def test_causes_are_replayed_with_the_rule_asked_for() -> None:
    """Else what they mute would be told; the rule that is off stays off."""
    from agent.cli.thresholds import _chosen, _with_causes  # noqa: PLC0415
    from agent.config.schema import Config  # noqa: PLC0415

    rules = (
        rule("a", warning=1, depends_on=("b",)),
        rule("b", warning=1, depends_on=("c", "a")),
        rule("c", warning=1, enabled=False),
        rule("d", warning=1),
    )
    config = Config(thresholds=rules)
    assert [one.name for one in _with_causes(config, ["a"])] == ["a", "b"]
    assert [one.name for one in _chosen(config, ["a"])] == ["a"]
    with pytest.raises(UsageError, match="'c'"):
        _chosen(config, ["c"])


def test_nothing_of_the_replayed_is_in_the_metrics_left_out() -> None:
    """Metrics that no rule names are passed over."""
    results = [Recorded(1000.0, 10.0, [Metric("other", 1.0), disk(85)])]
    assert len(replay([rule(warning="80%")], (), "web-1", results, until=1000.0).pairs) == 1
