"""Whatever a driver throws becomes one of our errors, within a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent.collector.store.dialect import FAILURES, store_error
from agent.errors import StoreError

SECONDS = 60
"""A database that hangs for longer is treated as lost."""


@asynccontextmanager
async def guarded(seconds: float | None = SECONDS) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except StoreError:
        raise
    except FAILURES as error:
        raise store_error(error) from error
