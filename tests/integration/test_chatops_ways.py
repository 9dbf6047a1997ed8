"""The other ways to ask: buttons, confirmations, silences over HTTP, the audit, and Slack in HTTP mode."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from agent.commands.payload import Command, Reply
from tests.fakes.slack import Said
from tests.fakes.slack_app import FakeApp
from tests.integration.agents import Make
from tests.integration.office import SIGNER, Stage, audit, audited, only, ready, whispers
from tests.services import eventually

pytestmark = pytest.mark.services


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
            ("ack", "slack:UCAT (admin)"),
            ("silence", "slack:UCAT (admin)"),
        ]
        assert web.ran[0].args == {"id": "inc_01abc"}
        assert web.ran[1].args == {"match": "inc_01abc", "duration": 14400.0, "reason": "pressed in Slack"}
        [refusal] = await audited(collector, "refused")
        assert refusal["actor"] == "slack:UBOB (admin)"
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
        await collector.office.auditor.settled()
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
        await slack.until(lambda: any("slack:UEVE (admin)" in said.everything for said in slack.messages("#ops")))
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


async def test_a_real_incident_is_taken_from_slack(stage: Stage, make: Make) -> None:
    """Its button acknowledges it on its host, whose new version says by whom; a silence is made, listed and ended.

    The probe that is run is the one that brought the series, whatever it is called.
    """
    allow = '["ack", "silence", "silences", "unsilence", "probe"]'
    agent = make(stage.broker, more=f'[commands]\ntrusted_keys = ["{SIGNER.public}"]\nallow = {allow}\n')
    named = agent.config.read_text().replace("[probes.switch]", '[probes.cellar]\nplugin = "switch"')
    agent.config.write_text(named)
    agent.start()
    async with stage.office() as collector:
        await ready(stage, collector, "t-1")
        agent.level.write_text("95")

        async def opened() -> Any:
            return next(iter((await collector.reader.incidents("t-1", "open"))[0]), None)

        for _ in range(300):
            if (incident := await opened()) is not None:
                break
            await asyncio.sleep(0.05)
        assert incident is not None
        said = Said(stage.ops.id, "1790000000.000100", "INCIDENT", [], [], None)
        value = f"t-1 {incident.id}"
        await stage.slack.press("tocsin_ack", value, user="UADA", said=said)
        for _ in range(300):
            if (taken := await opened()).acknowledged_by:
                break
            await asyncio.sleep(0.05)
        assert taken.acknowledged_by == "slack:UADA (admin)"
        assert taken.version > incident.version
        await stage.slack.press("tocsin_probe", value, user="UADA", said=said)
        await stage.slack.until(lambda: any("switch.level" in text for text in whispers(stage.slack)))
        await stage.asks("silence host=t-1,threshold=level 2h a test")
        await only(stage.slack, stage.ops, "1 done")
        url, csrf = f"{collector.url}/api/v1/silences", {"X-Tocsin-Request": "1"}
        async with aiohttp.ClientSession() as http:
            async with http.get(url) as answer:
                [silence] = (await answer.json())["silences"]
            assert silence["author"] == "slack:UADA (admin)"
            assert (silence["reason"], list(silence["ids"])) == ("a test", ["t-1"])
            async with http.delete(f"{url}/{silence['id']}", headers=csrf) as answer:
                assert answer.status == 200
            async with http.get(url) as answer:
                assert (await answer.json())["silences"] == []
    await agent.stop()
