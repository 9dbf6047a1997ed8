"""Tasks that must not be gone silently: one that falls is told in the log and started again."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from agent.clock import Clock
from agent.errors import SpoolError

log = logging.getLogger(__name__)

FIRST, CAP = 1.0, 60.0
"""Seconds before a fallen task is started again: doubled with each fall, up to the cap."""
CALM = 300.0
"""Seconds after which an earlier fall is forgotten."""
FATAL = (SpoolError, MemoryError)
"""What no new start of one task can mend; the whole daemon ends, for whoever supervises it."""


async def guard(name: str, work: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Run `work` until it returns; again after a fault in it, with growing pauses. Only FATAL goes up."""
    falls = 0
    while True:
        began = clock.monotonic()
        try:
            await work()
        except FATAL:
            raise
        except Exception:  # the border of a task: its fault must not end the others
            if clock.monotonic() - began > CALM:
                falls = 0
            pause = min(CAP, FIRST * 2.0**falls)
            falls = min(falls + 1, 20)
            log.exception("a task fell and is started again", extra={"task": name, "pause": pause})
        else:
            return
        await clock.sleep(pause)
