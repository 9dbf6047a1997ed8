"""`tocsin thresholds test`: what it asks the collector for, and what it says of the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.alerting.engine import Engine
from agent.alerting.replay import Recorded, Replay
from agent.cli import main, samples
from agent.cli.api import Api
from agent.config.schema import SlackConfig, SlackRoute
from agent.config.units import Duration
from agent.errors import EXIT_OK, EXIT_USAGE
from tests.unit.test_engine import rule

NOW = 1_790_000_000.0


class Collector:
    """Answers as the API does: of a long span one point per 1/5000 of it, the mean."""

    def __init__(self, values: dict[float, float]) -> None:
        self.values = values
        self.asked: list[float] = []

    def get(self, path: str, **query: str) -> dict[str, Any]:
        if path == "hosts":
            return {"hosts": [{"host": "web-1"}]}
        assert (path, query["step"]) == ("series", "0")
        start, end = float(query["from"]), float(query["to"])
        self.asked.append(end - start)
        width = (end - start) / 5000
        bins: dict[int, list[tuple[float, float]]] = {}
        for time, value in sorted(self.values.items()):
            if start <= time < end:
                bins.setdefault(int(time / width), []).append((time, value))
        points = [[found[0][0], sum(value for _, value in found) / len(found)] for found in bins.values()]
        series = {"metric": query["metric"], "unit": "percent", "kind": "gauge", "labels": {"mount": "/"}}
        thinned = any(len(found) > 1 for found in bins.values())
        return {"series": [series | {"points": points, "thinned": thinned}] if points else []}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Collector:
    """An hour in which a disk is too full for ten minutes, and again until now."""
    hot = range(600, 1200), range(3300, 3600)
    values = {NOW - 3600 + at: 85.0 if any(at in span for span in hot) else 50.0 for at in range(0, 3600, 10)}
    found = Collector(values)
    monkeypatch.setattr(Api, "of", lambda arguments: found)
    monkeypatch.setattr("time.time", lambda: NOW)
    return found


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(
        '[[thresholds]]\nname = "disk"\nmetric = "disk.used_percent"\nwarning = "80%"\n'
        '[[thresholds]]\nname = "high"\nmetric = "disk.used_percent"\nwarning = "90%"\n'
    )
    return path


def test_it_says_when_a_rule_would_have_fired_and_what_it_had_cost(
    collector: Collector, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two firings: one is over (a message, and a word in its thread), one is open (a message)."""
    assert main(["thresholds", "test", "--last", "1h", "-c", str(config)]) == EXIT_OK
    sums, firings = capsys.readouterr().out.split("\n\n")[:2]
    assert [line.split() for line in sums.splitlines()] == [
        ["THRESHOLD", "HOST", "FIRED", "FLAPPED", "MESSAGES", "EDITS", "OPEN", "FOR", "WORST"],
        ["disk", "web-1", "2", "0", "3", "1", "15", "min", "warning"],
        ["high", "web-1", "0", "0", "0", "0", "-", "-"],
    ]
    over, still_open = firings.splitlines()[1:]
    assert "10 min  " in over
    assert "5 min, open" in still_open
    assert over.split()[-2:] == ["2", "mount=/"]


