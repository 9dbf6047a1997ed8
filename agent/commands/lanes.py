"""How much is done at a time: commands of one kind one after the other, few of them waiting, each with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from agent.commands.payload import Args
from agent.errors import CommandError


class Outcome(msgspec.Struct, frozen=True):
    """What a verb found or did: `text` for people, `data` for programs; `ok` False where it could not."""

    text: str
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    ok: bool = True


Work = Callable[[Args, str], Awaitable[Outcome]]
"""A verb bound to what it works on: (arguments, actor) -> outcome. Whatever it raises is its outcome, too."""


class Lane:
    """One at a time. `waiting`: how many more may stand in line; `deadline` in seconds of the loop's own time.

    `grace`: seconds that a verb has to clean up at its deadline; after that it is left alone.
    """

    def __init__(self, deadline: float, waiting: int, grace: float = 0.25) -> None:
        self._deadline = deadline
        self._grace = grace
        self._room = waiting + 1
        self._inside = 0
        self._turn = asyncio.Lock()

    @property
    def full(self) -> bool:
        return self._inside >= self._room

    def enter(self) -> None:
        """Take a place in line; `run` gives it back."""
        self._inside += 1

    async def run(self, work: Callable[[], Awaitable[Outcome]], begun: Callable[[], None]) -> Outcome:
        """`begun` is called when it is this one's turn. Raises nothing but CancelledError."""
        try:
            async with self._turn:
                begun()
                return await self._limited(work)
        finally:
            self._inside -= 1

    async def _limited(self, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        task = asyncio.ensure_future(_settled(work))
        try:
            done, _ = await asyncio.wait({task}, timeout=self._deadline)
            if not done:
                return Outcome(f"no result within {self._deadline:g} s", ok=False)
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=self._grace)


async def _settled(work: Callable[[], Awaitable[Outcome]]) -> Outcome:
    try:
        return await work()
    except CommandError as error:
        return Outcome(error.detail, {"reason": error.code}, ok=False)
    except Exception as error:  # noqa: BLE001 - the border of a command
        words = " ".join(str(error).split())[:500]
        return Outcome(f"{type(error).__name__}: {words}" if words else type(error).__name__, ok=False)


class Allowance:
    """So many at once, then so many a second; times are monotonic seconds."""

    def __init__(self, burst: int, per_second: float, now: float) -> None:
        self._burst = burst
        self._rate = per_second
        self._left = float(burst)
        self._at = now

    def take(self, now: float) -> bool:
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
