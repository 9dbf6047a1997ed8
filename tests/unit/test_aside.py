"""Blocking calls beside the loop: what they return, what they raise, and that one which hangs holds up nothing."""

import asyncio
import threading

import pytest

from agent.aside import aside


async def test_a_result_comes_back() -> None:
    assert await aside("test", lambda: threading.current_thread().name) == "test"


async def test_what_is_raised_comes_back() -> None:
    with pytest.raises(UnicodeError, match="no name"):
        await aside("test", lambda: _fail(UnicodeError("no name")))


async def test_one_that_hangs_holds_up_no_other() -> None:
    release = threading.Event()
    hung = asyncio.create_task(aside("hung", release.wait))
    assert await aside("next", lambda: 2) == 2
    assert not hung.done()
    hung.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hung
    release.set()  # its answer finds nobody, and says nothing


def _fail(error: Exception) -> None:
    raise error
