"""What people do about a host that is gone: they take it, and hold it back, though it cannot hear them."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes.slack import Said
from tests.fakes.slack_app import FakeApp
from tests.handover.fleet import Collector
from tests.integration.agents import Agent, Make
from tests.integration.office import GRANTS, KEY_LINE, Stage, shown, whispers

pytestmark = [pytest.mark.services, pytest.mark.timeout(180)]


def settings(directory: Path, slack: FakeApp) -> str:
    for file, text in (("bot", slack.token), ("app", slack.app_token), ("key", KEY_LINE)):
        (directory / file).write_text(text)
    return (
        f'offline_after = "10s"\n[slack]\nbot_token = {{ file = "{directory}/bot" }}\nbase_url = "{slack.url}"\n'
        f'app_token = {{ file = "{directory}/app" }}\ntimeout = "2s"\ntakeover_after = "2s"\n'
        f'[commands]\nsigning_key = {{ file = "{directory}/key" }}\n{GRANTS}'
    )


class Scene:
    """A collector and an agent as processes, and what is to be seen of them."""

    def __init__(self, stage: Stage, make: Make, more: str = "") -> None:
        self.stage = stage
        self.alerts = stage.slack.add_channel("#alerts")
        table = settings(stage.directory, stage.slack) + more
        self.collector = Collector(stage.directory, stage.broker, stage.slack, table)
        self.agent: Agent = make(stage.broker, slack=stage.slack, more='takeover_after = "2s"')

    async def until(self, done: Callable[[], Any]) -> None:
        await self.stage.slack.until(done, 30)

    def titles(self) -> list[str]:
        return [said.text.split(" on ")[0] for said in self.stage.slack.messages("#alerts")]

    def last(self) -> Said:
        return self.stage.slack.messages("#alerts")[-1]

    async def api(self, path: str) -> Any:
        url = re.findall(r"http://127\.0\.0\.1:\d+", self.collector.log)[-1]
        async with aiohttp.ClientSession() as http, http.get(f"{url}/api/v1/{path}") as answer:
            assert answer.status == 200
            return await answer.json()

    async def becomes(self, path: str, seen: Callable[[Any], Any], wanted: Any) -> None:
        """Until the API says so."""
        found = None
        for _ in range(600):
            with contextlib.suppress(aiohttp.ClientError, IndexError):
                if (found := seen(await self.api(path))) == wanted:
                    return
            await asyncio.sleep(0.05)
        pytest.fail(f"{path}: {found}, not {wanted}")

    async def online(self) -> None:
        await self.becomes("hosts", lambda said: [host["state"] for host in said["hosts"]], ["online"])

    async def opened(self, *, by: str = "", muted: str = "") -> None:
        """Until the database has one open incident, which is acknowledged and muted so."""
        await self.becomes("incidents?state=open", lambda said: list(map(_held, said["incidents"])), [(by, muted)])


def _held(incident: dict[str, Any]) -> tuple[str, str]:
    return incident["acknowledged_by"], incident["muted"].split(" until")[0]


@pytest.fixture
def scene(stage: Stage, make: Make) -> Iterator[Scene]:
    scene = Scene(stage, make)
    yield scene
    scene.collector.kill()
    scene.agent.end()


def value_of(said: Said) -> str:
    """What its button to acknowledge carries."""
    blocks = [*said.blocks, *(block for attachment in said.attachments for block in attachment.get("blocks", ()))]
    buttons = [element for block in blocks for element in block.get("elements", ())]
    [value] = {button["value"] for button in buttons if button.get("action_id") == "tocsin_ack"}
    return str(value)


async def test_it_is_taken_and_held_back(scene: Scene) -> None:
    """Acknowledged by a button; silenced, it returns and goes again untold, over a restart; told at its end."""
    slack, ops = scene.stage.slack, scene.stage.ops
    scene.collector.start()
    scene.agent.start()
    await scene.online()
    await scene.until(lambda: slack.sockets.connections)

    scene.agent.kill()
    await scene.until(lambda: scene.titles() == ["CRITICAL: host"])
    value = value_of(scene.last())
    number = value.split(" ")[1]
    await slack.press("tocsin_ack", value, user="UBOB", said=scene.last())
    await scene.until(lambda: any("no grant for ack on t-1" in said for said in whispers(slack)))
    await slack.press("tocsin_ack", value, user="UCAT", said=scene.last())
    await scene.until(lambda: "by admin" in scene.last().everything)
    await scene.opened(by="slack:UCAT (admin)")
    await scene.stage.asks("incidents")
    await scene.until(lambda: "slack:UCAT (admin) looks after it" in shown(slack, ops))
    await scene.stage.asks(f"snooze {number} 1h")
    await scene.until(lambda: f"{number}: no reminders for" in shown(slack, ops))

    await scene.stage.asks("silence host=t-1 2h new disks")
    await scene.until(lambda: "the collector keeps it for its incident about the host" in shown(slack, ops))
    await scene.until(lambda: "silenced by slack:UADA (admin)" in scene.last().everything)
    [silence] = (await scene.api("silences"))["silences"]
    assert (silence["match"], list(silence["ids"])) == ("host=t-1", ["_collector"])
    audit = (await scene.api("audit?verb=ack"))["audit"]
    assert [(row["actor"], row["outcome"], row["hosts"]) for row in audit if row["outcome"] != "accepted"] == [
        ("slack:UCAT (admin)", "done", ["t-1"]),
        ("slack:UBOB (admin)", "refused", []),
    ]

    scene.agent.start()
    await scene.until(lambda: scene.titles() == ["RESOLVED: host"])
    scene.collector.kill()
    scene.collector.start()
    await scene.online()
    scene.agent.kill()

    await scene.opened(muted="silenced by slack:UADA (admin)")
    assert scene.titles() == ["RESOLVED: host"]
    await scene.until(lambda: slack.sockets.connections)
    await scene.stage.asks("silences")
    await scene.until(lambda: "UADA (admin): new disks" in shown(slack, ops))
    assert scene.titles() == ["RESOLVED: host"]
    await scene.stage.asks(f"unsilence {silence['id']}")
    await scene.until(lambda: scene.titles() == ["RESOLVED: host", "CRITICAL: host"])
    assert not slack.violations


async def test_a_maintenance_window_of_the_collector_mutes_it(stage: Stage, make: Make) -> None:
    """Told by a collector whose file has the window no more."""
    window = (
        '[[maintenance]]\nname = "move"\nmatch = "host=t-*"\nstart = 2000-01-01T00:00:00Z\nend = 2999-01-01T00:00:00Z\n'
    )
    scene = Scene(stage, make, window)
    try:
        scene.collector.start()
        scene.agent.start()
        await scene.online()
        scene.agent.kill()
        await scene.opened(muted="maintenance: move")
        assert scene.titles() == []
        scene.collector.kill()
        scene.collector.file.write_text(scene.collector.file.read_text().replace(window, ""))
        scene.collector.start()
        await scene.until(lambda: scene.titles() == ["CRITICAL: host"])
        await scene.opened()
    finally:
        scene.collector.kill()
        scene.agent.end()
