"""A clock that stands still until a test turns it."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class ManualClock:
    """Virtual time. `advance` wakes the sleepers in order and lets the loop run between them.

    The wall clock (`now`) can be set apart from the monotonic one by `set_back`.
    """

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self._wall_offset = now
        self._monotonic = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._wall_offset + self._monotonic

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass: everything that falls due in between happens, in order."""
        end = self._monotonic + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            self._monotonic = max(self._monotonic, due)
            if not future.done():
                future.set_result(None)
            await settle()
        self._monotonic = end
        await settle()

    def tick(self, seconds: float) -> None:
        """Let time pass for code that only reads the clock; wakes nobody."""
        self._monotonic += seconds

    def set_back(self, seconds: float) -> None:
        """Somebody sets the wall clock back (or forward, when negative); monotonic time is untouched."""
        self._wall_offset -= seconds

    @property
    def sleepers(self) -> int:
        return sum(not future.done() for _, _, future in self._sleepers)


async def settle(rounds: int = 20) -> None:
    """Let every task that can run do so. Not for tests that wait on threads or sockets."""
    for _ in range(rounds):
        await asyncio.sleep(0)