def test_before_the_first_sample_nothing_was_missed(
    collector: Collector, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Samples are kept for three days; a week is asked for."""
    config.write_text('[[thresholds]]\nname = "gone"\nmetric = "disk.used_percent"\nabsent_for = "1m"\n')
    assert main(["thresholds", "test", "--last", "7d", "-c", str(config)]) == EXIT_OK
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["gone", "web-1", "0"]


def test_what_never_came_is_missed(collector: Collector, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collector.values = {}
    config.write_text('[[thresholds]]\nname = "gone"\nmetric = "disk.used_percent"\nabsent_for = "1m"\n')
    assert main(["thresholds", "test", "--last", "1h", "-c", str(config)]) == EXIT_OK
    sums, firings = capsys.readouterr().out.split("\n\n")[:2]
    assert sums.splitlines()[1].split()[:3] == ["gone", "web-1", "1"]
    assert "  no data  " in firings


def test_one_rule_as_json(collector: Collector, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["thresholds", "test", "disk", "--last", "1h", "--json", "-c", str(config)]) == EXIT_OK
    [host] = json.loads(capsys.readouterr().out)["hosts"]
    assert (host["host"], host["samples"], host["faults"]) == ("web-1", 360, [])
    assert [(one["seconds"], one["messages"], one["incident"]["state"]) for one in host["firings"]] == [
        (600, 2, "resolved"),
        (300, 1, "open"),
    ]


@pytest.mark.parametrize("words", [["nobody"], ["--last", "soon"]])
def test_what_is_not_there_is_wrong_usage(
    collector: Collector, config: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["thresholds", "test", *words, "-c", str(config)]) == EXIT_USAGE
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("every", [0.01, 0.5, 10, 300])
def test_no_two_samples_become_one(every: float) -> None:
    """However dense, each comes back as it was measured: pages are as short as that takes."""
    span = min(7200.0, every * 3000)
    values = {round(NOW + index * every, 3): float(index) for index in range(int(span / every))}
    collector: Any = Collector(values)
    found: dict[float, float] = {}
    for _, page in samples.pages(collector, "web-1", ["disk.used_percent"], NOW, NOW + span):
        for series in page:
            found |= dict(series.points)
    assert found == values


def test_reminders_and_escalation_are_counted() -> None:
    """As nobody acknowledges: others are called after half an hour, and there are reminders 2 and 4 hours later."""
    route = SlackRoute(escalate_after=Duration(1800), escalate_to="<@U1>", remind_every=Duration(3600))
    slack = SlackConfig(routes=(route,))
    replay = Replay("web-1", [rule(warning="80%")], NOW, slack=slack)
    points = [(NOW + at, 85.0) for at in range(60, 8 * 3600, 60)]
    replay.feed([Recorded("disk.used_percent", "percent", "gauge", {}, points)], NOW + 8 * 3600)
    replay.end(NOW + 8 * 3600)
    [firing] = replay.firings.values()
    assert (firing.messages, firing.incident.state) == (1 + 1 + 2, "open")


def test_a_rule_asked_for_alone_is_held_back_as_ever(
    collector: Collector, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its causes are played too, and not told: else it would cost what it never costs."""
    held = '[[thresholds]]\nname = "held"\nmetric = "disk.used_percent"\nwarning = "80%"\ndepends_on = ["disk"]\n'
    config.write_text(config.read_text() + held)
    for words, told in ((["held"], {"held"}), ([], {"held", "disk"})):
        assert main(["thresholds", "test", *words, "--last", "1h", "--json", "-c", str(config)]) == EXIT_OK
        [host] = json.loads(capsys.readouterr().out)["hosts"]
        assert {one["incident"]["threshold"] for one in host["firings"]} == told
        costs = [one["messages"] for one in host["firings"] if one["incident"]["threshold"] == "held"]
        assert costs == [0, 0]


def test_a_slow_probe_is_not_taken_for_silent() -> None:
    """One result a page, and more: how often it comes is known from all pages, so its breach lasts."""
    for every in (300, 3600):
        replay = Replay("web-1", [rule(warning="80%", hold=2 * every)], NOW)
        for at, value in enumerate((50.0, 85.0, 85.0, 85.0, 85.0)):
            page = [Recorded("disk.used_percent", "percent", "gauge", {}, [(NOW + at * every, value)])]
            replay.feed(page, NOW + (at + 1) * every)
        assert [step.time - NOW for _, step in replay.pairs] == [3 * every]


def test_a_week_is_ticked_through_only_where_something_can_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a silence is noticed in the second in which the daemon would have."""
    ticks: list[float] = []
    tick = Engine.tick
    monkeypatch.setattr(Engine, "tick", lambda engine: ticks.append(0) or tick(engine))  # type: ignore[func-returns-value]
    replay = Replay("web-1", [rule(warning="80%", absent_for=900)], NOW)
    points = [(NOW + at, 50.0) for at in range(0, 7 * 86400, 600)]
    replay.feed([Recorded("disk.used_percent", "percent", "gauge", {}, points)], NOW + 7 * 86400)
    assert not replay.pairs
    replay.end(NOW + 8 * 86400)
    assert [step.time for _, step in replay.pairs] == [points[-1][0] + 901]
    assert len(ticks) <= 3


def test_a_flapping_rule_costs_what_the_outbox_makes_of_it() -> None:
    """Forty crossings in ten minutes: one incident with its end, a second one with all that follows, and its end."""
    replay = Replay("web-1", [rule(warning="80%")], NOW)
    points = [(NOW + 15 * at, 85.0 if at % 2 and at <= 40 else 50.0) for at in range(1, 120)]
    replay.feed([Recorded("disk.used_percent", "percent", "gauge", {}, points)], NOW + 1800)
    replay.end(NOW + 1800)
    told = [(one.flapped, one.messages, one.incident.state) for one in replay.firings.values()]
    assert told == [(0, 2, "resolved"), (1, 2, "resolved")]
