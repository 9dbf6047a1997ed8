"""A shipper on a connection that a test holds in its hands; the spool under it is real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from agent.config.schema import SpoolConfig
from agent.transport.inbox import Message
from agent.transport.shipper import Shipper
from agent.transport.wire import Ack, Status, decode, encode
from tests.fakes.clock import ManualClock, settle
from tests.services import eventually
from tests.unit.spools import EPOCH, HOST, Bench

ACK_TOPIC = f"tocsin/v1/{HOST}/ack"


class FakeSession:
    """Records what is published; a test brings the PUBACKs and the messages."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.published: list[tuple[str, bytes, bool]] = []
        self.futures: list[asyncio.Future[None]] = []
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.listened: list[str] = []
        self.puback = True

    def post(self, topic: str, payload: bytes, *, retain: bool = False) -> asyncio.Future[None]:
        self.published.append((topic, payload, retain))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.futures.append(future)
        if self.puback:
            future.set_result(None)
        return future

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        await self.post(topic, payload, retain=retain)

    def listen(self, topic: str) -> None:
        assert topic.startswith(f"tocsin/v1/{HOST}/"), f"nothing here comes from another host: {topic}"
        self.listened.append(topic)

    async def messages(self) -> AsyncIterator[Message]:
        while True:
            yield await self.incoming.get()

    @property
    def envelopes(self) -> list[int]:
        """Numbers of the envelopes published, in order."""
        return [
            decode(payload, dict)["seq"]
            for topic, payload, _ in self.published
            if payload and topic.split("/")[3] in ("metrics", "incidents", "gaps")
        ]

    def ack(self, *seqs: int, upto: int = 0, epoch: str = EPOCH, slow_down: float = 0, retain: bool = False) -> None:
        self.incoming.put_nowait(Message(ACK_TOPIC, encode(Ack(epoch, upto, seqs, slow_down)), retain))


class FakeLink:
    """Serves one session after another, as the test says."""

    def __init__(self) -> None:
        self.sessions: list[FakeSession] = []
        self.reconnects = 0
        self._lost = asyncio.Event()
        self._next = asyncio.Event()
        self.up()

    def up(self) -> None:
        self._next.set()

    def down(self) -> None:
        self._lost.set()

    async def reconnect(self) -> None:
        self.reconnects += 1

    async def run(self, on_session) -> None:
        while True:
            await self._next.wait()
            self._next.clear()
            self._lost.clear()
            session = FakeSession(100 + len(self.sessions))
            self.sessions.append(session)
            handler = asyncio.ensure_future(on_session(session))
            lost = asyncio.ensure_future(self._lost.wait())
            try:
                await asyncio.wait({handler, lost}, return_when=asyncio.FIRST_COMPLETED)
                if handler.done():
                    handler.result()
            finally:
                for task in (handler, lost):
                    task.cancel()
                await asyncio.wait({handler, lost})


class Rig(Bench):
    def __init__(self, directory, clock: ManualClock, settings: SpoolConfig) -> None:
        super().__init__(directory, clock, settings)
        self.link = FakeLink()
        self.shipper: Shipper

    async def start(self, **more) -> None:
        await self.open()
        self.shipper = Shipper(
            self.spool, self.link, HOST, EPOCH, self.clock, lambda n: Status("online", EPOCH, n), **more
        )
        self.task = asyncio.create_task(self.shipper.run())
        await settle()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})
        if not self.task.cancelled():
            self.task.result()
        await self.spool.aclose()

    @property
    def session(self) -> FakeSession:
        return self.link.sessions[-1]

    async def sent(self, count: int) -> list[int]:
        """Wait until the present session has published so many envelopes."""
        await eventually(lambda: len(self.session.envelopes) >= count, f"{count} envelopes", 10)
        await settle()
        return self.session.envelopes

    async def quiet(self) -> None:
        """Until the spool's thread has nothing to do and the shipper waits."""
        for _ in range(5):
            await self.spool._worker.run(lambda: None)
            await settle()
