"""From a person in Slack to a host and back: real collector, real broker, signed commands, one edited answer."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agent.collector.chatops import fanout
from agent.collector.service import Collector
from agent.commands.payload import Command, Reply
from tests.fakes.slack import Channel, Said
from tests.fakes.slack_app import FakeApp
from tests.fakes.slack_socket import Sent
from tests.integration.agents import Make
from tests.integration.office import SIGNER, Host, office
from tests.services import Mosquitto, eventually

pytestmark = pytest.mark.services


@dataclasses.dataclass
class Stage:
    """Slack with a channel, a broker, and the hosts that were started on it."""

    slack: FakeApp
    ops: Channel
    broker: str
    directory: Path
    running: list[Host] = dataclasses.field(default_factory=list)

    def host(self, name: str, answer: Any = None) -> Host:
        self.running.append(Host(name, self.broker, answer))
        self.running[-1].start()
        return self.running[-1]

    def office(self, **more: Any) -> contextlib.AbstractAsyncContextManager[Collector]:
        return office(self.directory, self.broker, self.slack, **more)

    async def asks(self, text: str, user: str = "UADA") -> Sent:
        return await self.slack.slash(text, user=user, channel=self.ops)


@pytest.fixture
async def stage(mosquitto: Mosquitto, tmp_path: Path) -> AsyncIterator[Stage]:
    async with FakeApp() as slack:
        slack.groups["SOPS"] = ["UCAT"]
        set_up = Stage(slack, slack.add_channel("#ops"), mosquitto.url, tmp_path)
        yield set_up
        for host in set_up.running:
            await host.stop()


async def ready(stage: Stage, collector: Collector, *names: str) -> None:
    await eventually(lambda: stage.slack.sockets.connections and collector.stats.broker_up, "socket and broker")
    await eventually(lambda: collector.stats.store_up, "the database")
    await eventually(
        lambda: {entry["host"] for entry in collector.fleet.hosts()} >= set(names),
        "hosts",
    )


async def audit(collector: Collector, **query: str) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as http, http.get(f"{collector.url}/api/v1/audit", params=query) as answer:
        assert answer.status == 200
        found: list[dict[str, Any]] = (await answer.json())["audit"]
        return found


async def audited(collector: Collector, outcome: str, count: int = 1) -> list[dict[str, Any]]:
    for _ in range(200):
        found = [row for row in await audit(collector) if row["outcome"] == outcome]
        if len(found) >= count:
            return found
        await asyncio.sleep(0.05)
    pytest.fail(f"no {count} of {outcome} in {await audit(collector)}")


def whispers(slack: FakeApp) -> list[str]:
    """What was said to one person alone, by either road."""
    said = [call.arguments["text"] for call in slack.called("chat.postEphemeral")]
    return said + [answer["text"] for url in slack.urls.values() for answer in url.answers]


def shown(slack: FakeApp, channel: Channel) -> str:
    return "".join(said.everything for said in slack.messages(channel.id))


async def only(slack: FakeApp, channel: Channel, text: str) -> Said:
    """The one message of the channel, once it says this."""
    await slack.until(lambda: any(text in said.everything for said in slack.messages(channel.id)))
    [said] = slack.messages(channel.id)
    return said


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
        assert (command.verb, command.args, command.actor) == ("probe", {"name": "disk"}, "slack:UADA")
        assert 0 < command.not_after - command.issued_at <= 120
        [last] = await audited(collector, "failed")
        [first] = await audited(collector, "accepted")
        assert first["request"] == last["request"]
        assert (first["actor"], first["hosts"], first["text"]) == (
            "slack:UADA",
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
        ("UADA", "porbe web-1 disk", "did you mean probe"),
        ("UADA", "probe web-1 $(id)", "expected the name of a probe"),
        ("UADA", "probe web-1 --flag", "expected the name of a probe"),
        ("UADA", "probe nowhere disk", "no host is called"),
        ("UADA", "silence host=web-1 99d x", "expected a duration"),
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
        assert (refusal["actor"], refusal["text"]) == (f"slack:{user}", text)
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


async def test_the_acknowledgement_waits_for_no_database(
    stage: Stage,
) -> None:
    """Nor does the command: what needs no memory works, what does says so, and the audit is written later."""
    slack = stage.slack
    web = stage.host("web-1")
    more = f'store = "mysql://root@127.0.0.1:{1}/away"'
    async with stage.office(more=more) as collector:
        await eventually(lambda: slack.sockets.connections and collector.stats.broker_up, "socket and broker")
        await eventually(lambda: collector.fleet.host("web-1"), "the host")
        sent = [await stage.asks(text) for text in ("incidents", "top web-1", "hosts")]
        await slack.until(lambda: all(one.in_time for one in sent))
        await slack.until(lambda: any("The database is away" in said for said in whispers(slack)))
        await slack.until(lambda: len([s for s in slack.messages("#ops") if "went well" in s.everything]) == 1)
        assert [command.verb for command in web.ran] == ["top"]
        assert collector.office.auditor.waiting >= 4
        assert not collector.stats.store_up


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


async def test_a_button_becomes_the_same_request(
    stage: Stage,
) -> None:
    """Who pressed is told, nobody else; pressed twice is once; who may not press is refused."""
    slack, ops = stage.slack, stage.ops
    web = stage.host("web-1")
    async with stage.office() as collector:
        await ready(stage, collector, "web-1")
        said = Said(ops.id, "1790000000.000100", "INCIDENT", [], [], None)
        ops.said.append(said)
        value = "web-1 inc_01abc"
        sent = [await slack.press("tocsin_ack", value, user="UCAT", said=said) for _ in range(2)]
        sent.append(await slack.press("tocsin_silence_4h", value, user="UCAT", said=said))
        sent.append(await slack.press("tocsin_ack", value, user="UBOB", said=said))
        sent.append(await slack.press("tocsin_ack", "web-1 ../../x", user="UCAT", said=said))
        sent.append(await slack.press("somebody_elses", value, user="UCAT", said=said))
        await slack.until(lambda: len(web.ran) == 2 and len(whispers(slack)) == 3)
        assert all(one.in_time for one in sent)
        web.ran.sort(key=lambda command: command.verb)
        assert [(command.verb, command.actor) for command in web.ran] == [
            ("ack", "slack:UCAT"),
            ("silence", "slack:UCAT"),
        ]
        assert web.ran[0].args == {"id": "inc_01abc"}
        assert web.ran[1].args == {"match": "inc_01abc", "duration": 14400.0, "reason": "pressed in Slack"}
        [refusal] = await audited(collector, "refused")
        assert refusal["actor"] == "slack:UBOB"
        assert len(slack.messages("#ops")) == 1


def buttons(slack: FakeApp) -> list[dict[str, Any]]:
    answers = [answer for url in slack.urls.values() for answer in url.answers]
    return [
        element for a in answers for b in a.get("blocks", []) if b["type"] == "actions" for element in b["elements"]
    ]


async def test_a_dangerous_verb_is_asked_for_twice_and_runs_once(
    stage: Stage,
) -> None:
    """Pressed by another, pressed again, altered: nothing. Pressed by the asker: once."""
    slack, ops = stage.slack, stage.ops
    web = stage.host("web-1")
    async with stage.office() as collector:
        await ready(stage, collector, "web-1")
        await stage.asks("job web-1 backup name2=x")
        await slack.until(lambda: len(buttons(slack)) == 2)
        confirm, cancel = buttons(slack)
        assert (confirm["action_id"], cancel["action_id"], web.ran) == ("tocsin_confirm", "tocsin_cancel", [])
        prompt = Said(ops.id, "1790000000.000200", "?", [], [], None)
        token = confirm["value"]
        await slack.press("tocsin_confirm", token, user="UBOB", said=prompt)
        await slack.press("tocsin_confirm", token[:-5] + "AAAA=", user="UADA", said=prompt)
        await audited(collector, "refused", 2)
        assert web.ran == []
        for _ in range(3):
            await slack.press("tocsin_confirm", token, user="UADA", said=prompt)
        await only(slack, ops, "1 done")
        await audited(collector, "done")
        assert [(command.verb, command.args) for command in web.ran] == [("job", {"name": "backup", "name2": "x"})]
        await slack.press("tocsin_confirm", token, user="UADA", said=prompt)
        await asyncio.sleep(0.3)
        assert len(web.ran) == 1
        assert len(slack.messages("#ops")) == 1


async def test_a_silence_on_many_hosts_is_one_and_ends_as_one(
    stage: Stage,
) -> None:
    """Over HTTP: made, listed, ended, audited as `api`; a foreign page cannot."""
    slack, ops = stage.slack, stage.ops
    kept: dict[str, dict[str, Any]] = {}

    def answering(name: str) -> Callable[[Command], list[Reply]]:
        def answer(command: Command) -> list[Reply]:
            host = there[name]
            if command.verb == "silence":
                args = command.args
                kept[name] = {
                    "id": f"sil_{name.replace('-', '')}",
                    "match": args["match"],
                    "reason": args["reason"],
                    "author": command.actor,
                    "created_at": command.issued_at,
                    "until": command.issued_at + float(args["duration"]),
                }
            elif command.verb == "unsilence":
                assert kept.pop(name)["id"] == command.args["id"]
            shown = [kept[name]] if name in kept else []
            return [host.reply(command, "done", "ok", silences=shown)]

        return answer

    there = {name: stage.host(name, answering(name)) for name in ("web-1", "web-2", "db-1")}
    async with stage.office() as collector, aiohttp.ClientSession() as http:
        await ready(stage, collector, *there)
        url, csrf = f"{collector.url}/api/v1/silences", {"X-Tocsin-Request": "1"}
        wanted = {"match": "host=web-*,threshold=cpu", "duration": "2h", "reason": "kernel"}
        async with http.post(url, json=wanted) as answer:
            assert answer.status == 403
        for wrong in ({}, {**wanted, "duration": "2 moons"}, {**wanted, "match": ["x"]}, {**wanted, "match": "$(id)"}):
            async with http.post(url, json=wrong, headers=csrf) as answer:
                assert answer.status == 400
        async with http.post(url, json=wanted, headers=csrf) as answer:
            made = await answer.json()
            assert (answer.status, made["outcome"], sorted(made["hosts"])) == (200, "done", ["web-1", "web-2"])
        async with http.get(url) as answer:
            [silence] = (await answer.json())["silences"]
        assert silence["ids"] == {"web-1": "sil_web1", "web-2": "sil_web2"}
        await stage.asks("silences")
        await only(slack, ops, "web-1, web-2")
        async with http.delete(f"{url}/sil_nothere", headers=csrf) as answer:
            assert answer.status == 404
        async with http.delete(f"{url}/sil_web2", headers=csrf) as answer:
            assert (answer.status, kept) == (200, {})
        rows = await audit(collector, user="api", verb="unsilence")
        assert [row["outcome"] for row in rows[:2]] == ["done", "accepted"]
        assert there["db-1"].ran[0].verb == "silences"


async def test_the_audit_is_asked_for_in_slack_and_verified_over_http(
    stage: Stage,
) -> None:
    slack = stage.slack
    stage.host("web-1")
    async with stage.office() as collector, aiohttp.ClientSession() as http:
        await ready(stage, collector, "web-1")
        for user, text in (("UADA", "help"), ("UEVE", "top web-1"), ("UADA", "hosts")):
            await stage.asks(text, user)
        await audited(collector, "done", 2)
        await audited(collector, "refused")
        await asyncio.sleep(1.1)  # the channel takes one post a second
        await stage.asks("who UEVE")
        await slack.until(lambda: any("slack:UEVE" in said.everything for said in slack.messages("#ops")))
        async with http.get(f"{collector.url}/api/v1/audit?verify=1&user=UEVE") as answer:
            found = await answer.json()
        assert [row["outcome"] for row in found["audit"]] == ["refused"]
        [chain] = found["chains"]
        assert (chain["chain"], chain["broken"]) == ("one", 0)
        async with http.get(f"{collector.url}/api/v1/slack") as answer:
            state = await answer.json()
        assert (state["mode"], state["socket"]["connected"], state["signs"]) == ("socket", True, True)
        async with http.get(f"{collector.url}/metrics") as answer:
            text = await answer.text()
        assert "tocsin_slack_socket_up 1" in text
        assert 'tocsin_commands_total{outcome="refused"} 1' in text


async def test_by_http_the_same(
    stage: Stage,
) -> None:
    """Slash command, button and mention, each signed; behind a proxy under any name; no token of the dashboard's."""
    slack, ops = stage.slack, stage.ops
    web = stage.host("web-1")
    (stage.directory / "token").write_text("dashboard-token")
    more = f'token = {{ file = "{stage.directory}/token" }}'
    async with stage.office(mode="http", more=more) as collector:
        await eventually(lambda: collector.fleet.host("web-1") and collector.stats.broker_up, "the host")
        status, text = await slack.posted(
            f"{collector.url}/slack/commands", slack.slash_payload("top web-1", user="UADA", channel=ops)
        )
        assert (status, json.loads(text)["response_type"]) == (200, "ephemeral")
        await only(slack, ops, "1 done")
        said = slack.messages("#ops")[0]
        pressed = slack.press_payload("tocsin_ack", "web-1 inc_01abc", user="UADA", said=said)
        assert await slack.posted(f"{collector.url}/slack/interactive", pressed) == (200, "")
        await eventually(lambda: len(web.ran) == 2, "the second command")
        assert slack.sockets.opened == 0


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
        assert (rows[0]["actor"], rows[0]["hosts"]) == ("slack:UADA", ["t-1"])
    listed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "agent", "audit", "-c", str(agent.config), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"actor":"slack:UADA"' in listed.stdout
    await agent.stop()
