"""From a breach to Slack over HTTP, with the whole of alerting real: engine, state file, outbox, SDK."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.alerting.engine import Engine
from agent.alerting.outbox import Outbox
from agent.clock import SystemClock
from agent.config.schema import SlackConfig, SlackRoute, ThresholdConfig
from agent.config.secret import Secret
from agent.config.units import Duration, Quantity
from agent.model import ProbeResult
from agent.plugin import gauge
from agent.slack.sender import SlackMessenger
from agent.slack.terminal import TerminalMessenger
from tests.fakes import slack as fake
from tests.fakes.slack import FakeSlack

MEMORY = ThresholdConfig(
    name="Memory", metric="memory.used_percent", warning=Quantity(80, "percent"), critical=Quantity(90, "percent")
)
GREEN, YELLOW, RED = "#2eb67d", "#ecb22e", "#e01e5a"


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as server:
        server.add_channel("#alerts")
        yield server
        assert not server.violations, "a call inside a Retry-After window"


@pytest.fixture(autouse=True)
def token(slack: FakeSlack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SLACK_TOKEN", slack.token)


def config(slack: FakeSlack, timeout: float = 1) -> SlackConfig:
    token = Secret("env", "FAKE_SLACK_TOKEN")
    return SlackConfig(bot_token=token, base_url=slack.url, timeout=Duration(timeout))


class Alerting:
    """What the daemon joins: results go to the engine, and what it says to the outbox."""

    def __init__(self, engine: Engine, outbox: Outbox) -> None:
        self.engine = engine
        self.outbox = outbox

    def memory(self, used: float, host: str = "web-1") -> None:
        metrics = (gauge("memory.used_percent", used, "percent"),)
        for incident, _ in self.engine.observe(ProbeResult("memory", time.time(), "ok", 0.001, metrics)):
            self.outbox.desire(incident)


@contextlib.asynccontextmanager
async def alerting(
    path: Path, slack: FakeSlack, *, routes: tuple[SlackRoute, ...] = (), timeout: float = 1
) -> AsyncIterator[Alerting]:
    clock = SystemClock()
    engine = await Engine.open(path / "alerts.db", [MEMORY], "web-1", clock)
    outbox = Outbox(engine.state, SlackMessenger(config(slack, timeout)), clock, channel="#alerts", routes=routes)
    worker = asyncio.create_task(outbox.run())
    try:
        yield Alerting(engine, outbox)
    finally:
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker
        await engine.aclose()


async def test_one_message_is_opened_escalated_and_turned_green(slack: FakeSlack, tmp_path: Path) -> None:
    """A breach is one message within two seconds; rise and recovery edit it and reply in its thread."""
    async with alerting(tmp_path, slack) as alerts:
        began = time.monotonic()
        alerts.memory(85)
        await slack.until(lambda: slack.messages("#alerts"), 2)
        assert time.monotonic() - began <= 2
        [said] = slack.messages("#alerts")
        assert "WARNING" in said.text
        assert "85 %" in said.everything
        assert said.colour == YELLOW
        alerts.memory(95)
        await slack.until(lambda: len(slack.replies("#alerts", said.ts)) == 1)
        assert (said.colour, said.edits) == (RED, 1)
        assert "CRITICAL" in said.text
        assert slack.replies("#alerts", said.ts)[0].broadcast
        alerts.memory(40)
        await slack.until(lambda: len(slack.replies("#alerts", said.ts)) == 2)
        assert (said.colour, said.edits) == (GREEN, 2)
        assert "RESOLVED" in said.text
        assert "95 %" in slack.replies("#alerts", said.ts)[1].text
        assert slack.messages("#alerts") == [said]


async def test_a_restart_in_between_changes_nothing(slack: FakeSlack, tmp_path: Path) -> None:
    """Each step of an incident's life in a process of its own: still one message, edited."""
    for index, used in enumerate((85.0, 95.0, 95.0, 85.0, 40.0)):
        async with alerting(tmp_path, slack) as alerts:
            alerts.memory(used)
            await slack.until(lambda: all(row.state == "delivered" for row in alerts.outbox.shown()))
            assert len(alerts.engine.incidents()) == (index < 4)
    [said] = slack.messages("#alerts")
    assert said.colour == GREEN
    assert [reply.broadcast for reply in slack.replies("#alerts", said.ts)] == [True, False]


