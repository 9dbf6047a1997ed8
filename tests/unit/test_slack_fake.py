"""The stand-in keeps to the facts of Slack's API, so that what passes against it passes there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.fakes import slack as fake
from tests.fakes.slack import FakeSlack


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as server:
        server.add_channel("#alerts")
        yield server


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class Caller:
    """Calls methods as a client would."""

    def __init__(self, slack: FakeSlack, http: aiohttp.ClientSession) -> None:
        self.slack = slack
        self.http = http

    async def __call__(self, method: str, token: str | None = None, **arguments: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token or self.slack.token}"}
        async with self.http.post(self.slack.url + method, json=arguments, headers=headers) as response:
            assert response.status == 200
            answer: dict[str, Any] = await response.json()
            return answer

    async def error(self, method: str, **arguments: Any) -> str:
        answer = await self(method, **arguments)
        assert answer["ok"] is False
        return str(answer["error"])


@pytest.fixture
def call(slack: FakeSlack, http: aiohttp.ClientSession) -> Caller:
    return Caller(slack, http)


def section(text: str = "x", **more: Any) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}, **more}


async def test_a_message_lives(slack: FakeSlack, call: Caller) -> None:
    """Posted by name, answered with the id, edited by id and ts, replied to, reacted to, linked."""
    posted = await call("chat.postMessage", channel="#alerts", text="one", blocks=[section()])
    assert posted["channel"].startswith("C")
    assert posted["message"]["text"] == "one"
    where = {"channel": posted["channel"], "ts": posted["ts"]}
    assert (await call("chat.update", **where, text="two"))["ok"]
    [said] = slack.messages("#alerts")
    assert (said.text, said.blocks, said.history) == ("two", [], ["one", "two"])
    said_where = {"channel": posted["channel"], "timestamp": posted["ts"]}
    assert (await call("reactions.add", **said_where, name="eyes"))["ok"]
    assert await call.error("reactions.add", **said_where, name="eyes") == "already_reacted"
    link = await call("chat.getPermalink", channel=posted["channel"], message_ts=posted["ts"])
    assert posted["channel"] in link["permalink"]


async def test_token_and_scopes(slack: FakeSlack, call: Caller, http: aiohttp.ClientSession) -> None:
    """No token, a wrong one and one without the scope are told apart; JSON, form and query are all read."""
    assert await call.error("auth.test", token="xoxb-wrong") == "invalid_auth"
    async with http.post(slack.url + "auth.test") as response:
        assert await response.json() == {"ok": False, "error": "not_authed", "detail": "not_authed: "}
    async with http.get(slack.url + "auth.test", params={"token": slack.token}) as response:
        assert (await response.json())["ok"]
    form = {"token": slack.token, "channel": "#alerts", "text": "x", "blocks": json.dumps([section()])}
    async with http.post(slack.url + "chat.postMessage", data=form) as response:
        assert (await response.json())["ok"]
    slack.scopes -= {"channels:history", "groups:history"}
    assert await call.error("conversations.history", channel="C00000001") == "missing_scope"
    assert await call.error("no.such") == "unknown_method"


async def test_channels(slack: FakeSlack, call: Caller) -> None:
    """Each has its way of refusing; update and history take ids alone."""
    slack.add_channel("#old", archived=True)
    away = slack.add_channel("#away", member=False)
    slack.add_channel("#quiet", restricted=True)
    for name, code in [
        ("#none", "channel_not_found"),
        ("#old", "is_archived"),
        ("#away", "not_in_channel"),
        ("#quiet", "restricted_action"),
    ]:
        assert await call.error("chat.postMessage", channel=name, text="x") == code
    slack.scopes.add("chat:write.public")
    assert (await call("chat.postMessage", channel="#away", text="x"))["ok"]
    assert await call.error("conversations.history", channel=away.id) == "not_in_channel"
    assert await call.error("chat.update", channel="#alerts", ts="1.0", text="x") == "channel_not_found"
    assert await call.error("conversations.history", channel="#alerts") == "channel_not_found"
    assert await call.error("chat.update", channel="C00000001", ts="1.0", text="x") == "message_not_found"
    listed = await call("conversations.list", exclude_archived=True)
    assert {channel["name"] for channel in listed["channels"]} == {"alerts", "away", "quiet"}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({}, "no_text"),
        ({"blocks": [section()] * 51}, "invalid_blocks"),
        ({"blocks": [section("x" * 3001)]}, "invalid_blocks"),
        ({"blocks": [section("")]}, "invalid_blocks"),
        ({"blocks": [{"type": "section"}]}, "invalid_blocks"),
        ({"blocks": [{"type": "section", "fields": [{"type": "mrkdwn", "text": "x"}] * 11}]}, "invalid_blocks"),
        ({"blocks": [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}]}, "invalid_blocks"),
        ({"blocks": [{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}]}, "invalid_blocks"),
        ({"blocks": [{"type": "context", "elements": []}]}, "invalid_blocks"),
        ({"blocks": [{"type": "nonsense"}]}, "invalid_blocks"),
        ({"blocks": [section(block_id="a"), section(block_id="a")]}, "invalid_blocks"),
        ({"blocks": [section(colour="red")]}, "invalid_blocks"),
        ({"blocks": {"type": "section"}}, "invalid_blocks_format"),
        ({"blocks": [section("x" * 2900)] * 5}, "msg_blocks_too_long"),
        ({"text": "x", "attachments": [{"color": "reddish"}]}, "invalid_attachments"),
        ({"text": "x", "attachments": [{"color": "good"}] * 101}, "too_many_attachments"),
        ({"text": "x", "metadata": {"event_type": "x"}}, "invalid_metadata_format"),
        ({"text": "a < b"}, "unescaped"),
        ({"text": "a & b"}, "unescaped"),
        ({"text": "x", "blocks": [section("<script>")]}, "unescaped"),
        ({"text": "x", "thread_ts": "1.0"}, "thread_not_found"),
    ],
)
async def test_what_is_malformed_is_refused(call: Caller, message: dict[str, Any], code: str) -> None:
    """Shapes, limits and escaping, each with the API's own word."""
    assert await call.error("chat.postMessage", channel="#alerts", **message) == code


