"""The public API for plugins: everything that a probe needs, and nothing that it does not.

    class Load(Probe):
        async def collect(self) -> list[Metric]:
            return [gauge("load.1m", os.getloadavg()[0])]

A probe measures and returns; it raises what goes wrong. It knows no schedule, no threshold, no
transport. Options are a frozen `Options` class, named by the annotation of `options`:

    class DiskOptions(Options, frozen=True):
        exclude_types: tuple[str, ...] = ("tmpfs",)
        network_timeout: Duration = Duration(2)

    class Disk(Probe):
        options: DiskOptions
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar, get_type_hints

import msgspec

from agent.config.units import Duration, Percent, Size
from agent.model import Evidence, Labels, Metric

__all__ = [
    "BusyError",
    "Duration",
    "Evidence",
    "Labels",
    "Metric",
    "Options",
    "Percent",
    "Probe",
    "Size",
    "Thread",
    "action",
    "counter",
    "gauge",
    "printable",
    "read_file",
]

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Awaitable[list[str]]])


def gauge(name: str, value: float, unit: str = "", /, **labels: str) -> Metric:
    """A value that goes up and down: `gauge("disk.used_percent", 71.2, "percent", mount="/")`."""
    return Metric(name, float(value), unit, "gauge", labels)


def counter(name: str, value: float, unit: str = "", /, **labels: str) -> Metric:
    """A total that only grows, and starts anew when what it counts restarts."""
    return Metric(name, float(value), unit, "counter", labels)


def action(summary: str, /) -> Callable[[F], F]:
    """Mark a method as a read-only action, for `advise PLUGIN ACTION` from the command line and Slack.

        @action("the largest directories of a mount")
        async def largest(self, about: str) -> list[str]: ...

    `about` is what the caller named ("" where nothing), and is anybody's: look it up, never use it as it is. It
    returns lines for people, changes nothing, bounds its own work, and raises ValueError with words where it cannot.
    """

    def mark(method: F) -> F:
        method.action = summary  # type: ignore[attr-defined]
        return method

    return mark


def read_file(path: str) -> bytes:
    """A whole file of /proc or /sys, for a third of what `open` costs; OSError as `os.open` and `os.read` raise it.

    Such a file is no larger than it is when read: the kernel hands it out a page at a time, so one read is not enough.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = chunk = os.read(handle, 65536)
        while chunk:
            chunk = os.read(handle, 65536)
            text += chunk
        return text
    finally:
        os.close(handle)


def printable(raw: bytes) -> str:
    """A label's value from bytes that somebody else chose (a process's name, a path).

    Printable UTF-8 stays as it is; anything else is escaped as in Python. Two never become one.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return repr(raw)[2:-1]
    return text if text.isprintable() and "\\" not in text else repr(raw)[2:-1]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of a plugin's own options: the keys of its `[probes.NAME]` table, decoded and checked."""


class BusyError(RuntimeError):
    """The probe's thread still hangs in an earlier call; a second one is never started."""


class Probe:
    """Base of every probe. `collect` is the one required method; the others are optional."""

    options: Options

    def __init__(self, options: Options) -> None:
        self.options = options
        self._thread: Thread | None = None

    @classmethod
    def options_type(cls) -> type[Options]:
        hint: type[Options] = get_type_hints(cls)["options"]
        return hint

    @classmethod
    def actions(cls) -> dict[str, str]:
        """What can be asked of it beside its metrics: name and summary of each method marked with `@action`."""
        marked = {name: getattr(getattr(cls, name), "action", None) for name in dir(cls)}
        return {name: summary for name, summary in marked.items() if isinstance(summary, str)}

    async def open(self) -> None:
        """Called once before the first `collect`; raise to be tried again later."""

    async def collect(self) -> list[Metric]:
        """Measure once. Called again and again, never while an earlier call still runs."""
        raise NotImplementedError

    async def evidence(self, metric: str, labels: Labels) -> list[Evidence]:
        """What is likely behind it, when this series of the probe's own has just crossed a threshold.

        The message has gone out by then and is edited. At most one call at a time, of 10 s at most,
        but a `collect` may begin meanwhile. By default there is none.
        """
        del metric, labels
        return []

    async def aclose(self) -> None:
        """Called once at the end; give back what `open` took."""

    async def in_thread(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call in this probe's own thread and wait for it.

        A call that never comes back (a dead network mount) costs that one thread: until it
        returns, further calls raise `BusyError` at once.
        """
        if self._thread is None:
            self._thread = Thread(type(self).__name__)
        return await self._thread.run(lambda: function(*args, **kwargs))


class Thread:
    """One daemon thread for blocking calls, one at a time; a hung call cannot hold up our exit.

    `Probe.in_thread` is all that most probes need; one that watches several things of which each may
    hang alone takes a thread for each. The thread ends when nobody holds this object any more.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._busy = False
        threading.Thread(target=_work, args=(self._calls,), name=f"probe-{name}", daemon=True).start()
        weakref.finalize(self, self._calls.put, None)

    async def run(self, call: Callable[[], T]) -> T:
        """Raises what the call raises, and `BusyError` while an earlier one has not come back."""
        if self._busy:
            raise BusyError("an earlier call of this probe has not come back")
        self._busy = True
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def deliver(result: Any, error: BaseException | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._deliver, future, result, error)

        self._calls.put((call, deliver))
        return await future

    def _deliver(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._busy = False
        if future.done():  # cancelled by the deadline
            return
        if isinstance(error, StopIteration):  # the one error that a future refuses
            error = RuntimeError(f"StopIteration: {error}")
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)


_Call = tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]]


def _work(calls: queue.SimpleQueue[_Call | None]) -> None:
    while _serve(calls.get()):  # a function of its own, so that nothing of a finished call is held while we wait
        pass


def _serve(item: _Call | None) -> bool:
    if item is None:
        return False
    call, deliver = item
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the caller
        deliver(None, error)
    else:
        deliver(result, None)
    return True
