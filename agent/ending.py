"""The end of tasks, also of those that did not hear the first call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_AFTER = 0.5


async def end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel them until they are over; what they return or raise stays with them.

    Once is not enough: on Python 3.11 asyncio.wait_for, which the MQTT and database libraries use, forgets a
    cancellation that comes in the moment of its result.
    """
    waiting = {task for task in tasks if not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=AGAIN_AFTER)