async def test_what_is_well_formed_is_taken(slack: FakeSlack, call: Caller) -> None:
    """Entities, dates, links and mentions; and whom it would notify is known."""
    text = "a &lt; b &amp; c <https://x.org/?a=1&amp;b=2|x> <!date^1790000000^{date}|then> <!here> <@U012ABC>"
    assert (await call("chat.postMessage", channel="alerts", text=text))["ok"]
    assert slack.messages("#alerts")[0].pings == ["!here", "@U012ABC"]


async def test_text_of_an_edit_is_shorter(call: Caller) -> None:
    """4000 for chat.update, where chat.postMessage cuts at 40 000."""
    posted = await call("chat.postMessage", channel="#alerts", text="x" * 4001)
    where = {"channel": posted["channel"], "ts": posted["ts"]}
    assert await call.error("chat.update", **where, text="x" * 4001) == "msg_too_long"


async def test_two_posts_within_a_second_are_one(slack: FakeSlack, call: Caller) -> None:
    """The second is answered with ok and never shown."""
    assert [(await call("chat.postMessage", channel="#alerts", text=t))["ok"] for t in "ab"] == [True, True]
    assert [said.text for said in slack.messages("#alerts")] == ["a"]


async def test_history_and_metadata(slack: FakeSlack, call: Caller) -> None:
    """Newest first, in pages, replies only where they were broadcast, metadata only where it is asked for."""
    channel = slack.add_channel("#more")
    mark = {"event_type": "e", "event_payload": {"nonce": "n"}}
    stamps = []
    for arguments in ({"text": "one", "metadata": mark}, {"text": "two"}):
        channel.last_post = float("-inf")
        stamps.append((await call("chat.postMessage", channel=channel.id, **arguments))["ts"])
    for text, broadcast in (("quiet", False), ("loud", True)):
        channel.last_post = float("-inf")
        await call("chat.postMessage", channel=channel.id, text=text, thread_ts=stamps[0], reply_broadcast=broadcast)
    page = await call("conversations.history", channel=channel.id, limit=2)
    assert [m["text"] for m in page["messages"]] == ["loud", "two"]
    cursor = page["response_metadata"]["next_cursor"]
    rest = await call("conversations.history", channel=channel.id, limit=2, cursor=cursor, include_all_metadata=True)
    assert [m["metadata"] for m in rest["messages"]] == [mark]
    plain = await call("conversations.history", channel=channel.id, oldest=stamps[0])
    assert [m["text"] for m in plain["messages"]] == ["loud", "two"]
    thread = await call("conversations.replies", channel=channel.id, ts=stamps[0])
    assert [m["text"] for m in thread["messages"]] == ["one", "quiet", "loud"]
    assert "metadata" not in thread["messages"][0]
    assert await call.error("conversations.replies", channel=channel.id, ts="1.0") == "thread_not_found"


async def test_faults_are_played_in_order(slack: FakeSlack, http: aiohttp.ClientSession) -> None:
    """429 with Retry-After and a body, HTML, nothing, a reset, silence; then all is well again."""
    slack.fail(fake.rate_limited(2, "auth.test"), fake.html(500, "api"), fake.empty("api"), fake.reset("api"))
    slack.fail(fake.silence("api"), fake.refused("fatal_error", "api"))
    headers = {"Authorization": f"Bearer {slack.token}"}
    async with http.post(slack.url + "auth.test", headers=headers) as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "2")
        assert await response.json() == {"ok": False, "error": "ratelimited"}
    assert slack.violations == []
    async with http.post(slack.url + "auth.test", headers=headers) as response:
        assert response.status == 429
    assert [violation.method for violation in slack.violations] == ["auth.test"]
    async with http.post(slack.url + "api", headers=headers) as response:
        assert (response.status, response.content_type) == (500, "text/html")
    async with http.post(slack.url + "api", headers=headers) as response:
        assert (response.status, await response.read()) == (200, b"")
    with pytest.raises(aiohttp.ClientError):
        await http.post(slack.url + "api", headers=headers)
    with pytest.raises(asyncio.TimeoutError):
        await http.post(slack.url + "api", headers=headers, timeout=aiohttp.ClientTimeout(total=0.2))
    async with http.post(slack.url + "api", headers=headers) as response:
        assert (await response.json())["error"] == "fatal_error"
    assert slack.faults_left == 0
    slack.calm()
    async with http.post(slack.url + "auth.test", headers=headers) as response:
        assert (await response.json())["ok"]


@pytest.mark.parametrize(("fault", "shown"), [(fake.unanswered(), 1), (fake.silence(), 0)])
async def test_no_answer_with_and_without_effect(
    slack: FakeSlack, http: aiohttp.ClientSession, fault: fake.Fault, shown: int
) -> None:
    """The two ways of a hang look the same from outside, and are not."""
    slack.fail(fault)
    headers = {"Authorization": f"Bearer {slack.token}"}
    message = {"channel": "#alerts", "text": "x"}
    timeout = aiohttp.ClientTimeout(total=0.3)
    with pytest.raises(asyncio.TimeoutError):
        await http.post(slack.url + "chat.postMessage", json=message, headers=headers, timeout=timeout)
    assert len(slack.messages("#alerts")) == shown
    assert [call.outcome for call in slack.calls] == [fault.kind]
