"""Parts that a reload may exchange under the feet of those who use them: the messenger, the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from agent.alerting.messenger import Messenger, Posted
from agent.model import Incident, Transition
from agent.transport.mqtt import Link


class Mouth:
    """A `Messenger` that is whatever `now` is."""

    def __init__(self, now: Messenger) -> None:
        self.now = now

    def warm(self) -> None:
        self.now.warm()

    async def post(
        self,
        incident: Incident,
        transition: Transition | None,
        channel: str,
        thread_ts: str | None,
        nonce: str,
        *,
        mention: str = "",
        small: bool = False,
    ) -> Posted:
        return await self.now.post(incident, transition, channel, thread_ts, nonce, mention=mention, small=small)

    async def edit(self, incident: Incident, channel: str, ts: str, *, mention: str = "", small: bool = False) -> None:
        await self.now.edit(incident, channel, ts, mention=mention, small=small)

    async def picture(self, png: bytes, title: str, channel: str, thread_ts: str, nonce: str) -> None:
        await self.now.picture(png, title, channel, thread_ts, nonce)

    async def find(
        self, channel: str, nonce: str, since: float, thread_ts: str | None = None, *, at: str = ""
    ) -> Posted | None:
        return await self.now.find(channel, nonce, since, thread_ts, at=at)


class Road:
    """A link that can be replaced by another: the old one says goodbye, the same handler goes on with the new."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._replaced = asyncio.Event()

    def replace(self, link: Link) -> None:
        self.link = link
        self._replaced.set()

    async def reconnect(self) -> None:
        await self.link.reconnect()

    async def run(self, on_session: Callable[[Any], Awaitable[None]]) -> None:
        """Until cancelled; what the handler raises goes up."""
        while True:
            self._replaced.clear()
            running = asyncio.ensure_future(self.link.run(on_session))
            replaced = asyncio.ensure_future(self._replaced.wait())
            try:
                await asyncio.wait({running, replaced}, return_when=asyncio.FIRST_COMPLETED)
                if running.done():
                    running.result()
            finally:
                for task in (running, replaced):
                    task.cancel()
                await asyncio.wait({running, replaced})
