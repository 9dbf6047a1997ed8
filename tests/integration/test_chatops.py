"""From a person in Slack to a host and back: real collector, real broker, signed commands, one edited answer."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import aiohttp
import pytest

from agent.collector.chatops import fanout
from agent.commands.payload import Command, Reply
from tests.integration.agents import Make
from tests.integration.office import SIGNER, Stage, audited, only, ready, shown, whispers
from tests.services import eventually

pytestmark = pytest.mark.services


async def test_a_slash_command_reaches_hosts_and_one_message_tells_of_all(
    stage: Stage,
) -> None:
    """Acknowledged, signed, answered; edited as hosts answer; audited before and after, under the id of the user."""
    slack, ops = stage.slack, stage.ops

    def slow(command: Command) -> list[Reply]:
        return [host.reply(command, "accepted"), host.reply(command, "done", "disk 71 % <b>\nmore")]

    host = stage.host("web-1", slow)
    other = stage.host("web-2", lambda command: [other.reply(command, "refused", "not allowed here", reason="verb")])
    async with stage.office() as collector:
        await ready(stage, collector, "web-1", "web-2")
        sent = await stage.asks("probe web-* disk")
        said = await only(slack, ops, "1 done, 1 refused")
        assert sent.in_time
        assert sent.answer is not None
        assert sent.answer["response_type"] == "ephemeral"
        assert "disk 71 % &lt;b&gt;" in said.everything
        assert "not allowed here" in said.everything
        [command], [_] = host.ran, other.ran
        assert (command.verb, command.args, command.actor) == ("probe", {"name": "disk"}, "slack:UADA (admin)")
        assert 0 < command.not_after - command.issued_at <= 120
        [last] = await audited(collector, "failed")
        [first] = await audited(collector, "accepted")
        assert first["request"] == last["request"]
        assert (first["actor"], first["hosts"], first["text"]) == (
            "slack:UADA (admin)",
            ["web-1", "web-2"],
            "probe web-* disk",
        )
    assert slack.sockets.faults == []
    assert len(slack.called("chat.postMessage")) == 1


async def test_a_host_that_says_nothing_is_told_as_such(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the deadline, and not before; the others are not held up."""
    slack, ops = stage.slack, stage.ops
    monkeypatch.setattr(fanout, "JOB_WITHIN", 1.5)
    stage.host("web-1")
    stage.host("web-3", lambda command: [])
    async with stage.office() as collector:
        await ready(stage, collector, "web-1", "web-3")
        desk = collector.office.orders
        run = desk.fanout.run
        monkeypatch.setattr(desk.fanout, "run", lambda *a, **k: run(*a, **{**k, "seconds": 1.5}))
        await stage.asks("top web-*")
        said = await only(slack, ops, "no answer within 1.5 s")
        assert "1 done, 1 no answer" in said.everything
        await audited(collector, "unanswered")


@pytest.mark.parametrize(
    ("user", "text", "word"),
    [
        ("UEVE", "probe web-1 disk", "you have no grant"),
        ("UEVE", "silence host=web-1 1h quiet", "you have no grant"),
        ("UBOB", "probe web-1 disk", "you have no grant for probe"),
        ("UBOB", "status db-1", "you have no grant for status"),
        ("UBOB", "who", "you have no grant for who"),
        ("UCAT", "job web-1 backup", "you have no grant for job"),
        ("UADA", "porbe web-1 disk", "no verb 'porbe'; did you mean probe?"),
        ("UADA", "deploy web-1", "no verb 'deploy'; there are status,"),
        ("UADA", "probe web-1 $(id)", "expected the name of a probe"),
        ("UADA", "probe web-1", "usage: probe host name."),
        ("UADA", "probe web-1 --flag", "expected the name of a probe"),
        ("UADA", "probe nowhere disk", "no host is called"),
        ("UADA", "silence host=web-1 99d x", 'expected a duration from "1m" to "30d", not \'99d\''),
    ],
)
async def test_who_may_not_and_what_cannot_be_is_refused_and_audited(
    stage: Stage,
    user: str,
    text: str,
    word: str,
) -> None:
    """0 commands are published; the asker alone is told why; the refusal stands in the audit."""
    slack = stage.slack
    web, db = stage.host("web-1"), stage.host("db-1")
    async with stage.office() as collector:
        await ready(stage, collector, "web-1", "db-1")
        sent = await stage.asks(text, user)
        await slack.until(lambda: any(word in said.lower() for said in whispers(slack)))
        [refusal] = await audited(collector, "refused")
        assert (refusal["actor"], refusal["text"]) == (f"slack:{user} (admin)", text)
        assert sent.in_time
        assert collector.office.fanout.sent == 0
    assert (web.ran, db.ran, slack.messages("#ops")) == ([], [], [])


async def test_a_member_of_a_granted_group_may(
    stage: Stage,
) -> None:
    """And stays so for a while when Slack does not tell who is in it."""
    slack, ops = stage.slack, stage.ops
    web = stage.host("web-1")
    async with stage.office() as collector:
        await ready(stage, collector, "web-1")
        await stage.asks("silence host=web-1,threshold=cpu 2h new kernel's test", user="UCAT")
        await only(slack, ops, "1 done")
        [command] = web.ran
        assert command.args == {
            "match": "host=web-1,threshold=cpu",
            "duration": 7200.0,
            "reason": "new kernel's test",
        }
        assert len(slack.called("usergroups.users.list")) == 1


