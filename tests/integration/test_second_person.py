"""Four eyes: what one person asks for, another one who may do it too must confirm; whatever else is pressed, 0 run."""

from __future__ import annotations

import time
from typing import Any

import pytest

from agent.collector.chatops.confirm import VALID, Confirm
from tests.fakes.slack import Said
from tests.integration.office import Stage, audit, audited, only, ready, whispers
from tests.services import eventually

pytestmark = pytest.mark.services
RULE = "second_person = true"


async def asked(stage: Stage, text: str = "job web-1 backup") -> tuple[Said, str]:
    """The question as it stands in the channel, and what its button carries."""
    await stage.asks(text)
    said = await only(stage.slack, stage.ops, "Who confirms this?")
    return said, buttons(said)[0]["value"]


def buttons(said: Said) -> list[dict[str, Any]]:
    return [element for block in said.blocks if block["type"] == "actions" for element in block["elements"]]


async def told(stage: Stage, word: str) -> None:
    await stage.slack.until(lambda: any(word in text for text in whispers(stage.slack)))


async def test_another_person_confirms_it_and_it_runs_once(stage: Stage) -> None:
    """However often it is pressed, and by whom; the question becomes the answer; both are named, here and there."""
    web = stage.host("web-1")
    async with stage.office(rule=RULE) as collector:
        await ready(stage, collector, "web-1")
        said, token = await asked(stage)
        assert "<@UADA> asks for it" in said.everything
        for user in ("UDAN", "UDAN", "UADA"):
            await stage.slack.press("tocsin_confirm", token, user=user, said=said)
        done = await only(stage.slack, stage.ops, "1 done")
        assert (done.ts, buttons(done)) == (said.ts, [])
        await stage.slack.press("tocsin_confirm", token, user="UDAN", said=said)
        [row] = await audited(collector, "done")
        assert (row["actor"], row["detail"]) == ("slack:UADA (admin)", "confirmed by slack:UDAN (admin); 1 done")
        [row] = await audited(collector, "confirmed")
        assert (row["actor"], row["text"]) == ("slack:UDAN (admin)", "job web-1 backup")
        assert row["detail"] == "asked by slack:UADA (admin)"
        [command] = web.ran
        assert (command.verb, command.actor) == ("job", "slack:UADA (admin), confirmed by slack:UDAN (admin)")
    assert not stage.slack.violations


@pytest.mark.parametrize(
    ("user", "text", "word"),
    [
        ("UADA", "job web-1 backup", "somebody else"),
        ("UEVE", "job web-1 backup", "no grant for job on web-1"),
        ("UBOB", "job web-1 backup", "no grant for job on web-1"),
        ("UCAT", "job web-1 backup", "no grant for job on web-1"),
        ("UDAN", "job db-1 backup", "no grant for job on db-1"),
        ("UDAN", "job * backup", "no grant for job on db-1"),
    ],
)
async def test_who_may_not_confirm_changes_nothing(stage: Stage, user: str, text: str, word: str) -> None:
    """0 run; who pressed is told why, alone; the audit names both; and the question still stands for who may."""
    hosts = [stage.host("web-1"), stage.host("db-1")]
    async with stage.office(rule=RULE) as collector:
        await ready(stage, collector, "web-1", "db-1")
        said, token = await asked(stage, text)
        await stage.slack.press("tocsin_confirm", token, user=user, said=said)
        await told(stage, word)
        [row] = await audited(collector, "refused")
        assert (row["actor"], row["verb"], row["text"]) == (f"slack:{user} (admin)", "job", text)
        assert user == "UADA" or row["detail"].startswith("asked by slack:UADA (admin); no_grant")
        assert [host.ran for host in hosts] == [[], []]
        assert len(buttons(said)) == 2
        assert collector.office.fanout.sent == 0


async def test_after_two_minutes_or_altered_nothing_runs(stage: Stage) -> None:
    web = stage.host("web-1")
    async with stage.office(rule=RULE) as collector:
        await ready(stage, collector, "web-1")
        said, token = await asked(stage)
        late = old(stage)
        for wrong, word in ((late, "within 120 s"), (token[:-5] + "AAAA=", "not one of ours")):
            await stage.slack.press("tocsin_confirm", wrong, user="UDAN", said=said)
            await told(stage, word)
        await audited(collector, "refused", 2)
        assert (web.ran, collector.office.fanout.sent) == ([], 0)


async def test_left_alone_is_for_good(stage: Stage) -> None:
    """By who asked, or by who could confirm it; not by others. Nobody can say yes afterwards."""
    web = stage.host("web-1")
    async with stage.office(rule=RULE) as collector:
        await ready(stage, collector, "web-1")
        said, token = await asked(stage)
        await stage.slack.press("tocsin_cancel", token, user="UEVE", said=said)
        await told(stage, "no grant")
        await stage.slack.press("tocsin_cancel", token, user="UADA", said=said)
        await eventually(lambda: "left alone" in said.everything, "the end of the question")
        assert buttons(said) == []
        await stage.slack.press("tocsin_confirm", token, user="UDAN", said=said)
        await told(stage, "decided already")
        await audited(collector, "refused", 2)
        outcomes = [row["outcome"] for row in reversed(await audit(collector)) if row["verb"] == "job"]
        assert outcomes == ["confirm", "refused", "cancelled", "refused"]
        assert web.ran == []


def old(stage: Stage) -> str:
    """What a button carries that was asked for two minutes ago."""
    confirm = Confirm(stage.slack.token, second=True)
    now = time.time()
    return confirm.token("UADA", "job", ("web-1", "backup"), "job web-1 backup", now - VALID - 1)
