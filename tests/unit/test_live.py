"""The hub: nobody waits for a slow page, and nobody misses an event unknowingly."""

from __future__ import annotations

import asyncio

from agent.collector.live import Hub, LiveEvent
from agent.model import Metric


def event(number: int) -> LiveEvent:
    return LiveEvent("host", {"n": number})


async def test_each_subscriber_gets_everything_from_its_subscription_on() -> None:
    """Events between subscribing and the first read count; those from before do not."""
    hub = Hub()
    hub.publish(event(0))
    with hub.subscribe() as one, hub.subscribe() as two:
        hub.publish(event(1))
        hub.publish(event(2))
        assert [(await anext(one)).data["n"] for _ in range(2)] == [1, 2]
        assert [(await anext(two)).data["n"] for _ in range(2)] == [1, 2]
        waiting = asyncio.ensure_future(anext(one))
        await asyncio.sleep(0)
        hub.publish(event(3))
        assert (await waiting).data["n"] == 3
    assert hub.listeners == 0


async def test_a_slow_subscriber_is_cut_and_the_others_go_on() -> None:
    """Beyond its depth a subscription ends, says so, and keeps no memory; it is counted once."""
    hub = Hub(depth=3)
    slow, fast = hub.subscribe(), hub.subscribe()
    for number in range(5):
        hub.publish(event(number))
        assert (await anext(fast)).data["n"] == number
    assert slow.lagged
    assert not fast.lagged
    assert [e async for e in slow] == []
    assert (hub.cut, hub.listeners) == (1, 1)


async def test_closing_ends_the_reader_that_waits() -> None:
    """What was published before the end is still read; then the stream ends."""
    hub = Hub()
    subscription = hub.subscribe()

    async def read() -> list[int]:
        return [e.data["n"] async for e in subscription]

    reader = asyncio.ensure_future(read())
    await asyncio.sleep(0)
    hub.publish(event(1))
    hub.close()
    assert await reader == [1]
    assert not subscription.lagged


def test_an_event_is_encoded_once() -> None:
    """Metrics stand in it as on the wire, defaults left out."""
    sample = LiveEvent("sample", {"host": "a", "metrics": (Metric("m", 1.5),)})
    assert sample.json == b'{"host":"a","metrics":[{"name":"m","value":1.5}]}'
    assert sample.json is sample.json
