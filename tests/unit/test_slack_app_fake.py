"""The stand-in for what Slack sends us keeps to the facts: Socket Mode, payloads, response URLs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.fakes import slack_payloads as payloads
from tests.fakes.slack_app import FakeApp


@pytest.fixture
async def slack() -> AsyncIterator[FakeApp]:
    async with FakeApp(ping_every=0.05) as server:
        server.add_channel("#alerts")
        yield server


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def opened(slack: FakeApp, http: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
    headers = {"Authorization": f"Bearer {slack.app_token}"}
    async with http.post(f"{slack.url}apps.connections.open", headers=headers) as answer:
        url = (await answer.json())["url"]
    socket = await http.ws_connect(url)
    hello = await socket.receive_json()
    assert hello["type"] == "hello"
    assert hello["num_connections"] == len(slack.sockets.connections)
    return socket


async def test_a_connection_is_opened_with_the_apps_token_in_the_header(
    slack: FakeApp, http: aiohttp.ClientSession
) -> None:
    """In the form it is none; the bot's own is the wrong kind; a URL is good once."""
    for headers, data, word in [
        ({}, {"token": slack.app_token}, "not_authed"),
        ({"Authorization": f"Bearer {slack.token}"}, {}, "not_allowed_token_type"),
        ({"Authorization": "Bearer xapp-other"}, {}, "invalid_auth"),
    ]:
        async with http.post(f"{slack.url}apps.connections.open", headers=headers, data=data) as answer:
            assert (await answer.json())["error"] == word
    url = slack.sockets.ticket(slack.url.replace("http:", "ws:").replace("/api/", "/link"))
    await http.ws_connect(url)
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await http.ws_connect(url)


async def test_a_payload_goes_to_one_connection_and_is_acknowledged_once(
    slack: FakeApp, http: aiohttp.ClientSession
) -> None:
    """Over many payloads both of two connections get some; a second ack, and one of nothing, are faults."""
    sockets = [await opened(slack, http), await opened(slack, http)]
    channel = slack.add_channel("#ops")
    for _ in range(12):
        await slack.slash("help", user="U1", channel=channel)
    got = {sent.connection for sent in slack.sockets.sent}
    assert got == {1, 2}
    first = next(sent for sent in slack.sockets.sent if sent.connection == 1)
    envelope = await sockets[0].receive_json()
    assert (envelope["envelope_id"], envelope["type"]) == (first.envelope_id, "slash_commands")
    assert envelope["payload"]["text"] == "help"
    ack = json.dumps({"envelope_id": first.envelope_id, "payload": {"text": "x"}})
    await sockets[0].send_str(ack)
    await slack.until(lambda: first.after is not None)
    assert first.in_time
    assert first.answer == {"text": "x"}
    await sockets[0].send_str(ack)
    await sockets[1].send_str("nonsense")
    await slack.until(lambda: len(slack.sockets.faults) == 2)


async def test_an_eleventh_connection_is_one_too_many(slack: FakeApp, http: aiohttp.ClientSession) -> None:
    """It is told so instead of greeted."""
    ten = [await opened(slack, http) for _ in range(10)]
    eleventh = await http.ws_connect(slack.sockets.ticket(slack.url.replace("http:", "ws:").replace("/api/", "/link")))
    assert not any(socket.closed for socket in ten)
    assert await eleventh.receive_json() == {"type": "disconnect", "reason": "too_many_websockets"}


async def test_a_pong_must_bring_back_what_the_ping_brought(slack: FakeApp, http: aiohttp.ClientSession) -> None:
    """The library's own answers do; one made up is a fault."""
    socket = await opened(slack, http)
    await socket.pong(b"made up")
    with pytest.raises(TimeoutError):  # answering pings is done by reading
        async with asyncio.timeout(0.3):
            await socket.receive()
    assert slack.sockets.faults == ["pong without its ping: bytearray(b'made up')"]


async def test_a_response_url_is_used_up(slack: FakeApp, http: aiohttp.ClientSession) -> None:
    """Five answers, of JSON, each as strict as a message; the sixth is refused."""
    url = slack.slash_payload("help", user="U1", channel=slack.add_channel("#ops"))["response_url"]
    async with http.post(url, data={"text": "form"}) as answer:
        assert answer.status == 400
    async with http.post(url, json={"text": "a < b"}) as answer:
        assert (answer.status, await answer.text()) == (400, "unescaped")
    statuses = []
    for _ in range(6):
        async with http.post(url, json={"text": "x", "replace_original": True}) as answer:
            statuses.append(answer.status)
    assert statuses == [200] * 5 + [404]


async def test_the_signature_is_that_of_the_facts() -> None:
    """SLACK.md's vector."""
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&"
        b"channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url="
        b"https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&"
        b"trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = payloads.signed("8f742231b10e8888abcd99yyyzzz85a5", body, 1531420618)
    wanted = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    assert headers["X-Slack-Signature"] == wanted


async def test_people_and_groups(slack: FakeApp, http: aiohttp.ClientSession) -> None:
    """Asked for by id, with the scopes that this takes; what a token may do stands in a header."""
    slack.groups["S1"], slack.users = ["U1"], {"U1"}
    headers = {"Authorization": f"Bearer {slack.token}"}

    async def ask(method: str, **arguments: Any) -> dict[str, Any]:
        async with http.post(slack.url + method, data=arguments, headers=headers) as answer:
            if answer.headers.get("x-oauth-scopes"):
                assert set(answer.headers["x-oauth-scopes"].split(",")) == slack.scopes
            found: dict[str, Any] = await answer.json()
            return found

    assert (await ask("usergroups.users.list", usergroup="S1"))["users"] == ["U1"]
    assert (await ask("usergroups.users.list", usergroup="S2"))["error"] == "no_such_subteam"
    assert (await ask("users.info", user="U1"))["user"]["id"] == "U1"
    assert (await ask("users.info", user="U2"))["error"] == "user_not_found"
    channel = (await ask("conversations.info", channel="C00000001"))["channel"]
    assert channel == {"id": "C00000001", "name": "alerts", "is_member": True, "is_archived": False}
    slack.scopes.discard("usergroups:read")
    assert (await ask("usergroups.users.list", usergroup="S1"))["error"] == "missing_scope"
