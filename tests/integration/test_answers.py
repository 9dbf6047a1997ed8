"""The answer's one message, through a Slack that refuses, resets and says nothing: shown once, and at last whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from agent.clock import SystemClock
from agent.collector.chatops.answer import Answer, Mouth
from agent.collector.chatops.request import Request
from agent.config.secret import Secret
from agent.slack.answers import answer
from agent.slack.web import Web
from tests.fakes.slack import Channel, Fault, html, rate_limited, refused, reset, silence, unanswered
from tests.fakes.slack_app import FakeApp


@pytest.fixture
async def slack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApp]:
    async with FakeApp() as server:
        monkeypatch.setenv("TEST_BOT", server.token)
        yield server


@pytest.fixture
def ops(slack: FakeApp) -> Channel:
    return slack.add_channel("#ops")


@pytest.fixture
async def mouth(slack: FakeApp) -> AsyncIterator[Mouth]:
    web = Web(Secret("env", "TEST_BOT"), slack.url, 1.0)
    yield Mouth(web, SystemClock(), slack.url)
    await web.aclose()


def asked(slack: FakeApp, channel: Channel, *, thread: str = "") -> Request:
    url = "" if thread else slack.slash_payload("x", user="U1", channel=channel)["response_url"]
    return Request(
        verb="top", user="U1", channel=channel.id, thread=thread, source="slash", key="slash 1", response_url=url
    )


@pytest.mark.parametrize(
    "faults",
    [
        [rate_limited(1, "chat.postMessage")],
        [unanswered("chat.postMessage")],
        [silence("chat.postMessage")],
        [html(503, "chat.postMessage"), reset("chat.postMessage")],
        [unanswered("chat.postMessage"), rate_limited(1, "chat.update"), html(500, "chat.update")],
        [reset("chat.update"), unanswered("chat.update"), refused("internal_error", "chat.update")],
    ],
    ids=["limited", "unanswered", "silent", "html and reset", "post and edits", "edits"],
)
async def test_it_is_posted_once_and_ends_as_it_should(
    slack: FakeApp, ops: Channel, mouth: Mouth, faults: list[Fault]
) -> None:
    """A post whose fate is unknown is looked for before another is tried; an edit is repeated."""
    slack.fail(*faults)
    shown = Answer(mouth, asked(slack, ops))
    for step in range(3):
        shown.show(answer("top web-1", [f"step {step}"]))
        await asyncio.sleep(0.05)
    await asyncio.wait_for(shown.finish(answer("top web-1", ["the end"])), 40)
    [said] = slack.messages("#ops")
    assert "the end" in said.everything
    assert slack.violations == []


async def test_many_steps_are_few_edits(slack: FakeApp, ops: Channel, mouth: Mouth) -> None:
    """At most about one a second, and the last is never left out."""
    shown = Answer(mouth, asked(slack, ops))
    for step in range(100):
        shown.show(answer("x", [f"step {step}"]))
        await asyncio.sleep(0.01)
    await shown.finish(answer("x", ["the end"]))
    [said] = slack.messages("#ops")
    assert "the end" in said.everything
    assert said.edits <= 4


async def test_where_it_cannot_be_posted_the_asker_is_told(slack: FakeApp, mouth: Mouth) -> None:
    """By the payload's own URL, which needs no membership; and by a whisper where there is none."""
    closed = slack.add_channel("#closed", restricted=True)
    await Answer(mouth, asked(slack, closed)).finish(answer("top web-1", ["busy <b>"]))
    [url] = slack.urls.values()
    assert "cannot be posted here (restricted_action)" in url.answers[0]["text"]
    assert url.answers[0]["response_type"] == "ephemeral"


async def test_where_history_may_not_be_read_it_is_not_posted_again(slack: FakeApp, ops: Channel, mouth: Mouth) -> None:
    """Rather not at all than twice: the asker is told."""
    slack.scopes -= {"channels:history", "groups:history"}
    slack.fail(unanswered("chat.postMessage"))
    await Answer(mouth, asked(slack, ops)).finish(answer("top web-1", ["x"]))
    assert len(slack.messages("#ops")) == 1
    assert len(slack.called("chat.postMessage")) == 1


async def test_a_url_that_is_not_slacks_is_not_called(slack: FakeApp, ops: Channel, mouth: Mouth) -> None:
    """Whatever a payload says: words go to Slack, by its API where its URL is none."""
    request = Request(
        verb="x", user="U1", channel=ops.id, source="slash", key="k", response_url="http://127.0.0.1:1/respond/x"
    )
    await mouth.whisper(request, "hello <!channel>")
    [whispered] = slack.whispers("U1")
    assert whispered["text"] == "hello &lt;!channel&gt;"
