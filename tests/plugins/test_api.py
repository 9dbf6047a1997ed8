"""What agent.plugin gives to plugins beyond the base class."""

import asyncio
import gc
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.plugin import BusyError, Thread, printable, read_file


def test_a_file_is_read_whole(tmp_path):
    """However many reads it takes, and whatever is in it; what is not there is an OSError."""
    for size in (0, 1, 65536, 65537, 300_000):
        path = tmp_path / str(size)
        path.write_bytes(os.urandom(size))
        assert read_file(str(path)) == path.read_bytes()
    with pytest.raises(FileNotFoundError):
        read_file(str(tmp_path / "absent"))


def test_a_file_of_the_kernel_is_read_whole():
    """The kernel gives a long one a page at a time; the last line of this one is known."""
    text = read_file("/proc/self/smaps")
    assert len(text) > 2 * os.sysconf("SC_PAGE_SIZE")
    assert text.splitlines()[-1].startswith(b"VmFlags:")


def test_reading_leaves_no_file_open(tmp_path):
    """Not even where reading fails."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    read_file("/proc/loadavg")
    with pytest.raises(IsADirectoryError):
        read_file(str(tmp_path))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@given(st.lists(st.binary(max_size=6), unique=True, max_size=50))
def test_printable_keeps_names_apart(names):
    """Every name comes out printable, and no two alike."""
    shown = [printable(name) for name in names]
    assert all(name.isprintable() for name in shown)
    assert len(set(shown)) == len(shown)


@pytest.mark.parametrize("name", ["nginx", "/mnt/my disk", "größe", "it's"])
def test_printable_leaves_text_as_it_is(name):
    """Only what cannot be shown is escaped."""
    assert printable(name.encode()) == name


async def test_a_thread_returns_and_raises_and_is_busy():
    """What the call brings is the caller's; a second call beside one under way is refused at once."""
    thread = Thread("test")
    assert await thread.run(lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 / 0)
    answering = threading.Event()
    waiting = asyncio.create_task(thread.run(lambda: answering.wait(60)))
    await asyncio.sleep(0)
    with pytest.raises(BusyError):
        await thread.run(lambda: 42)
    answering.set()
    assert await waiting is True


async def test_a_thread_ends_with_its_holder():
    """A probe that is thrown away (a reload) leaves no thread behind."""
    before = set(threading.enumerate())
    thread = Thread("test")
    await thread.run(lambda: None)
    [mine] = set(threading.enumerate()) - before
    del thread
    gc.collect()
    await asyncio.to_thread(mine.join, 30)
    assert not mine.is_alive()
