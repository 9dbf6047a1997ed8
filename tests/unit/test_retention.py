"""When the collector rolls up and deletes."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from agent.collector.retention import Retention
from agent.collector.store import Store
from agent.config.schema import RetentionConfig
from agent.errors import StoreError
from tests.fakes.clock import ManualClock


class Recorder:
    """Notes what is asked of it; `portions` is how often minutes have more to do."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.portions = 0
        self.away = False

    async def _note(self, what: str) -> bool:
        if self.away:
            raise StoreError("away")
        self.calls.append(what)
        self.portions -= 1
        return self.portions > 0

    async def roll_minutes(self, now: float, kept: float) -> bool:
        return await self._note("minutes")

    async def roll_hours(self, now: float, kept: float) -> bool:
        return await self._note("hours")

    async def prune(self, now: float, kept: Any) -> int:
        return int(await self._note("prune"))


async def test_each_in_its_rhythm_and_deletion_only_after_rolling_up(clock: ManualClock) -> None:
    """Minutes every half minute, hours every ten minutes, deletion every hour right after both."""
    store = Recorder()
    running = asyncio.create_task(Retention(cast("Store", store), clock, RetentionConfig()).run())
    await clock.advance(3600)
    assert (store.calls.count("minutes"), store.calls.count("prune")) == (120, 1)
    assert 6 <= store.calls.count("hours") <= 7
    assert store.calls[-3:] == ["hours", "hours", "prune"]
    running.cancel()


async def test_all_that_waits_is_rolled_at_once(clock: ManualClock) -> None:
    """Portion after portion until there is no more."""
    store = Recorder()
    store.portions = 5
    running = asyncio.create_task(Retention(cast("Store", store), clock, RetentionConfig()).run())
    await clock.advance(30)
    assert store.calls == ["minutes"] * 5
    running.cancel()


async def test_a_database_that_is_away_is_tried_again(clock: ManualClock) -> None:
    """Nothing is deleted while rolling up fails; it goes on when the database is back."""
    store = Recorder()
    store.away = True
    running = asyncio.create_task(Retention(cast("Store", store), clock, RetentionConfig()).run())
    await clock.advance(7200)
    assert store.calls == []
    store.away = False
    await clock.advance(30)
    assert store.calls == ["minutes", "hours", "hours", "prune"]
    running.cancel()
