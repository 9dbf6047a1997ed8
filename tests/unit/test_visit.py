"""A probe run or asked beside its schedule: a fresh one each time, and a hung one costs one thread."""

from __future__ import annotations

import threading

import pytest

from agent.clock import SystemClock
from agent.errors import CommandError
from agent.plugin import Metric, Options, Probe, action, gauge
from agent.probing import visit
from agent.probing.plan import PlannedProbe
from agent.probing.visit import Visits


class Counting(Probe):
    """Counts what happens to all of its kind."""

    life: list[str] = []
    release = threading.Event()

    async def open(self) -> None:
        self.life.append("open")

    async def collect(self) -> list[Metric]:
        self.life.append("collect")
        return [gauge("counting.runs", self.life.count("collect"))]

    async def aclose(self) -> None:
        self.life.append("close")

    @action("says what it was asked about")
    async def echo(self, about: str) -> list[str]:
        return [about]

    @action("knows of nothing")
    async def lost(self, about: str) -> list[str]:
        raise ValueError(f"no {about} here")

    @action("hangs in its thread")
    async def hang(self, about: str) -> list[str]:
        await self.in_thread(self.release.wait)
        return ["released"]


class Hanging(Counting):
    async def collect(self) -> list[Metric]:
        await self.in_thread(self.release.wait)
        return []


def planned(kind: type[Probe], timeout: float = 5.0) -> PlannedProbe:
    return PlannedProbe("counting", lambda: kind(Options()), 10.0, "", timeout, 0.0, ("counting", kind))


@pytest.fixture
def visits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(visit, "APART", 0.0)
    monkeypatch.setattr(visit, "PATIENCE", 0.1)
    Counting.life = []
    Counting.release = threading.Event()
    yield Visits(SystemClock())
    Counting.release.set()


async def test_it_runs_twice_for_its_rates_and_is_closed(visits: Visits) -> None:
    result = await visits.run(planned(Counting))
    assert (result.status, result.metrics[0].value) == ("ok", 2.0)
    assert Counting.life == ["open", "collect", "collect", "close"]


async def test_it_is_asked_and_closed(visits: Visits) -> None:
    assert await visits.ask(planned(Counting), "echo", "/var") == ["/var"]
    with pytest.raises(CommandError, match="no /nowhere here"):
        await visits.ask(planned(Counting), "lost", "/nowhere")
    assert Counting.life == ["open", "close"] * 2


@pytest.mark.parametrize("name", ["nope", "collect", "aclose", "__init__", "in_thread", ""])
async def test_only_what_is_marked_can_be_asked(visits: Visits, name: str) -> None:
    with pytest.raises(CommandError, match="expected one of the actions of counting: echo: says") as refused:
        await visits.ask(planned(Counting), name, "")
    assert refused.value.code == "unknown_action"
    assert Counting.life == []


async def test_however_often_a_hung_one_is_visited_it_costs_one_thread(visits: Visits) -> None:
    before = threading.active_count()
    plan = planned(Hanging, timeout=0.05)
    results = [await visits.run(plan) for _ in range(4)]
    assert [result.status for result in results] == ["timeout", "error", "error", "error"]
    for _ in range(4):
        with pytest.raises(CommandError):
            await visits.ask(plan, "hang", "")
    assert threading.active_count() - before == 2
    Counting.release.set()
    assert await visits.ask(plan, "echo", "again") == ["again"]