@pytest.mark.parametrize("kind", ["refuses", "hangs"])
async def test_the_acknowledgement_waits_for_no_database(stage: Stage, kind: str) -> None:
    """Nor does the command: what needs no memory works, what does says so, and the audit is written later."""
    slack, web = stage.slack, stage.host("web-1")
    hanging = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1")
    port = hanging.sockets[0].getsockname()[1] if kind == "hangs" else 1
    async with stage.office(more=f'store = "mysql://root@127.0.0.1:{port}/away"') as collector:
        await eventually(lambda: slack.sockets.connections and collector.stats.broker_up, "socket and broker")
        await eventually(lambda: collector.fleet.host("web-1"), "the host")
        sent = [await stage.asks(text) for text in ("incidents", "top web-1", "hosts")]
        await slack.until(lambda: all(one.in_time for one in sent))
        await slack.until(lambda: any("The database is away" in said for said in whispers(slack)))
        await slack.until(lambda: "went well" in shown(slack, stage.ops))
        assert [command.verb for command in web.ran] == ["top"]
        assert collector.office.auditor.waiting >= 4
        assert not collector.stats.store_up
    hanging.close()


async def test_of_two_collectors_one_answers_and_never_twice(
    stage: Stage,
) -> None:
    """Each payload goes to either connection. Repeated by Slack to whichever, or typed again: still one answer."""
    slack = stage.slack
    web = stage.host("web-1")
    shared = f'store = "sqlite:///{stage.directory}/shared.db"\nshare = true'
    async with (
        stage.office(more=shared, name="one") as one,
        stage.office(more=shared, name="two") as two,
    ):
        await ready(stage, one, "web-1")
        await ready(stage, two, "web-1")
        await slack.until(lambda: len(slack.sockets.connections) == 2)
        channels = [slack.add_channel(f"#c{number}") for number in range(12)]
        sent = []
        for channel in channels:
            asked = await slack.slash("top web-1", user="UADA", channel=channel)
            sent.append(asked)
            sent += [await slack.again(asked) for _ in range(3)]
            sent.append(await slack.slash("top web-1", user="UADA", channel=channel))
        await slack.until(lambda: all("1 done" in shown(slack, channel) for channel in channels))
        await slack.until(lambda: all(asked.in_time for asked in sent))
        await asyncio.sleep(1.0)
        assert [len(slack.messages(channel.id)) for channel in channels] == [1] * 12
        assert len(slack.called("chat.postMessage")) == 12
        assert {asked.connection for asked in sent} == {1, 2}
        assert all(each.office.desk is not None and each.office.desk.taken > 0 for each in (one, two))
        assert len(web.ran) == 12
    assert slack.sockets.faults == []


async def test_a_mention_is_answered_in_its_thread(
    stage: Stage,
) -> None:
    slack, ops = stage.slack, stage.ops
    stage.host("web-1")
    async with stage.office() as collector:
        await ready(stage, collector, "web-1")
        async with aiohttp.ClientSession() as http:
            headers = {"Authorization": f"Bearer {slack.token}"}
            root = {"channel": ops.id, "text": "an incident"}
            async with http.post(f"{slack.url}chat.postMessage", json=root, headers=headers) as answer:
                ts = (await answer.json())["ts"]
        await asyncio.sleep(1.1)  # the channel takes one post a second
        sent = await slack.mention("status web-1", user="UBOB", channel=ops, thread_ts=ts)
        await slack.again(sent)
        await slack.until(lambda: any("1 done" in said.everything for said in slack.replies("#ops", ts)))
        await asyncio.sleep(0.3)
        assert len(slack.replies("#ops", ts)) == 1
        assert len(slack.messages("#ops")) == 1


async def test_a_real_host_does_what_slack_asks(stage: Stage, make: Make) -> None:
    """`tocsin run`, trusting the collector's key: it measures, and refuses what it does not allow. Both audits tell."""
    agent = make(
        stage.broker,
        more=f'[commands]\ntrusted_keys = ["{SIGNER.public}"]\nallow = ["status", "probe"]\n',
    )
    agent.level.write_text("42")
    agent.start()
    async with stage.office() as collector:
        await ready(stage, collector, "t-1")
        sent = await stage.asks("probe t-1 switch")
        said = await only(stage.slack, stage.ops, "1 done")
        assert "switch.level" in said.everything
        assert "42" in said.everything
        assert sent.in_time
        other = stage.slack.add_channel("#other")
        await stage.slack.slash("top t-1", user="UADA", channel=other)
        refused = await only(stage.slack, other, "1 refused")
        assert "allow" in refused.everything
        rows = await audited(collector, "done")
        assert (rows[0]["actor"], rows[0]["hosts"]) == ("slack:UADA (admin)", ["t-1"])
    listed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "agent", "audit", "-c", str(agent.config), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"actor":"slack:UADA (admin)"' in listed.stdout
    await agent.stop()
