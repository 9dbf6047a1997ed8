"""Slack's end of Socket Mode: tickets, connections, payloads given to one of them at random, acks, pings, ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import WSMsgType, web

ACK_WITHIN = 3.0
MOST = 10
Reason = Literal["warning", "refresh_requested", "link_disabled", "too_many_websockets"]


@dataclass
class Sent:
    """One payload on its way. `after`: seconds until its ack; `answer`: what the ack brought, if anything."""

    envelope_id: str
    kind: str
    payload: dict[str, Any]
    connection: int
    at: float
    after: float | None = None
    answer: dict[str, Any] | None = None

    @property
    def in_time(self) -> bool:
        return self.after is not None and self.after <= ACK_WITHIN


@dataclass(eq=False)
class Connection:
    """One WebSocket. `frozen`: it takes and says nothing more, and stays open."""

    number: int
    socket: web.WebSocketResponse
    frozen: bool = False
    pings: set[bytes] = field(default_factory=set)


class Sockets:
    """All connections of one app. `faults` is what a client did that Slack would not take."""

    def __init__(self, *, ping_every: float = 0.5) -> None:
        self.sent: list[Sent] = []
        self.faults: list[str] = []
        self.opened = 0
        self.connections: list[Connection] = []
        self._tickets: set[str] = set()
        self._ping_every = ping_every
        self._rng = random.Random(7)

    def ticket(self, base: str) -> str:
        """A URL that is good for one connection."""
        ticket = secrets.token_hex(12)
        self._tickets.add(ticket)
        return f"{base}?ticket={ticket}&app_id=A00000001"

    async def serve(self, request: web.Request) -> web.StreamResponse:
        ticket = request.query.get("ticket", "")
        if ticket not in self._tickets:
            return web.Response(status=408, text="used or unknown ticket")
        self._tickets.remove(ticket)
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        if len(self.connections) >= MOST:
            await socket.send_json({"type": "disconnect", "reason": "too_many_websockets"})
            await socket.close()
            return socket
        self.opened += 1
        connection = Connection(self.opened, socket)
        self.connections.append(connection)
        await socket.send_json(self._hello())
        pinging = asyncio.create_task(self._ping(connection))
        try:
            await self._listen(connection)
        finally:
            pinging.cancel()
            if connection in self.connections:
                self.connections.remove(connection)
        return socket

    async def send(self, kind: str, payload: dict[str, Any], *, envelope_id: str = "") -> Sent:
        """To one connection, which one nobody can say; AssertionError where there is none."""
        usable = [connection for connection in self.connections if not connection.frozen]
        assert usable, "no connection to send a payload to"
        connection = self._rng.choice(usable)
        envelope_id = envelope_id or secrets.token_hex(16)
        sent = Sent(envelope_id, kind, payload, connection.number, time.monotonic())
        self.sent.append(sent)
        envelope = {"envelope_id": envelope_id, "type": kind, "payload": payload}
        envelope["accepts_response_payload"] = kind != "events_api"
        await connection.socket.send_json(envelope)
        return sent

    async def disconnect(self, reason: Reason) -> None:
        """All are told to go, and cut a moment later, as Slack does every few hours."""
        for connection in tuple(self.connections):
            await connection.socket.send_json({"type": "disconnect", "reason": reason, "debug_info": {"host": "fake"}})

    async def drop(self) -> None:
        """All are torn down without a word."""
        for connection in tuple(self.connections):
            transport = connection.socket._req.transport if connection.socket._req else None  # type: ignore[union-attr]
            if transport is not None:
                transport.abort()

    def freeze(self) -> None:
        """The connections of now stay open and dead: no pong, no payload."""
        for connection in self.connections:
            connection.frozen = True

    def _hello(self) -> dict[str, Any]:
        return {
            "type": "hello",
            "num_connections": len(self.connections),
            "connection_info": {"app_id": "A00000001"},
            "debug_info": {"host": "fake", "approximate_connection_time": 18060, "build_number": 1},
        }

    async def _ping(self, connection: Connection) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            while True:
                await asyncio.sleep(self._ping_every)
                if connection.frozen:
                    continue
                ping = f"Ping from fake {secrets.token_hex(4)}".encode()
                connection.pings.add(ping)
                await connection.socket.ping(ping)

    async def _listen(self, connection: Connection) -> None:
        async for message in connection.socket:
            if connection.frozen:
                continue
            if message.type is WSMsgType.PING:
                await connection.socket.pong(message.data)
            elif message.type is WSMsgType.PONG:
                if bytes(message.data) not in connection.pings:
                    self.faults.append(f"pong without its ping: {message.data!r:.80}")
                connection.pings.discard(bytes(message.data))
            elif message.type is WSMsgType.TEXT:
                self._ack(connection, message.data)

    def _ack(self, connection: Connection, text: str) -> None:
        try:
            ack = json.loads(text)
            envelope_id = ack["envelope_id"]
        except (ValueError, KeyError, TypeError):
            self.faults.append(f"no ack: {text[:120]}")
            return
        meant = [s for s in self.sent if s.envelope_id == envelope_id and s.connection == connection.number]
        waiting = [sent for sent in meant if sent.after is None]
        if ack.keys() - {"envelope_id", "payload"} or not waiting:
            self.faults.append(f"ack twice, or of nothing: {text[:120]}")
            return
        sent = waiting[0]
        sent.after = time.monotonic() - sent.at
        sent.answer = ack.get("payload")
        if sent.answer is not None and sent.kind == "events_api":
            self.faults.append("a payload in the ack of an event")
        if not sent.in_time:
            self.faults.append(f"ack after {sent.after:.1f} s")
