"""Socket Mode against the stand-in: acknowledged in time, alive after every kind of end, and nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agent.clock import SystemClock
from agent.config.secret import Secret
from agent.slack import socket as socket_mode
from agent.slack.socket import Arrival, Socket
from agent.slack.web import Web
from tests.fakes.slack import html, rate_limited, reset
from tests.fakes.slack_app import FakeApp
from tests.services import eventually

Start = Callable[..., Socket]


@pytest.fixture
async def slack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApp]:
    monkeypatch.setenv("TEST_APP_TOKEN", "xapp-1-fake")
    async with FakeApp(ping_every=0.1) as server:
        server.add_channel("#ops")
        yield server


@pytest.fixture
async def start(slack: FakeApp) -> AsyncIterator[Start]:
    running: list[tuple[asyncio.Task[None], Web]] = []

    def start(take: Callable[[Arrival], dict[str, Any] | None]) -> Socket:
        web = Web(Secret("env", "TEST_APP_TOKEN"), slack.url, 2.0)
        socket = Socket(web, take, SystemClock(), random.Random(1))
        running.append((asyncio.create_task(socket.run()), web))
        return socket

    yield start
    for task, web in running:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await web.aclose()


async def test_payloads_arrive_and_are_acknowledged_with_the_answer(slack: FakeApp, start: Start) -> None:
    """Also where handling one raises; and pings are answered."""
    seen: list[Arrival] = []

    def take(arrival: Arrival) -> dict[str, Any] | None:
        seen.append(arrival)
        if arrival.payload.get("text") == "raise":
            raise KeyError("x")
        return {"text": "working"}

    socket = start(take)
    await eventually(lambda: slack.sockets.connections, "a connection")
    channel = slack.add_channel("#more")
    sent = [await slack.slash(text, user="U1", channel=channel) for text in ("hosts", "raise")]
    sent.append(await slack.mention("hosts", user="U1", channel=channel))
    await eventually(lambda: all(one.in_time for one in sent), "acks")
    assert [one.answer for one in sent] == [{"text": "working"}, None, None]
    assert [arrival.kind for arrival in seen] == ["slash_commands", "slash_commands", "events_api"]
    await eventually(lambda: socket.state.frame_at > 0 and (socket.age() or 9) < 5, "frames")
    assert slack.sockets.faults == []
    assert (socket.state.connects, socket.state.payloads) == (1, 3)


@pytest.mark.parametrize("end", ["drop", "warning", "refresh_requested", "too_many_websockets"])
async def test_after_an_end_there_is_a_new_connection(slack: FakeApp, start: Start, end: Any) -> None:
    socket = start(lambda _: None)
    for round_ in range(1, 3):
        await eventually(lambda n=round_: slack.sockets.opened == n and slack.sockets.connections, "a connection")
        await (slack.sockets.drop() if end == "drop" else slack.sockets.disconnect(end))
    await eventually(lambda: slack.sockets.opened == 3 and len(slack.sockets.connections) == 1, "the third")
    sent = await slack.slash("help", user="U1", channel=slack.add_channel("#x"))
    await eventually(lambda: sent.in_time, "an ack")
    assert socket.state.connects == 3


async def test_on_slacks_wish_the_new_one_stands_before_the_old_one_goes(slack: FakeApp, start: Start) -> None:
    """So that no payload meets an app without a connection."""
    start(lambda _: None)
    await eventually(lambda: slack.sockets.connections, "a connection")
    least = len(slack.sockets.connections)
    await slack.sockets.disconnect("refresh_requested")
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        least = min(least, len(slack.sockets.connections))
        await asyncio.sleep(0.002)
    assert (least, slack.sockets.opened) == (1, 2)


async def test_a_connection_that_is_dead_and_open_is_given_up(
    slack: FakeApp, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither closed nor answering: seen by the age of the last frame alone."""
    monkeypatch.setattr(socket_mode, "SILENT_AFTER", 1.0)
    monkeypatch.setattr(socket_mode, "PING_EVERY", 0.4)
    monkeypatch.setattr(socket_mode, "LOOK_EVERY", 0.1)
    socket = start(lambda _: None)
    await eventually(lambda: slack.sockets.connections, "a connection")
    slack.sockets.freeze()
    await eventually(lambda: slack.sockets.opened == 2, "a new connection")
    await asyncio.sleep(1.5)
    assert socket.state.connected
    assert slack.sockets.opened == 2  # pongs alone keep this one alive


async def test_what_keeps_it_from_opening_is_tried_again(slack: FakeApp, start: Start) -> None:
    """HTML, a reset, a limit, a missing right: no connection yet, and one as soon as it can be."""
    slack.fail(html(500, "apps.connections.open"), reset("apps.connections.open"))
    slack.fail(rate_limited(1, "apps.connections.open"))
    socket = start(lambda _: None)
    await eventually(lambda: slack.sockets.connections, "a connection", 30)
    assert socket.state.connects == 1
    slack.socket_enabled = False
    await slack.sockets.drop()
    await eventually(lambda: "socket_mode_not_enabled" in socket.state.last_error, "the reason")
    assert socket.age() is None
    slack.socket_enabled = True
    await eventually(lambda: socket.state.connected, "a connection", 30)
