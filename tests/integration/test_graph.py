"""What `graph` answers: text at once, and a picture of the real samples in its thread."""

from __future__ import annotations

import asyncio
import io

import pytest
from PIL import Image

from agent.collector.service import Collector
from tests.fakes.slack import silence
from tests.integration.agents import Make
from tests.integration.office import Stage, only, ready, shown, whispers

pytestmark = pytest.mark.services
ASK = "graph t-1 switch.level 5m"


async def measured(stage: Stage, make: Make) -> None:
    agent = make(stage.broker)
    agent.level.write_text("42")
    agent.start()


async def test_a_graph_is_a_line_of_bars_and_then_a_picture(stage: Stage, make: Make) -> None:
    """In the thread of the one answer; of a mention, in the mention's."""
    slack = stage.slack
    await measured(stage, make)
    async with stage.office() as collector:
        await ready(stage, collector, "t-1")
        await drawable(collector)
        sent = await stage.asks(ASK)
        said = await only(slack, stage.ops, "newest 42")
        await slack.until(lambda: len(slack.pictures("#ops")) == 1)
        [picture] = slack.pictures("#ops")
        assert picture.thread_ts == said.ts
        assert picture.title == "switch.level on t-1"
        assert Image.open(io.BytesIO(picture.body)).format == "PNG"
        assert sent.in_time
        assert len(slack.messages("#ops")) == 1
        await slack.mention(ASK.replace("5m", "10m"), user="UADA", channel=stage.ops, thread_ts=said.ts)
        await slack.until(lambda: len(slack.pictures("#ops")) == 2)
        assert slack.pictures("#ops")[1].thread_ts == said.ts
    assert not slack.violations


async def test_nothing_waits_for_the_picture(stage: Stage, make: Make) -> None:
    """While an upload gets no answer: acknowledged in time, and all that is asked is answered. Ends at once, too."""
    slack = stage.slack
    await measured(stage, make)
    slack.fail(silence("files.getUploadURLExternal"))
    async with stage.office() as collector:
        await ready(stage, collector, "t-1")
        await drawable(collector)
        sent = [await stage.asks(ASK)]
        await slack.until(lambda: slack.called("files.getUploadURLExternal"))
        sent.append(await stage.asks("hosts"))
        await slack.until(lambda: "1 host" in shown(slack, stage.ops) and "newest 42" in shown(slack, stage.ops))
        assert all(one.in_time for one in sent)
        assert slack.pictures("#ops") == []


async def test_where_no_file_may_be_sent_the_text_stays(stage: Stage, make: Make) -> None:
    slack = stage.slack
    slack.scopes -= {"files:write"}
    await measured(stage, make)
    async with stage.office() as collector:
        await ready(stage, collector, "t-1")
        await drawable(collector)
        await stage.asks(ASK)
        await only(slack, stage.ops, "newest 42")
        await slack.until(lambda: slack.called("files.getUploadURLExternal"))
        for text, word in (
            ("graph t-2 switch.level", "No host is called"),
            ("graph t-1 switch.levl", "in the last 1 h; did you mean switch.level?"),
        ):
            await stage.asks(text)
            await slack.until(lambda word=word: any(word in said for said in whispers(slack)))
        assert slack.pictures("#ops") == []
        assert len(slack.messages("#ops")) == 1


async def drawable(collector: Collector) -> None:
    """Once there are samples to draw."""
    for _ in range(300):
        if await collector.reader.series("t-1", "switch.level", 0.0, 4e9):
            return
        await asyncio.sleep(0.05)
    pytest.fail("no samples")
