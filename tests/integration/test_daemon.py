"""The daemon as a process: started by the command line, on real files, a real broker and the stand-in Slack."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.clock import SystemClock
from agent.collector.service import Collector
from agent.config.schema import MqttConfig
from agent.errors import EXIT_UNAVAILABLE
from agent.transport.mqtt import Link, Message, Session
from tests.fakes.slack import FakeSlack, html, rate_limited, silence
from tests.integration.agents import Make, collecting, gone, waiting
from tests.services import Mosquitto, eventually, free_port

# -- everything absent


@pytest.mark.services
async def test_with_everything_absent_it_runs_and_all_arrives_later(make: Make, tmp_path: Path) -> None:
    """No broker, database or Slack at start: it spools and alerts in its log; when they come, nothing is missing."""
    broker = Mosquitto(tmp_path / "mosquitto")
    slack_port = free_port()
    slack = FakeSlack(port=slack_port)
    slack.url = f"http://127.0.0.1:{slack_port}/api/"
    agent = make(broker.url, slack=slack)
    agent.level.write_text("60")
    agent.start()
    await agent.says("incident changed")
    await agent.says("broker cannot be used")
    await agent.says("delivery failed")
    await eventually(lambda: len(waiting(agent)) > 10, "envelopes in the spool")
    before = waiting(agent)
    slack.add_channel("#alerts")
    broker.start()
    try:
        async with slack, collecting(tmp_path, broker.url) as collector:
            await slack.until(lambda: slack.messages("#alerts"))
            await eventually(lambda: gone(agent, before), "all of the outage acknowledged")
            [incident], _ = await collector.reader.incidents("t-1", "open", 10, "")
            assert msg(incident)["threshold"] == "level"
            assert collector.stats.conflicts == collector.stats.quarantined == 0
            assert await agent.stop() < 10
    finally:
        broker.stop()


def msg(row: Any) -> dict[str, Any]:
    """A row of the reader as a dict, whatever its type."""
    if isinstance(row, dict):
        return row
    return {name: getattr(row, name) for name in getattr(row, "__struct_fields__", None) or row.__dataclass_fields__}


@pytest.mark.services
async def test_what_is_open_is_retained_again_by_a_new_broker_for_a_new_agent(make: Make, tmp_path: Path) -> None:
    """The collector has had it, so the spool has not: after the restart of both it stands on the broker as before."""
    broker = Mosquitto(tmp_path / "mosquitto")
    broker.start()
    agent = make(broker.url)
    agent.level.write_text("60")
    try:
        async with collecting(tmp_path, broker.url) as collector:
            async with incidents(broker.url) as seen:
                agent.start()
                await eventually(lambda: seen, "the incident on the broker")
                before = waiting(agent)
                await eventually(lambda: gone(agent, before), "all acknowledged")
            await agent.stop()
            broker.stop()
            broker.start()
            [incident], _ = await collector.reader.incidents("t-1", "open", 10, "")
            agent.start()
            async with incidents(broker.url) as seen:
                await eventually(lambda: seen, "the incident on the broker again", 10)
            assert seen[0].topic == f"tocsin/v1/t-1/incidents/{msg(incident)['id']}"
            await agent.stop()
            assert collector.stats.conflicts == collector.stats.quarantined == 0
            assert len(await collector.reader.transitions(msg(incident)["id"])) == msg(incident)["version"]
    finally:
        broker.stop()


async def test_restarts_fill_no_spool_with_what_waits_there(make: Make) -> None:
    """Nobody has acknowledged it yet: it is in the spool, and comes by itself."""
    agent = make(f"mqtt://127.0.0.1:{free_port()}")
    agent.level.write_text("60")
    for times in (1, 2, 3):
        before = waiting(agent)
        agent.start()
        await agent.says("agent started", times)
        await eventually(lambda known=before: len(waiting(agent) - known) > 5, "results of this process")
        await agent.stop()
    with contextlib.closing(sqlite3.connect(agent.spool)) as spool:
        [(kept,)] = spool.execute("SELECT count(*) FROM envelopes WHERE topic LIKE '%/incidents/%'")
    assert kept == agent.log.count("incident changed")


@contextlib.asynccontextmanager
async def incidents(broker: str) -> AsyncIterator[list[Message]]:
    """What a stranger hears of them, the retained ones first."""
    seen: list[Message] = []
    topic = "tocsin/v1/t-1/incidents/+"
    link = Link(MqttConfig(url=broker), identifier="stranger", subscriptions=[topic], clock=SystemClock())

    async def look(session: Session) -> None:
        async for message in session.messages():
            seen.append(message)  # noqa: PERF401 - as they come

    task = asyncio.create_task(link.run(look))
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.wait({task})


# -- from breach to Slack


@pytest.mark.services
async def test_a_breach_is_one_message_through_kill_and_restart(make: Make) -> None:
    """No broker: one message ≤ 2 s after the breach; rise and recovery edit it, kill -9 in between doubles nothing."""
    async with FakeSlack() as slack:
        slack.add_channel("#alerts")
        agent = make(f"mqtt://127.0.0.1:{free_port()}", slack=slack)
        agent.start()
        await agent.says("agent started")
        agent.level.write_text("60")
        began = time.monotonic()
        await slack.until(lambda: slack.messages("#alerts"))
        assert slack.calls[0].at - began < 2.2  # two seconds after the sample, which comes every 0.2 s
        await agent.says("incident delivered")
        agent.kill()
        agent.start()
        await agent.says("agent started", 2)
        agent.level.write_text("95")
        [said] = slack.messages("#alerts")
        await slack.until(lambda: said.edits >= 1 and slack.replies("#alerts", said.ts))
        agent.kill()
        agent.level.write_text("10")
        agent.start()
        await slack.until(lambda: "RESOLVED" in said.everything.upper())
        assert slack.messages("#alerts") == [said]
        assert slack.violations == []
        await agent.stop()


@pytest.mark.services
async def test_slacks_troubles_deliver_once(make: Make) -> None:
    """429 with Retry-After 3, then 500, then a hang: one message, no call inside the window."""
    async with FakeSlack() as slack:
        slack.add_channel("#alerts")
        slack.fail(rate_limited(3, "chat.postMessage"), html(500, "chat.postMessage"), silence("chat.postMessage"))
        agent = make(f"mqtt://127.0.0.1:{free_port()}", slack=slack)
        agent.level.write_text("60")
        agent.start()
        await slack.until(lambda: slack.messages("#alerts"), timeout=40)
        await agent.says("incident delivered")
        assert len(slack.messages("#alerts")) == 1
        assert slack.violations == []
        assert slack.faults_left == 0
        await agent.stop()


async def test_a_plugin_that_prints_costs_little(make: Make) -> None:
    """100 MB printed in each run: the log stays small, memory flat, the other probe on schedule."""
    agent = make(f"mqtt://127.0.0.1:{free_port()}")
    agent.config.write_text(f'{agent.text}[probes.flood]\ninterval = "300ms"\n')
    agent.start()
    await agent.says("prints too much")
    process = agent.process
    assert process is not None
    await asyncio.sleep(1)
    first = resident(process.pid)
    await asyncio.sleep(2)
    assert resident(process.pid) - first < 8 * 1024
    assert len(agent.log) < 64 * 1024
    await agent.stop()
    assert len(waiting(agent)) > 10


def resident(pid: int) -> int:
    """KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]


