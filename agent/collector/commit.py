"""One batch into the store, whatever it takes: the database away, or one envelope in it that is refused."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from agent.clock import Clock
from agent.collector.stats import Stats
from agent.collector.store import Quarantined, Received, Store, Written
from agent.errors import RefusedError, StoreError

log = logging.getLogger(__name__)

TRIES = 3
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0


class Committer:
    """Commits batches; returns only when all of a batch is stored or in quarantine."""

    def __init__(self, store: Store, stats: Stats, clock: Clock) -> None:
        self._store = store
        self._stats = stats
        self._clock = clock

    async def commit(self, batch: Sequence[Received]) -> Written:
        """Each envelope is `committed`, a duplicate, a conflict or `refused`; all of them may be acknowledged.

        While the database is away this waits. A batch that it refuses is tried again, then halved until
        the envelope at fault is alone; that one goes to quarantine and the others pass. One that a slow
        database does not finish in time is halved too: the same again would never be finished.
        """
        done = Written([], [], [], 0)
        parts = [(list(batch), TRIES)]
        while parts:
            part, tries = parts.pop()
            try:
                written = await self._write(part)
            except RefusedError as error:
                if tries > 1:
                    await self._clock.sleep(FIRST_PAUSE)
                    parts.append((part, tries - 1))
                elif len(part) > 1:
                    middle = len(part) // 2
                    parts += [(part[middle:], 1), (part[:middle], 1)]  # in their order, as the last sample wins
                else:
                    await self._refuse(part[0], error)
                    done.refused += part
            except StoreError:
                middle = len(part) // 2
                parts += [(part[middle:], TRIES), (part[:middle], TRIES)]
            else:
                done.add(written)
        return done

    async def quarantine(self, items: Sequence[Quarantined]) -> None:
        """Keep what can be kept; waits while the database is away."""
        pause = FIRST_PAUSE
        while items:
            try:
                await self._store.quarantine(items)
            except RefusedError as error:
                log.error("quarantine refused", extra={"error": str(error), "messages": len(items)})
                return
            except StoreError as error:
                pause = await self._lost(error, pause)
            else:
                self.back()
                return

    async def _write(self, part: Sequence[Received]) -> Written:
        """RefusedError, or StoreError where so many are too many for the time they may take."""
        pause = FIRST_PAUSE
        while True:
            began = self._clock.monotonic()
            try:
                written = await self._store.write(part)
            except RefusedError:
                raise
            except StoreError as error:
                pause = await self._lost(error, pause)
                if isinstance(error.__cause__, TimeoutError) and len(part) > 1:
                    raise
                continue
            self._stats.commit_seconds += self._clock.monotonic() - began
            self._stats.batches += 1
            self.back()
            return written

    async def _refuse(self, item: Received, error: RefusedError) -> None:
        host, epoch, seq = item.identity
        log.error("envelope quarantined", extra={"host": host, "epoch": epoch, "seq": seq, "error": str(error)})
        await self.quarantine([Quarantined(str(item.topic), item.payload, f"refused by the database: {error}")])

    async def _lost(self, error: StoreError, pause: float) -> float:
        """Wait; the pause for the next time."""
        self.lost(error)
        await self._clock.sleep(pause)
        return min(LONGEST_PAUSE, pause * 2)

    def lost(self, error: StoreError, *, first: bool = False) -> None:
        """The database did not answer: count it, and say so once (`first`: it was never there)."""
        self._stats.store_errors += 1
        if self._stats.store_up or first:
            self._stats.store_up = False
            log.error("database lost", extra={"error": str(error)})

    def back(self) -> None:
        """The database answered."""
        if not self._stats.store_up:
            self._stats.store_up = True
            log.info("database ready")
