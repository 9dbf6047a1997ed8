"""Who writes to Slack when: hosts, a collector that lives and dies, and hosts that are gone."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.model import Metric, ProbeResult
from tests.fakes.slack import FakeSlack
from tests.fakes.slack_records import Said
from tests.handover.fleet import TOKEN, Collector, Host
from tests.handover.run import run
from tests.integration.agents import Make
from tests.services import Mosquitto

pytestmark = pytest.mark.services


@pytest.fixture
async def slack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as server:
        server.add_channel("#alerts")
        monkeypatch.setenv(TOKEN, server.token)
        monkeypatch.setenv("TEST_SLACK", server.token)
        yield server
        assert not server.violations


def table(slack: FakeSlack) -> str:
    return (
        f'[slack]\nbot_token = {{ env = "{TOKEN}" }}\nbase_url = "{slack.url}"\ntimeout = "2s"\ntakeover_after = "2s"\n'
    )


@pytest.mark.timeout(180)
async def test_nothing_is_lost_or_doubled_while_the_collector_dies_again_and_again(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    """A small one of what `python -m tests.handover` does with fifty hosts and twenty kills."""
    verdict = await run(tmp_path, mosquitto, hosts=8, kills=4, transitions=40, seed=11, say=lambda text: None)
    print(verdict)
    assert verdict.clean, [verdict.lost, verdict.doubled, verdict.stale]


async def test_a_host_that_is_killed_is_told_by_the_collector(
    make: Make, mosquitto: Mosquitto, slack: FakeSlack, tmp_path: Path
) -> None:
    """In seconds; what it had open stays as it was; its return goes on with the very same messages."""
    collector = Collector(tmp_path, mosquitto.url, slack, table(slack))
    collector.start()
    agent = make(mosquitto.url, slack=slack, more='takeover_after = "2s"')
    agent.start()

    def titles() -> list[str]:
        return [said.text for said in slack.messages("#alerts")]

    try:
        await agent.says("another writes to Slack for this host", 1)
        agent.level.write_text("60")  # the collector tells of it, so that it has heard the host
        await slack.until(lambda: any(text.startswith("WARNING: level") for text in titles()), 30)
        killed = time.monotonic()
        agent.kill()
        await slack.until(lambda: any(text.startswith("CRITICAL: host on t-1") for text in titles()), 15)
        took = time.monotonic() - killed
        print(f"told {took:.1f} s after kill -9")
        assert sorted(text.split(":")[0] for text in titles()) == ["CRITICAL", "WARNING"], (
            "its incident is not resolved"
        )
        agent.start()
        await slack.until(lambda: "RESOLVED: host on t-1" in titles(), 30)
        agent.level.write_text("10")
        await slack.until(lambda: all(text.startswith("RESOLVED") for text in titles()), 30)
        assert len(titles()) == 2, "the same messages, edited"
    finally:
        collector.kill()
        agent.end()


async def test_a_collector_that_stops_hands_back_at_once(
    make: Make, mosquitto: Mosquitto, slack: FakeSlack, tmp_path: Path
) -> None:
    """A clean stop needs no silence to be noticed: the host writes the next message itself."""
    collector = Collector(tmp_path, mosquitto.url, slack, table(slack))
    collector.start()
    agent = make(mosquitto.url, slack=slack, more='takeover_after = "20s"')
    agent.start()
    try:
        await agent.says("another writes to Slack for this host", 1)
        assert collector._process is not None
        collector._process.terminate()
        await agent.says("now=itself")
        agent.level.write_text("95")
        await slack.until(lambda: slack.messages("#alerts"), 10)
    finally:
        collector.kill()
        agent.end()


async def test_a_reload_changes_who_writes(make: Make, mosquitto: Mosquitto, slack: FakeSlack, tmp_path: Path) -> None:
    """To the host itself, over a while in which nobody writes; and back to the collector, whose routes it compares."""
    collector = Collector(tmp_path, mosquitto.url, slack, table(slack))
    collector.start()
    agent = make(mosquitto.url, slack=slack, more='takeover_after = "2s"')
    auto = agent.config.read_text()
    agent.start()
    try:
        await agent.says("before=itself")
        agent.config.write_text(auto.replace('after = "2s"', 'after = "1s"\ndeliver = "direct"'))
        agent.signal(signal.SIGHUP)
        await agent.says("a change takes hold with the next start only key=slack.takeover_after")
        await agent.says("before=- now=itself")
        agent.level.write_text("60")
        await slack.until(lambda: slack.messages("#alerts"), 20)
        agent.config.write_text(auto)
        agent.signal(signal.SIGHUP)
        await agent.says("before=itself", 2)
        assert "channel or routes" not in agent.log
        agent.config.write_text(auto.replace('after = "2s"', 'after = "2s"\nchannel = "#other"'))
        agent.signal(signal.SIGHUP)
        await agent.says("the collector's [slack] channel or routes are not those of this host")
        agent.level.write_text("10")
        await slack.until(lambda: slack.messages("#alerts")[0].text.startswith("RESOLVED"), 20)
        assert len(slack.messages("#alerts")) == 1
    finally:
        collector.kill()
        agent.end()


@pytest.mark.timeout(240)
async def test_a_storm_outlives_the_collector_that_began_it(
    mosquitto: Mosquitto, slack: FakeSlack, tmp_path: Path
) -> None:
    """kill -9 just as one more stands in the thread: the hosts go on there, and what it says is right in the end."""
    settings = table(slack) + "storm_after = 2\n"
    collector = Collector(tmp_path, mosquitto.url, slack, settings)
    collector.start()
    host = Host(tmp_path, 0, mosquitto.url, settings)

    def levels(*values: float) -> None:
        metrics = tuple(Metric("switch.level", value, labels={"part": str(n)}) for n, value in enumerate(values))
        host.daemon._take(ProbeResult("switch", time.time(), "ok", 0.0, metrics))

    def storms() -> list[Said]:
        return [said for said in slack.messages("#alerts") if "storm of" in said.text]

    def says(text: str) -> bool:
        return any(text in said.everything for said in storms())

    def in_thread() -> list[Said]:
        return [said for storm in storms() for said in slack.replies("#alerts", storm.ts)]

    try:
        await host.started()
        await slack.until(lambda: host.writer, 30)
        levels(*[60] * 4)
        await slack.until(storms, 30)
        inside = 5 - len(slack.messages("#alerts"))
        await slack.until(lambda: says(f"{inside} warning open; each is in the thread"), 30)
        before = len(in_thread())
        await slack.until(lambda: len(in_thread()) > before, 30)
        collector.kill()
        await slack.until(lambda: len(in_thread()) == inside, 60)
        assert not host.writer
        levels(*[60] * 3, 10)
        await slack.until(lambda: not host.unfinished(), 30)
        assert says(f"{inside} warning open"), "nobody but the collector edits it"
        collector.start()
        await slack.until(lambda: says(f"{inside - 1} warning open; each is in the thread"), 60)
        levels(*[10] * 4)
        await slack.until(lambda: says("all of them are over"), 60)
        await slack.until(lambda: not host.unfinished(), 60)
        told = slack.messages("#alerts") + in_thread()
        assert all("RESOLVED" in said.text for said in told)
        assert len(told) == 5, "four and their storm"
    finally:
        collector.kill()
        await host.stop()
