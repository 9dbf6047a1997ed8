"""What an alert says beyond its figure, through the daemon as a process: the probe's own word, and suspects."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

import pytest

from tests.fakes.slack import FakeSlack
from tests.integration.agents import Make
from tests.services import free_port

TALKING = '''\
"""A level that can say what is behind it, after a while."""

import asyncio
from pathlib import Path

from agent.plugin import Evidence, Labels, Metric, Options, Probe, gauge


class TalkingOptions(Options, frozen=True):
    path: str


class Talking(Probe):
    options: TalkingOptions

    async def collect(self) -> list[Metric]:
        return [gauge("talking.level", float(Path(self.options.path).read_text()))]

    async def evidence(self, metric: str, labels: Labels) -> list[Evidence]:
        await asyncio.sleep(0.3)
        return [Evidence("Who did it", (f"the <butler> at {metric}", "with the candlestick"))]
'''
RULES = """
[[thresholds]]
name = "talk"
metric = "talking.level"
warning = 50
critical = 90
[[thresholds]]
name = "cpu"
metric = "cpu.used_percent"
op = ">"
warning = -1
"""


@pytest.mark.services
async def test_what_is_found_out_later_is_edited_into_the_message(make: Make) -> None:
    """The message is out before the probe has spoken; a rise does not lose its reply."""
    async with FakeSlack() as slack:
        slack.add_channel("#alerts")
        agent = make(f"mqtt://127.0.0.1:{free_port()}", slack=slack)
        (agent.directory / "plugins" / "talking.py").write_text(TALKING)
        (agent.directory / "plugins" / "talking.py").chmod(0o644)
        agent.config.write_text(f'{agent.text}\n[probes.talking]\ninterval = "200ms"\npath = "{agent.level}"\n{RULES}')
        agent.start()
        await agent.says("agent started")
        agent.level.write_text("60")
        await slack.until(lambda: slack.messages("#alerts"))
        (message,) = slack.messages("#alerts")
        assert "Who did it" not in message.everything
        assert "in the hour before" in message.everything
        await slack.until(lambda: "Who did it" in message.everything)
        assert "the &lt;butler&gt; at talking.level\nwith the candlestick" in message.everything
        agent.level.write_text("95")
        await slack.until(lambda: slack.replies("#alerts", message.ts))
        assert "Now CRITICAL" in slack.replies("#alerts", message.ts)[0].text
        assert await agent.stop() < 10


@pytest.mark.services
async def test_suspects_are_in_the_first_message(make: Make) -> None:
    """What the probes have just measured needs no look: who takes the CPU stands there at once."""
    async with FakeSlack() as slack, spinning():
        slack.add_channel("#alerts")
        busy = '[probes.processes]\ninterval = "300ms"\n[probes.cpu]\ninterval = "300ms"\n'
        agent = make(f"mqtt://127.0.0.1:{free_port()}", slack=slack, more=busy)
        agent.config.write_text(f'{agent.text}{RULES}for = "2s"\n')
        agent.start()
        await slack.until(lambda: slack.messages("#alerts"))
        assert "Top processes by CPU" in str(slack.called("chat.postMessage")[0].arguments["attachments"])
        assert await agent.stop() < 10


@contextlib.asynccontextmanager
async def spinning() -> AsyncIterator[None]:
    """Somebody takes the CPU: on an idle machine there would be no suspect in most samples."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
    try:
        yield
    finally:
        process.kill()
        await process.wait()
