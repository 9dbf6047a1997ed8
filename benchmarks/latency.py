"""From the sample that shows a breach to the POST that reaches Slack, and beside it the SDK's own part.

Engine, state on disk, outbox and sender are the real ones; Slack is the stand-in, in the same process.
Every breach goes to a channel of its own, so that the pace of one post a second per channel is not measured.
"""

from __future__ import annotations

import asyncio
import logging
import os
import statistics
import time
from pathlib import Path

from agent.alerting.engine import Engine
from agent.alerting.outbox import Outbox
from agent.clock import SystemClock
from agent.config.schema import SlackConfig, SlackRoute, ThresholdConfig
from agent.config.secret import Secret
from agent.config.units import Quantity
from agent.model import Metric, ProbeResult
from agent.slack.sender import SlackMessenger
from tests.fakes.slack import FakeSlack

TOKEN = "TOCSIN_BENCH_TOKEN"


logging.disable(logging.WARNING)


async def _run(directory: Path, count: int) -> dict[str, list[float]]:
    clock = SystemClock()
    async with FakeSlack() as slack:
        os.environ[TOKEN] = slack.token
        config = SlackConfig(bot_token=Secret("env", TOKEN), base_url=slack.url)
        rule = ThresholdConfig(name="bench", metric="bench.value", warning=Quantity(1))
        engine = await Engine.open(directory / "alerts.db", [rule], "bench", clock)
        routes = [SlackRoute(match={"item": str(number)}, channel=f"#c{number}") for number in range(count)]
        outbox = Outbox(engine.state, SlackMessenger(config), clock, channel="#alerts", routes=routes)
        worker = asyncio.create_task(outbox.run())
        seconds = []
        for number in range(count):
            slack.add_channel(f"#c{number}")
            sample = Metric("bench.value", 5.0, labels={"item": str(number)})
            begun = time.monotonic()
            for incident, _ in engine.observe(ProbeResult("bench", clock.now(), "ok", 0.0, (sample,))):
                outbox.desire(incident)
            await slack.until(lambda posts=number + 1: len(slack.called("chat.postMessage")) >= posts)
            seconds.append(slack.called("chat.postMessage")[-1].at - begun)
        worker.cancel()
        await engine.aclose()
        return {"sample -> POST": seconds[1:], "SDK alone": await _sdk(slack, count)}


async def _sdk(slack: FakeSlack, count: int) -> list[float]:
    from slack_sdk import WebClient  # noqa: PLC0415 - measured against, not used

    client = WebClient(slack.token, base_url=slack.url, retry_handlers=[])
    slack.add_channel("#sdk")
    seconds = []
    for number in range(count):
        begun = time.monotonic()
        await asyncio.to_thread(client.chat_postMessage, channel=f"#c{number % count}", text="x")
        seconds.append(slack.called("chat.postMessage")[-1].at - begun)
    return seconds[1:]


def measure(directory: Path, count: int) -> dict[str, list[float]]:
    """Seconds of each of `count` breaches; the first is left out, since it imports the SDK."""
    directory.mkdir()
    return asyncio.run(_run(directory, count))


def table(figures: dict[str, list[float]]) -> str:
    lines = ["breach to Slack, ms", f"{'':16} {'p50':>8} {'p95':>8} {'max':>8}"]
    for name, seconds in figures.items():
        ranked = sorted(seconds)
        p95 = ranked[int(len(ranked) * 0.95)]
        lines.append(f"{name:16} {statistics.median(ranked) * 1e3:8.1f} {p95 * 1e3:8.1f} {ranked[-1] * 1e3:8.1f}")
    return "\n".join(lines)
