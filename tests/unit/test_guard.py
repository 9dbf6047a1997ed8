"""What keeps the daemon going: the guard of its tasks, and its judgement whether it lives."""

from __future__ import annotations

import asyncio

import pytest

from agent.daemon import watchdog
from agent.daemon.guard import guard
from agent.errors import SpoolError
from tests.fakes.clock import ManualClock


async def test_a_fallen_task_is_started_again(clock: ManualClock) -> None:
    """With growing pauses; a return is an end, and what no restart mends goes up."""
    falls: list[float] = []

    async def work() -> None:
        falls.append(clock.monotonic())
        if len(falls) < 5:
            raise RuntimeError("odd")

    task = asyncio.create_task(guard("work", work, clock))
    await clock.advance(20)
    assert falls == [0.0, 1.0, 3.0, 7.0, 15.0]
    await task

    async def fatal() -> None:
        raise SpoolError("gone")

    with pytest.raises(SpoolError):
        await guard("fatal", fatal, clock)


class Planned:
    def __init__(self, interval: float | None, name: str = "x") -> None:
        self.interval = interval
        self.name = name


def test_the_watchdog_is_fed_only_while_things_move() -> None:
    """Stuck probes and a stuck spool are told apart; slow probes, cron lines and back-off are no reason."""
    fair = watchdog.fair_time([Planned(10.0), Planned(None)], {})
    assert fair == 80.0
    assert watchdog.stuck(100.0, 30.0, 95.0, fair, 10.0) == ""
    assert "no probe has finished for 81 s" in watchdog.stuck(100.0, 19.0, 95.0, fair, 10.0)
    assert "the spool has not committed for 71 s" in watchdog.stuck(100.0, 99.0, 29.0, fair, 10.0)
    assert watchdog.fair_time([Planned(None)], {}) is None
    assert watchdog.stuck(1e6, 0.0, 1e6, None, 10.0) == ""
    assert (watchdog.fair_time([Planned(10.0)], {"x": True, "agent": False}) or 0) > 1200
    often, seldom = Planned(1.0, "often"), Planned(3600.0, "seldom")
    assert watchdog.fair_time([often, seldom], {"often": True, "seldom": False}) == 1260.0
