"""A small MQTT 3.1.1 broker inside this process, for `tocsin up`; the only importer of amqtt.

It keeps nothing on disk and asks nobody who they are: for one machine, on loopback. What it forgets when it
ends, agents send again, as only the collector's word deletes from a spool.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Self

from agent.errors import UnavailableError

_STOP = 3.0
"""Seconds that the goodbye to connected clients may take."""


class EmbeddedBroker:
    """`async with EmbeddedBroker("127.0.0.1", 1883): …` serves; UnavailableError if the port cannot be had."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port

    async def __aenter__(self) -> Self:
        try:
            from amqtt.broker import Broker  # noqa: PLC0415 - it imports much, and takes its time
            from amqtt.contexts import BrokerConfig, ListenerConfig  # noqa: PLC0415
            from amqtt.errors import BrokerError  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise UnavailableError(f"{error.name} is not installed; install tocsin[up]") from error

        for name in ("amqtt", "transitions"):  # one line per connection, and a traceback for a taken port
            logging.getLogger(name).setLevel(logging.CRITICAL)
        host = f"[{self._host}]" if ":" in self._host else self._host
        # No brackets: amqtt would hand them to the resolver, which knows none; it splits at the last colon.
        listener = ListenerConfig(bind=f"{self._host}:{self._port}", max_connections=0)
        plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        self._broker = Broker(BrokerConfig(listeners={"default": listener}, plugins=plugins))
        try:
            await self._broker.start()
        except BrokerError as error:
            raise UnavailableError(
                f"the broker cannot listen on {host}:{self._port}: {error.__cause__ or error}"
            ) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP):
                await self._broker.shutdown()
