"""Tasks end, whether they hear the first call or not."""

import asyncio
from types import SimpleNamespace
from typing import Any

from agent.daemon.service import Daemon
from agent.ending import AGAIN_AFTER, GOODBYE, end
from agent.transport.mqtt import FAREWELL


async def test_one_that_loses_a_cancellation_is_asked_again():
    """As asyncio.wait_for on Python 3.11, whose future is done in the moment of the cancellation."""
    lost = 0

    async def deaf() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                lost += 1
                if lost == 2:
                    raise

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    await end([task])
    assert task.cancelled()
    assert lost == 2


async def test_what_is_over_stays_as_it_is():
    async def broken() -> None:
        raise ValueError

    task = asyncio.create_task(broken())
    await asyncio.wait({task})
    await end([task])
    assert isinstance(task.exception(), ValueError)
    await end([])


async def test_a_daemon_waits_for_the_goodbye_of_its_connection():
    """Cut short it would be a last will, and the host gone for all who watch."""
    assert GOODBYE > FAREWELL + AGAIN_AFTER
    said: list[str] = []

    async def connection() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(AGAIN_AFTER + 0.2)  # a broker that is far away
            said.append("goodbye")

    async def nothing() -> None: ...

    daemon: Any = Daemon.__new__(Daemon)
    daemon._parts = SimpleNamespace(scheduler=SimpleNamespace(stop=nothing))
    daemon._intake = SimpleNamespace(aclose=nothing)
    daemon._put_incidents = nothing
    task = asyncio.create_task(connection())
    await asyncio.sleep(0)
    await daemon._end([task])
    assert said == ["goodbye"]