async def test_429_then_500_then_a_hang_is_delivered_once(slack: FakeSlack, tmp_path: Path) -> None:
    """The three faults one after the other: one message, and no call inside the Retry-After window."""
    slack.fail(fake.rate_limited(3), fake.html(500), fake.silence())
    async with alerting(tmp_path, slack) as alerts:
        alerts.memory(85)
        await slack.until(lambda: slack.messages("#alerts"), 30)
        await slack.until(lambda: alerts.outbox.shown()[0].state == "delivered")
        assert len(slack.messages("#alerts")) == 1
        first, second = slack.calls[:2]
        assert second.at - first.at >= 3
        assert slack.faults_left == 0


@pytest.mark.parametrize("fault", [fake.unanswered(), fake.silence(), fake.reset(), fake.empty(), fake.html(503)])
async def test_a_post_that_may_have_arrived_is_looked_for_first(
    slack: FakeSlack, tmp_path: Path, fault: fake.Fault
) -> None:
    """Whether or not Slack took it: one message in the end, and history is read before anything is sent again."""
    slack.fail(fault)
    async with alerting(tmp_path, slack) as alerts:
        alerts.memory(85)
        await slack.until(lambda: alerts.outbox.shown()[0].state == "delivered", 30)
    assert len(slack.messages("#alerts")) == 1
    methods = [call.method for call in slack.calls]
    assert methods[:3] == ["chat.postMessage", "conversations.list", "conversations.history"]
    assert methods.count("chat.postMessage") == (1 if fault.kind == "unanswered" else 2)


async def test_a_reply_that_may_have_arrived_is_looked_for_in_its_thread(slack: FakeSlack, tmp_path: Path) -> None:
    """The thread is told of the recovery once, though the answer to it was lost."""
    async with alerting(tmp_path, slack) as alerts:
        alerts.memory(85)
        await slack.until(lambda: slack.messages("#alerts"))
        slack.fail(fake.unanswered("chat.postMessage"))
        alerts.memory(40)
        await slack.until(lambda: slack.called("conversations.replies"))
        await slack.until(lambda: alerts.outbox.shown()[0].state == "delivered")
    [said] = slack.messages("#alerts")
    assert len(slack.replies("#alerts", said.ts)) == 1


async def test_a_deleted_message_is_posted_anew(slack: FakeSlack, tmp_path: Path) -> None:
    """Somebody removed it: the recovery is not lost with it."""
    async with alerting(tmp_path, slack) as alerts:
        alerts.memory(85)
        await slack.until(lambda: slack.messages("#alerts"))
        slack.delete(slack.messages("#alerts")[0])
        alerts.memory(40)
        await slack.until(lambda: slack.messages("#alerts"))
        assert slack.messages("#alerts")[0].colour == GREEN


async def test_a_channel_at_fault_gives_way_to_the_default(slack: FakeSlack, tmp_path: Path) -> None:
    """An archived channel costs nothing but the place; the mention comes along."""
    slack.add_channel("#team", archived=True)
    routes = (SlackRoute(severity="critical", channel="#team", mention="@here"),)
    async with alerting(tmp_path, slack, routes=routes) as alerts:
        alerts.memory(95)
        await slack.until(lambda: slack.messages("#alerts"))
        assert slack.messages("#alerts")[0].pings == ["!here"]


async def test_a_malformed_message_is_sent_once_more_and_smaller(slack: FakeSlack, tmp_path: Path) -> None:
    """Whatever Slack dislikes in the blocks, the one line gets out."""
    slack.fail(fake.refused("invalid_blocks"))
    async with alerting(tmp_path, slack) as alerts:
        alerts.memory(85)
        await slack.until(lambda: slack.messages("#alerts"))
        [said] = slack.messages("#alerts")
        assert said.blocks == []
        assert "WARNING" in said.text


