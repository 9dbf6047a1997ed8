"""What a probe says itself when one of its series has crossed a threshold: it may, and it can harm nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from agent.errors import PluginError
from agent.model import Evidence, Labels, Metric, ProbeResult
from agent.plugin import Options, Probe, gauge
from agent.probing import runner as module
from agent.probing.plan import PlannedProbe
from agent.probing.runner import Runner
from agent.probing.scheduler import Scheduler
from tests.fakes.clock import ManualClock, settle


class Talks(Probe):
    """`say` is called for evidence."""

    def __init__(self, say: Callable[[str, Labels], Any]) -> None:
        super().__init__(Options())
        self.say = say

    async def collect(self) -> list[Metric]:
        return [gauge("it.x", 1)]

    async def evidence(self, metric: str, labels: Labels) -> list[Evidence]:
        said = self.say(metric, labels)
        return await said if asyncio.iscoroutine(said) else said


class Silent(Probe):
    async def collect(self) -> list[Metric]:
        return []


def planned(create: Callable[[], Probe]) -> PlannedProbe:
    return PlannedProbe("it", create, 10.0, "", 5.0, 0.0, "it")


async def running(clock: ManualClock, probe: Probe) -> Runner:
    runner = Runner(planned(lambda: probe), clock)
    await runner.run()
    return runner


async def test_a_probe_is_asked_about_its_series(clock: ManualClock) -> None:
    runner = await running(clock, Talks(lambda metric, labels: [Evidence(metric, tuple(labels.values()))]))
    assert await runner.evidence("it.x", {"a": "b"}) == (Evidence("it.x", ("b",)),)
    await runner.aclose()


async def test_one_that_has_nothing_to_say_is_not_asked(clock: ManualClock) -> None:
    """By default there is no evidence; and a probe that never opened cannot know any."""
    assert await (await running(clock, Silent(Options()))).evidence("it.x", {}) == ()
    never = Runner(planned(lambda: Talks(lambda *_: [Evidence("x", ("y",))])), clock)
    assert await never.evidence("it.x", {}) == ()


async def hang() -> list[Evidence]:
    await asyncio.Event().wait()
    return []


@pytest.mark.parametrize(
    ("say", "error"),
    [
        (lambda *_: 1 / 0, "ZeroDivisionError"),
        (lambda *_: [5], "AttributeError"),
        (lambda *_: [Evidence("x", (5,))], "TypeError"),  # type: ignore[arg-type]
        (lambda *_: None, "TypeError"),
        (lambda *_: hang(), "no evidence within 0.05 s"),
    ],
)
async def test_a_probe_that_fails_at_it_says_why(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch, say: Callable[..., Any], error: str
) -> None:
    """And goes on measuring."""
    monkeypatch.setattr(module, "EVIDENCE", 0.05)
    runner = await running(clock, Talks(say))
    with pytest.raises(PluginError, match=error):
        await runner.evidence("it.x", {})
    assert (await runner.run()).status == "ok"


async def test_what_it_says_is_bounded_and_can_be_shipped(clock: ManualClock) -> None:
    much = [Evidence("\udcff" * 900, ("line" * 900,) * 900)] * 900
    runner = await running(clock, Talks(lambda *_: much))
    found = await runner.evidence("it.x", {})
    assert len(found) == 4
    assert len(msgspec.json.encode(found)) < 60_000


async def test_the_scheduler_knows_whom_to_ask(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """By the probe's name; a failure is a line in the log and no evidence."""
    results: list[ProbeResult] = []
    scheduler = Scheduler(clock, results.append)
    scheduler.start()
    scheduler.apply([planned(lambda: Talks(lambda metric, _: [Evidence(metric, ("y",))] if metric == "it.x" else 1))])
    await clock.advance(0)
    while not results:
        await settle()
    assert await scheduler.evidence("it", "it.x", {}) == (Evidence("it.x", ("y",)),)
    assert await scheduler.evidence("other", "it.x", {}) == ()
    assert await scheduler.evidence("it", "it.y", {}) == ()
    assert [record.message for record in caplog.records] == ["no evidence"]
    await scheduler.stop()