async def test_two_daemons_do_not_share_a_spool(make: Make) -> None:
    """The second one ends at once, says why, and harms nothing."""
    agent = make(f"mqtt://127.0.0.1:{free_port()}")
    agent.start()
    await agent.says("agent started")
    second = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "agent", "run", "-c", str(agent.config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode not in (0, -9)
    assert "Traceback" not in second.stderr
    assert re.search(rf"^tocsin: .*{agent.spool.parent}", second.stderr, re.MULTILINE)
    await agent.stop()


def test_a_state_directory_that_cannot_be(tmp_path: Path) -> None:
    """Exit 69, and the key to change."""
    (tmp_path / "file").touch()
    (tmp_path / "agent.toml").write_text(f'[agent]\nstate_dir = "{tmp_path}/file/state"\n')
    done = subprocess.run(
        [sys.executable, "-m", "agent", "run", "-c", str(tmp_path / "agent.toml")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == EXIT_UNAVAILABLE
    assert "agent.state_dir" in done.stderr


@pytest.mark.services
async def test_it_reports_about_itself(make: Make, mosquitto: Mosquitto, tmp_path: Path) -> None:
    """Its own figures travel as a probe named agent; health, deliveries and a will that is kept are retained."""
    agent = make(mosquitto.url, more="[probes.memory]\n")
    async with collecting(tmp_path, mosquitto.url) as found:
        collector = check(found)
        agent.start()

        def own() -> list[dict[str, Any]]:
            return [run for run in collector.fleet.latest("t-1") if run["probe"] == "agent"]

        runs = await eventually(own, "the daemon's own figures")
        names = {metric["name"] for metric in msg_metrics(runs[-1])}
        assert {"agent.spool_pending", "agent.unacked_age_seconds", "agent.memory_bytes"} <= names
        await eventually(lambda: "health.score" in {m["name"] for m in msg_metrics(own()[-1])}, "health")
        state = lambda: (collector.fleet.host("t-1") or {}).get("state")  # noqa: E731
        await eventually(lambda: state() == "online", "online")
        await eventually(lambda: (collector.fleet.host("t-1") or {}).get("health"), "health")
        await agent.stop()
        await eventually(lambda: state() == "offline", "offline")


def check(collector: Any) -> Collector:
    assert isinstance(collector, Collector)
    return collector


def msg_metrics(run: dict[str, Any]) -> list[dict[str, Any]]:
    return [metric if isinstance(metric, dict) else msg(metric) for metric in run["metrics"]]