async def test_a_refused_token_parks_everything(slack: FakeSlack, tmp_path: Path) -> None:
    """No hammering with a token that does not work; the state says why."""
    slack.token = "another"
    async with alerting(tmp_path, slack) as alerts:
        alerts.memory(85)
        await slack.until(lambda: alerts.outbox.shown()[0].error)
        [row] = alerts.outbox.shown()
        assert (row.state, row.error) == ("pending", "invalid_auth")
        assert row.next_try == pytest.approx(time.time() + 300, abs=30)
        assert len(slack.calls) == 1


async def test_a_token_that_is_none_is_told_to_nobody(
    slack: FakeSlack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A credential of two lines makes no header; the error that goes to the log and the dashboard does not hold it."""
    monkeypatch.setenv("FAKE_SLACK_TOKEN", "first-line-secret\nsecond")
    async with alerting(tmp_path, slack) as alerts:
        alerts.memory(85)
        await slack.until(lambda: alerts.outbox.shown()[0].error)
        assert alerts.outbox.shown()[0].error.startswith("invalid_auth")
        assert "secret" not in repr(alerts.outbox.shown())
    assert not any("secret" in repr(vars(record)) for record in caplog.records)


async def test_what_is_warm_is_ready(slack: FakeSlack) -> None:
    """The client is there before the first alert; a token that cannot be read does not matter yet."""
    messenger = SlackMessenger(config(slack))
    messenger.warm()
    await slack.until(lambda: messenger._client is not None)
    missing = SlackMessenger(SlackConfig(bot_token=Secret("env", "NO_SUCH_TOKEN"), base_url=slack.url))
    missing._warm()
    assert missing._client is None


async def test_slack_away_at_the_start_and_back_later(slack: FakeSlack, tmp_path: Path) -> None:
    """Nothing listens at first; when Slack is there, the message is, too - as things stand by then."""
    away = config(slack)
    clock = SystemClock()
    engine = await Engine.open(tmp_path / "alerts.db", [MEMORY], "web-1", clock)
    messenger = SlackMessenger(away)
    messenger._base_url = "http://127.0.0.1:1/api/"
    outbox = Outbox(engine.state, messenger, clock)
    worker = asyncio.create_task(outbox.run())
    alerts = Alerting(engine, outbox)
    alerts.memory(85)
    await slack.until(lambda: outbox.shown()[0].error.startswith("unreachable"))
    alerts.memory(95)
    messenger._client, messenger._base_url = None, slack.url
    await slack.until(lambda: outbox.shown()[0].state == "delivered")
    worker.cancel()
    await engine.aclose()
    [said] = slack.messages("#alerts")
    assert said.colour == RED
    assert not slack.replies("#alerts", said.ts)


async def test_a_token_that_comes_later_takes_over(slack: FakeSlack, tmp_path: Path) -> None:
    """What was printed on the terminal goes on in Slack, as a message of its own."""
    clock, printed = SystemClock(), io.StringIO()
    engine = await Engine.open(tmp_path / "alerts.db", [MEMORY], "web-1", clock)
    outbox = Outbox(engine.state, TerminalMessenger("http://127.0.0.1:8420", printed), clock)
    worker = asyncio.create_task(outbox.run())
    alerts = Alerting(engine, outbox)
    alerts.memory(85)
    await slack.until(lambda: outbox.shown()[0].state == "delivered")
    alerts.memory(95)
    await slack.until(lambda: "[CRITICAL: Memory on web-1]" in printed.getvalue())
    worker.cancel()
    await engine.aclose()
    assert printed.getvalue().startswith("[WARNING: Memory on web-1]\n")
    assert outbox.shown()[0].channel == "terminal", "nobody in Slack was told"
    async with alerting(tmp_path, slack) as alerts:
        alerts.memory(40)
        await slack.until(lambda: alerts.outbox.shown()[0].state == "delivered")
    [said] = slack.messages("#alerts")
    assert said.colour == GREEN


async def test_a_channel_made_anew_under_its_old_name_is_found(slack: FakeSlack, tmp_path: Path) -> None:
    """Its id is another one: the one we knew is forgotten, and the name used again."""
    slack.add_channel("#team")
    routes = (SlackRoute(channel="#team"),)
    async with alerting(tmp_path, slack, routes=routes) as alerts:
        alerts.memory(85)
        await slack.until(lambda: slack.messages("#team"))
        slack.remove_channel("#team")
        slack.add_channel("#team")
        alerts.memory(40)
        await slack.until(lambda: slack.messages("#alerts"))
        alerts.memory(85)
        await slack.until(lambda: slack.messages("#team"))


_VICTIM = """
    import asyncio, sys, time
    from pathlib import Path
    from agent.alerting.engine import Engine
    from agent.alerting.outbox import Outbox
    from agent.clock import SystemClock
    from agent.config.schema import SlackConfig, ThresholdConfig
    from agent.config.secret import Secret
    from agent.config.units import Duration, Quantity
    from agent.model import ProbeResult
    from agent.plugin import gauge
    from agent.slack.sender import SlackMessenger

    async def main() -> None:
        rule = ThresholdConfig(name="Memory", metric="memory.used_percent", warning=Quantity(80), critical=Quantity(90))
        clock = SystemClock()
        engine = await Engine.open(Path(sys.argv[1]), [rule], "web-1", clock)
        slack = SlackConfig(
            bot_token=Secret("env", "FAKE_SLACK_TOKEN"), base_url=sys.argv[2], timeout=Duration(1), channel="#alerts"
        )
        outbox = Outbox(engine.state, SlackMessenger(slack), clock)
        worker = asyncio.create_task(outbox.run())
        metrics = (gauge("memory.used_percent", float(sys.argv[3]), "percent"),)
        for incident, _ in engine.observe(ProbeResult("memory", time.time(), "ok", 0.001, metrics)):
            outbox.desire(incident)
        while not all(row.state == "delivered" for row in outbox.shown()):
            await asyncio.sleep(0.005)
        print("delivered", flush=True)
        await worker

    asyncio.run(main())
"""


async def test_kill_9_at_any_moment_neither_loses_nor_doubles(slack: FakeSlack, tmp_path: Path) -> None:
    """Killed around its calls, three times per step: one message and one reply per rise and recovery in the end."""
    script = tmp_path / "victim.py"
    script.write_text(textwrap.dedent(_VICTIM))
    for used in ("85", "95", "40"):
        for calls in (1, 2):  # killed when it has made so many, the post among them without an answer
            slack.fail(fake.unanswered("chat.postMessage"))
            await _live_and_die(script, tmp_path, slack, used, calls)
        await _live_and_die(script, tmp_path, slack, used, None)
    [said] = slack.messages("#alerts")
    assert said.colour == GREEN
    assert len(slack.replies("#alerts", said.ts)) == 2


async def _live_and_die(script: Path, directory: Path, slack: FakeSlack, used: str, calls: int | None) -> None:
    """One process from its start to SIGKILL, after so many calls, or once all is delivered."""
    root, before = Path(__file__).parents[2], len(slack.calls)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(script), str(directory / "alerts.db"), slack.url, used),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root), "FAKE_SLACK_TOKEN": slack.token},
        cwd=directory,
    )
    assert process.stdout is not None
    delivered = asyncio.create_task(process.stdout.readline())
    if calls is None:
        assert await asyncio.wait_for(delivered, 40) == b"delivered\n"
    else:
        await slack.until(lambda: len(slack.calls) >= before + calls or delivered.done())
    process.kill()
    await process.wait()
    await delivered
    slack.calm()


async def test_the_channel_sees_that_nobody_has_taken_it(slack: FakeSlack, tmp_path: Path) -> None:
    """Whoever reads no threads misses it no longer; a reminder stays in the thread."""
    calls = SlackRoute(escalate_after=Duration(1), escalate_to="U0BOSS", remind_every=Duration(2))
    async with alerting(tmp_path, slack, routes=(calls,)) as alerts:
        alerts.memory(85)
        await slack.until(lambda: slack.messages("#alerts"))
        [said] = slack.messages("#alerts")
        await slack.until(lambda: len(slack.replies("#alerts", said.ts)) == 2)
    told = [(reply.broadcast, reply.pings) for reply in slack.replies("#alerts", said.ts)]
    assert told == [(True, ["@U0BOSS"]), (False, [])]
