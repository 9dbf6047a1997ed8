"""Connections on which nothing is asked: each costs a descriptor, which database and broker need, too."""

from __future__ import annotations

import resource
from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Handler

from agent.clock import Clock

IDLE = 75.0
"""Seconds without a request under way, from the first moment on: longer than a proxy before us keeps one."""
MOST = 2048
"""Connections at a time; beyond that those that have been idle for longest end before their time. Fewer where half of
the descriptors that we may open are fewer: without a unit file that may be 1024.
"""
SWEEP_EVERY = 1.0


class Connections:
    """`watch` is around every request, `run` for ever beside it. aiohttp has no deadline for a request's head."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._busy: set[web.RequestHandler] = set()
        self._idle_since: dict[web.RequestHandler, float] = {}

    @web.middleware
    async def watch(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._busy.add(request.protocol)
        try:
            return await handler(request)
        finally:
            self._busy.discard(request.protocol)
            self._idle_since[request.protocol] = self._clock.monotonic()

    async def run(self, runner: web.AppRunner) -> None:
        while True:
            await self._clock.sleep(SWEEP_EVERY)
            if runner.server is not None:
                self.sweep(runner.server.connections)

    def sweep(self, connections: Sequence[web.RequestHandler]) -> None:
        now = self._clock.monotonic()
        self._idle_since = since = {one: self._idle_since.get(one, now) for one in connections}
        idle = sorted((one for one in connections if one not in self._busy), key=since.__getitem__)
        spare = len(connections) - _most()
        for place, one in enumerate(idle):
            if place < spare or now - since[one] >= IDLE:
                one.force_close()


def _most() -> int:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if descriptors == resource.RLIM_INFINITY else min(MOST, descriptors // 2)


CONNECTIONS: web.AppKey[Connections] = web.AppKey("connections", Connections)
