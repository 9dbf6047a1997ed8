"""A broker in wrong hands, which says what it likes in MQTT."""

from __future__ import annotations

import asyncio
import contextlib

from agent.clock import SystemClock
from agent.config.schema import MqttConfig
from agent.transport.mqtt import Link
from tests.integration.test_mqtt import QUICK, Talk
from tests.services import eventually


async def test_a_packet_without_bounds_is_not_received():
    """A broker in wrong hands may say that 200 MiB follow; a host that takes them is killed by its own bound."""
    taken = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await reader.readuntil(b"big")  # the end of CONNECT: its identifier
        writer.write(b"\x20\x02\x00\x00" + b"\x30" + b"\x80\x80\x80\x64")  # CONNACK, PUBLISH of 200 MiB
        with contextlib.suppress(ConnectionError):
            while taken < 200 * 2**20:
                writer.write(bytes(2**20))
                await writer.drain()
                taken += 2**20

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        config = MqttConfig(url=f"mqtt://127.0.0.1:{port}")
        link = Link(config, identifier="big", subscriptions=(), clock=SystemClock(), backoff=QUICK, max_inbox=4 * 2**20)
        async with Talk(link).running() as talk:
            await eventually(lambda: len(talk.sessions) >= 2 or taken >= 100 * 2**20, "it is given up, or taken")
    assert taken < 100 * 2**20
