"""GET /api/v1/stream: what happens, as Server-Sent Events, from now on.

Nothing is repeated for a reader that comes back: it fetches the present state and reads on.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from aiohttp import web

from agent.clock import Clock
from agent.collector.live import LiveEvent, LiveKind, Subscription
from agent.collector.web import query as q
from agent.collector.web.parts import PARTS, refuse
from agent.collector.web.usage import parts_of

HEARTBEAT = 15.0
WRITE_DEADLINE = 30.0
"""Seconds for which a reader's connection may take nothing before it is given up."""

MAX_STREAMS = 256
STREAMS: web.AppKey[set[Subscription]] = web.AppKey("streams", set[Subscription])
KINDS: tuple[LiveKind, ...] = get_args(LiveKind)


@dataclasses.dataclass(frozen=True, slots=True)
class Filter:
    """`host`: events of this host alone; `samples`: of "sample" events, those of this host alone;
    `metrics`: in "sample" events, these metrics alone.
    """

    host: str | None
    samples: str | None
    kinds: frozenset[str]
    metrics: tuple[str, ...]

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filter:
        q.known(query, "host", "samples", "kind", "metric")
        kinds = frozenset(query.get("kind", ",".join(KINDS)).split(","))
        if not kinds <= set(KINDS):
            refuse(400, "bad_kind", f"kind: expected some of {', '.join(KINDS)}, separated by commas")
        metrics = tuple(q.metric(name) for name in query["metric"].split(",")) if "metric" in query else ()
        return cls(q.host(query), q.host(query, "samples"), kinds, metrics)

    def message(self, event: LiveEvent) -> bytes | None:
        """The event as it goes on the wire, or None where this reader does not want it."""
        if event.kind not in self.kinds:
            return None
        host = event.data["host"]
        if self.host not in (None, host):
            return None
        if event.kind != "sample":
            return framed(event.kind, event.json)
        if self.samples not in (None, host):
            return None
        if not self.metrics:
            return framed(event.kind, event.json)
        chosen = [metric for metric in event.data["metrics"] if self._wants(metric)]
        return framed(event.kind, msgspec.json.encode({**event.data, "metrics": chosen})) if chosen else None

    def _wants(self, metric: Any) -> bool:
        name = parts_of(metric)[0]
        return any(name.startswith(wanted[:-1]) if wanted.endswith("*") else name == wanted for wanted in self.metrics)


def framed(kind: str, data: bytes) -> bytes:
    """JSON holds no line breaks, so that one data line is enough."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


async def stream(request: web.Request) -> web.StreamResponse:
    wanted = Filter.of(request.query)
    parts, streams = request.app[PARTS], request.app[STREAMS]
    if len(streams) >= MAX_STREAMS:
        refuse(503, "too_many_streams", f"{MAX_STREAMS} readers are connected already")
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    if request.method == "HEAD":
        return response
    with parts.hub.subscribe() as events:
        streams.add(events)
        try:
            await response.prepare(request)
            await write(response, b"retry: 2000\n: connected\n\n")
            await follow(response, events, wanted, parts.clock)
        except (ConnectionError, TimeoutError):
            if request.transport is not None:  # gone, or so slow that what it missed cannot be told
                request.transport.abort()
        finally:
            streams.discard(events)
    return response


async def follow(response: web.StreamResponse, events: Subscription, wanted: Filter, clock: Clock) -> None:
    heartbeat = asyncio.create_task(beat(response, events, clock))
    try:
        async for event in events:
            message = wanted.message(event)
            if message is not None:
                await write(response, message)
    finally:
        heartbeat.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError, TimeoutError):
            await heartbeat


async def beat(response: web.StreamResponse, events: Subscription, clock: Clock) -> None:
    """Tells both ends and all proxies between that the connection lives; ends the events where it does not."""
    try:
        while True:
            await clock.sleep(HEARTBEAT)
            await write(response, b": heartbeat\n\n")
    finally:
        events.close()


async def write(response: web.StreamResponse, message: bytes) -> None:
    async with asyncio.timeout(WRITE_DEADLINE):
        await response.write(message)


async def end_streams(app: web.Application) -> None:
    streams: set[Subscription] = app[STREAMS]
    for events in tuple(streams):
        events.close()
