"""Time is passed in, so that tests can turn it by hand.

Times of day are unix seconds in UTC (`now`), durations are differences of `monotonic`: a wall clock
that is set back must never shorten or stretch one.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Unix seconds, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def wake_or_sleep(wake: asyncio.Event, clock: Clock, seconds: float | None) -> None:
    """Until `wake` is set or, where a time is given, that time is up."""
    waiters: list[asyncio.Task[Any]] = [asyncio.create_task(wake.wait())]
    if seconds is not None:
        waiters.append(asyncio.create_task(clock.sleep(seconds)))
    try:
        await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
