"""Live events, from ingest to every open page: in memory, bounded, never waited for."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import cached_property
from typing import Any, Literal, Self

import msgspec

LiveKind = Literal["sample", "host", "incident", "delivery"]

DEPTH = 2000
"""Events that may wait for one subscriber before it is cut."""


class LiveEvent:
    """One thing that happened; `data` is anything msgspec encodes.

    "sample": {host, probe, time, status, error, metrics: [metric as on the wire, defaults left out]};
    "host": one entry of /api/v1/hosts; "incident": one entry of /api/v1/incidents;
    "delivery": {host, incident, and the fields of a delivery}.
    """

    def __init__(self, kind: LiveKind, data: Any) -> None:
        self.kind: LiveKind = kind
        self.data = data

    @cached_property
    def json(self) -> bytes:
        """`data` as JSON; encoded once however many subscribers there are."""
        return msgspec.json.encode(self.data)


class Subscription:
    """What one reader still has to see; ends (StopAsyncIteration) when closed, or cut because it was slow.

    A reader that was cut (`lagged`) has missed events: it must fetch the present state anew.
    """

    def __init__(self, hub: Hub, depth: int) -> None:
        self._hub = hub
        self._depth = depth
        self._events: deque[LiveEvent] = deque()
        self._wake = asyncio.Event()
        self._closed = False
        self.lagged = False

    def push(self, event: LiveEvent) -> None:
        if self._closed:
            return
        if len(self._events) >= self._depth:
            self.lagged = True
            self._events.clear()
            self.close()
            return
        self._events.append(event)
        self._wake.set()

    def close(self) -> None:
        """No more events; what waits can still be read. Doing it twice is harmless."""
        self._closed = True
        self._hub.drop(self)
        self._wake.set()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> LiveEvent:
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._events.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Hub:
    """Fan-out of live events. Publishing never blocks and never fails.

    with hub.subscribe() as events:      # subscribed from here on, so fetch the present state now
        async for event in events: ...
    """

    def __init__(self, depth: int = DEPTH) -> None:
        self._depth = depth
        self._subscriptions: set[Subscription] = set()
        self.cut = 0

    @property
    def listeners(self) -> int:
        return len(self._subscriptions)

    def publish(self, event: LiveEvent) -> None:
        for subscription in tuple(self._subscriptions):
            subscription.push(event)
            if subscription.lagged:
                self.cut += 1

    def subscribe(self) -> Subscription:
        subscription = Subscription(self, self._depth)
        self._subscriptions.add(subscription)
        return subscription

    def drop(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End every subscription, as the collector stops."""
        for subscription in tuple(self._subscriptions):
            subscription.close()
