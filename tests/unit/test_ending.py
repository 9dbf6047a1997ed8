"""Tasks end, whether they hear the first call or not."""

import asyncio

from agent.ending import end


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
