"""When to roll up and when to delete; what that means is the store's."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from agent.clock import Clock
from agent.collector.store import Store
from agent.config.schema import RetentionConfig
from agent.errors import StoreError

log = logging.getLogger(__name__)

MINUTES_EVERY = 30.0
HOURS_EVERY = 600.0
PRUNE_EVERY = 3600.0


class Retention:
    """Minutes often, hours less so, deletion once an hour and only after all is rolled up."""

    def __init__(self, store: Store, clock: Clock, kept: RetentionConfig) -> None:
        self._store = store
        self._clock = clock
        self._kept = kept
        self._failed = False

    async def run(self) -> None:
        hours = prune = self._clock.monotonic()
        while True:
            await self._clock.sleep(MINUTES_EVERY)
            if not await self._try(self.minutes):
                continue
            now = self._clock.monotonic()
            if now - hours >= HOURS_EVERY and await self._try(self.hours):
                hours = now
            if now - prune >= PRUNE_EVERY and await self._try(self.hours) and await self._try(self.prune):
                prune = now

    async def minutes(self) -> None:
        """Roll up all that waits; StoreError."""
        while await self._store.roll_minutes(self._clock.now(), self._kept.samples):
            await self._clock.sleep(0)

    async def hours(self) -> None:
        while await self._store.roll_hours(self._clock.now(), self._kept.minutes):
            await self._clock.sleep(0)

    async def prune(self) -> None:
        gone = await self._store.prune(self._clock.now(), self._kept)
        if gone:
            log.info("old rows deleted", extra={"rows": gone})

    async def _try(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Whether it was done; one line for a failure, and one when it works again."""
        try:
            await work()
        except StoreError as error:
            if not self._failed:
                log.warning("roll-up or deletion failed", extra={"error": str(error)})
            self._failed = True
            return False
        if self._failed:
            log.info("roll-up and deletion work again")
        self._failed = False
        return True
