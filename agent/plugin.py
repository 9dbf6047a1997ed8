"""The public API for plugins: everything that a probe needs, and nothing that it does not.

    class Load(Probe):
        async def collect(self) -> list[Metric]:
            return [gauge("load.1m", os.getloadavg()[0])]

A probe measures and returns; it raises what goes wrong. It knows no schedule, no threshold, no
transport. Options are a frozen `Options` class, named by the annotation of `options`:

    class DiskOptions(Options):
        exclude_types: tuple[str, ...] = ("tmpfs",)

    class Disk(Probe):
        options: DiskOptions
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, get_type_hints

import msgspec

from agent.model import Labels, Metric

__all__ = ["BusyError", "Labels", "Metric", "Options", "Probe", "counter", "gauge"]

P = ParamSpec("P")
T = TypeVar("T")


def gauge(name: str, value: float, unit: str = "", /, **labels: str) -> Metric:
    """A value that goes up and down: `gauge("disk.used_percent", 71.2, "percent", mount="/")`."""
    return Metric(name, float(value), unit, "gauge", labels)


def counter(name: str, value: float, unit: str = "", /, **labels: str) -> Metric:
    """A total that only grows, and starts anew when what it counts restarts."""
    return Metric(name, float(value), unit, "counter", labels)


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of a plugin's own options: the keys of its `[probes.NAME]` table, decoded and checked."""


class BusyError(RuntimeError):
    """The probe's thread still hangs in an earlier call; a second one is never started."""


class Probe:
    """Base of every probe. `collect` is the one required method; the others are optional."""

    options: Options

    def __init__(self, options: Options) -> None:
        self.options = options
        self._thread: _Thread | None = None

    @classmethod
    def options_type(cls) -> type[Options]:
        hint: type[Options] = get_type_hints(cls)["options"]
        return hint

    async def open(self) -> None:
        """Called once before the first `collect`; raise to be tried again later."""

    async def collect(self) -> list[Metric]:
        """Measure once. Called again and again, never while an earlier call still runs."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Called once at the end; give back what `open` took."""

    async def in_thread(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call in this probe's own thread and wait for it.

        A call that never comes back (a dead network mount) costs that one thread: until it
        returns, further calls raise `BusyError` at once.
        """
        if self._thread is None:
            self._thread = _Thread(type(self).__name__)
        return await self._thread.run(lambda: function(*args, **kwargs))


class _Thread:
    """One daemon thread that lives as long as its probe, so that a hung call cannot hold up our exit."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]]] = queue.SimpleQueue()
        self._busy = False
        threading.Thread(target=self._work, name=f"probe-{name}", daemon=True).start()

    async def run(self, call: Callable[[], T]) -> T:
        if self._busy:
            raise BusyError("an earlier call of this probe has not come back")
        self._busy = True
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put((call, future))
        return await future

    def _work(self) -> None:
        while True:
            call, future = self._calls.get()
            result: Any = None
            error: BaseException | None = None
            try:
                result = call()
            except BaseException as caught:  # whatever it is, it belongs to the caller
                error = caught
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                future.get_loop().call_soon_threadsafe(self._deliver, future, result, error)

    def _deliver(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._busy = False
        if future.done():  # cancelled by the deadline
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
