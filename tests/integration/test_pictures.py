"""From an incident to a picture in its thread, over HTTP: outbox, drawing process, SDK and upload are real."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace
from PIL import Image

from agent.alerting.outbox import Outbox
from agent.alerting.pictures import Pictures
from agent.alerting.state import State
from agent.clock import SystemClock
from agent.config.schema import SlackConfig
from agent.config.secret import Secret
from agent.config.units import Duration
from agent.model import Severity
from agent.slack.picture import draw
from agent.slack.samples import samples
from agent.slack.sender import SlackMessenger
from tests.fakes.slack import silence
from tests.fakes.slack_files import FakeFiles

WARNING = samples(1_790_000_000.0)[0].incident
CRITICAL = replace(WARNING, severity=Severity.CRITICAL, peak=Severity.CRITICAL, version=2, value=96.0, limit=95.0)


@pytest.fixture
async def slack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeFiles]:
    async with FakeFiles() as slack:
        slack.add_channel("#alerts")
        monkeypatch.setenv("FAKE_SLACK_TOKEN", slack.token)
        yield slack
        assert not slack.violations


@pytest.fixture
async def outbox(slack: FakeFiles) -> AsyncIterator[Outbox]:
    token = Secret("env", "FAKE_SLACK_TOKEN")
    messenger = SlackMessenger(SlackConfig(bot_token=token, base_url=slack.url, timeout=Duration(1)))
    state, clock = State(None), SystemClock()
    pictures = Pictures(state, messenger, draw, clock)
    outbox = Outbox(state, messenger, clock, on_shown=pictures.offer)
    tasks = [asyncio.create_task(work()) for work in (outbox.run, pictures.run)]
    yield outbox
    for task in tasks:
        task.cancel()


async def test_a_picture_when_it_opens_and_one_when_it_rises(slack: FakeFiles, outbox: Outbox) -> None:
    """Each in the thread of the message, as a PNG that a phone shows whole."""
    outbox.desire(WARNING)
    await slack.until(lambda: len(slack.pictures("#alerts")) == 1)
    outbox.desire(CRITICAL)
    await slack.until(lambda: len(slack.pictures("#alerts")) == 2)
    (message,) = slack.messages("#alerts")
    for shown, word in zip(slack.pictures("#alerts"), ("WARNING", "CRITICAL"), strict=True):
        assert shown.thread_ts == message.ts
        assert shown.title == f"{word}: disk-space on web-1"
        assert Image.open(io.BytesIO(shown.body)).size == (800, 440)


async def test_an_alert_does_not_wait_for_a_picture(slack: FakeFiles, outbox: Outbox) -> None:
    """While an upload gets no answer, the next incident is told."""
    slack.fail(silence("files.getUploadURLExternal"))
    outbox.desire(WARNING)
    await slack.until(lambda: slack.called("files.getUploadURLExternal"))
    began = time.monotonic()
    outbox.desire(replace(WARNING, id="inc_2"))
    await slack.until(lambda: len(slack.messages("#alerts")) == 2)
    assert not [call for call in slack.called("files.getUploadURLExternal") if call.at > began]


async def test_without_the_scope_all_is_told_all_the_same(slack: FakeFiles, outbox: Outbox) -> None:
    """One question is asked, and the queue is not parked for it."""
    slack.scopes -= {"files:write"}
    outbox.desire(WARNING)
    await slack.until(lambda: slack.called("files.getUploadURLExternal"))
    outbox.desire(replace(WARNING, id="inc_2"))
    await slack.until(lambda: len(slack.messages("#alerts")) == 2)
    assert len(slack.called("files.getUploadURLExternal")) == 1
