"""The end of tasks, also of those that did not hear the first call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_AFTER = 0.5
GOODBYE = 3.0
"""Instead of that for those that have something to say at their end: to a broker 2 s, after their own tasks' end."""


async def end(tasks: Iterable[asyncio.Future[Any]], again_after: float = AGAIN_AFTER) -> None:
    """Cancel them until they are over; what they return or raise stays with them.

    Once is not enough: on Python 3.11 asyncio.wait_for, which the MQTT and database libraries use, forgets a
    cancellation that comes in the moment of its result. But the second call also cuts short what a task does at its
    end, so that it must come after that.
    """
    waiting = {task for task in tasks if not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=again_after)
