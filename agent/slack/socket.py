"""Socket Mode over slack-sdk's aiohttp client: what Slack sends us, without an address of our own. Collector only.

The SDK's client can loop for ever on a session that is closed, and reuses a URL that is good for one connection.
So it never reconnects here: every wish to do so, an end, and silence of its frames are seen from outside, and a
new client takes over. On Slack's own wish the new one stands before the old one goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from slack_sdk.errors import SlackClientError
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest

from agent.clock import Clock
from agent.errors import DeliveryError, RetryError
from agent.slack.web import Web, quiet
from agent.transport.backoff import Backoff

log = logging.getLogger(__name__)

SILENT_AFTER = 20.0
"""Seconds without a frame (pongs come every few) after which a connection is dead, whatever it says of itself."""
CONNECT_WITHIN = 15.0
LOOK_EVERY = 1.0
PING_EVERY = 5.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """One payload. `kind`: slash_commands, interactive or events_api."""

    kind: str
    payload: dict[str, Any]


Take = Callable[[Arrival], dict[str, Any] | None]
"""Called at once and not waited for; what it returns goes with the acknowledgement, where Slack takes it."""


@dataclass(slots=True)
class SocketState:
    """For /metrics and the dashboard. `frame_at` is monotonic."""

    connected: bool = False
    frame_at: float = 0.0
    connects: int = 0
    payloads: int = 0
    last_error: str = ""


class _Client(SocketModeClient):
    """The SDK's, but that it says when it is `spent` instead of connecting anew."""

    def __init__(self, token: str, web: Web) -> None:
        super().__init__(token, logger=quiet, web_client=web.client(), ping_interval=PING_EVERY)
        self.spent = asyncio.Event()

    async def connect_to_new_endpoint(self, force: bool = False) -> None:  # noqa: ARG002 - the SDK's signature
        self.spent.set()


class Socket:
    """One connection at a time, for ever. `web` calls with the app-level token."""

    def __init__(self, web: Web, take: Take, clock: Clock, rng: random.Random | None = None) -> None:
        self._web = web
        self._take = take
        self._clock = clock
        self._rng = rng or random.Random()
        self._backoff = Backoff(first=1.0, cap=60.0, calm=60.0)
        self.state = SocketState()

    async def run(self) -> None:
        """Until cancelled."""
        old: _Client | None = None
        failures = 0
        try:
            while True:
                since = self._clock.monotonic()
                client, reason = None, ""
                try:
                    client = await self._open()
                except (DeliveryError, SlackClientError, aiohttp.ClientError, OSError, TimeoutError) as error:
                    reason = str(error) or type(error).__name__
                finally:
                    await _close(old)
                    old = client
                if client is not None:
                    reason = await self._watch(client)
                    if self._clock.monotonic() - since >= self._backoff.calm:
                        failures = 0
                self._lost(reason)
                await self._clock.sleep(self._backoff.delay(failures, self._rng) if failures else 0.0)
                failures += 1
        finally:
            self.state.connected = False
            await _close(old)

    def age(self) -> float | None:
        """Seconds since the last frame, None while there is no connection."""
        return self._clock.monotonic() - self.state.frame_at if self.state.connected else None

    async def _open(self) -> _Client:
        """A connected client, or what went wrong; nothing stays behind then."""
        answer = await self._web.call("apps.connections.open", {}, json=False)
        url = answer.get("url")
        if not isinstance(url, str) or not url.startswith(("wss://", "ws://")):
            raise RetryError("no_url", "apps.connections.open brought none")
        token = self._web.client().token or ""
        client = _Client(token, self._web)
        client.wss_uri = url
        client.on_message_listeners.append(self._frame)
        client.socket_mode_request_listeners.append(self._request)  # type: ignore[arg-type]
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                await client.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await _close(client)
            raise
        self.state.connected = True
        self.state.connects += 1
        self.state.frame_at = self._clock.monotonic()
        self.state.last_error = ""
        log.info("slack socket connected", extra={"connects": self.state.connects})
        return client

    async def _watch(self, client: _Client) -> str:
        """Why this client is of no use any more."""
        pong = client.last_ping_pong_time
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await client.spent.wait()
                    return "ended by Slack"
            if client.last_ping_pong_time != pong:
                pong = client.last_ping_pong_time
                self.state.frame_at = self._clock.monotonic()
            if client.current_session is None or client.current_session.closed:
                return "closed"
            if self._clock.monotonic() - self.state.frame_at > SILENT_AFTER:
                return f"no frame for {SILENT_AFTER:g} s"

    def _lost(self, reason: str) -> None:
        """One line for an end, and one for each new reason why no connection comes about."""
        if self.state.connected:
            log.info("slack socket ended", extra={"reason": reason})
        elif reason != self.state.last_error:
            log.warning("slack socket cannot be opened", extra={"error": reason[:200]})
        self.state.connected = False
        self.state.last_error = reason

    async def _frame(self, message: aiohttp.WSMessage) -> None:
        self.state.frame_at = self._clock.monotonic()
        if '"disconnect"' in message.data:
            with contextlib.suppress(ValueError):
                frame = json.loads(message.data)
                if frame.get("type") == "disconnect":
                    log.info("slack asks for a new connection", extra={"reason": str(frame.get("reason"))[:80]})

    async def _request(self, client: SocketModeClient, request: SocketModeRequest) -> None:
        """Acknowledged first, in any case: what Slack does not see acknowledged it shows as failed, or sends again."""
        self.state.payloads += 1
        answer: dict[str, Any] | None = None
        try:
            answer = self._take(Arrival(request.type, request.payload))
        except Exception:  # a command is a border: the log has the traceback, Slack its acknowledgement
            log.exception("payload of Slack not handled", extra={"kind": request.type[:40]})
        ack: dict[str, Any] = {"envelope_id": request.envelope_id}
        if answer and request.accepts_response_payload:
            ack["payload"] = answer
        with contextlib.suppress(aiohttp.ClientError, OSError, RuntimeError):
            await client.send_message(json.dumps(ack))


async def _close(client: _Client | None) -> None:
    if client is not None:
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(3.0):
                await client.close()  # type: ignore[no-untyped-call]
