"""A collector that Slack speaks to, and hosts that take signed commands, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agent.clock import SystemClock
from agent.collector.service import Collector, serve
from agent.commands.payload import Command, Reply, decode, decode_signed, encode_reply
from agent.commands.signing import Keyring, Signer
from agent.config.load import load
from agent.config.schema import MqttConfig
from agent.config.units import Duration
from agent.transport import wire
from agent.transport.mqtt import Backoff, Link, Session
from tests.fakes.slack import Channel, Said
from tests.fakes.slack_app import FakeApp
from tests.fakes.slack_files import FakeFiles
from tests.fakes.slack_socket import Sent
from tests.services import eventually, free_port

SIGNER, KEY_LINE = Signer.new("ops-1")
GRANTS = """
[[commands.grants]]
users = ["UADA"]
verbs = ["*"]
[[commands.grants]]
users = ["UBOB"]
verbs = ["status", "hosts"]
hosts = ["web-*"]
[[commands.grants]]
usergroups = ["SOPS"]
verbs = ["ack", "silence", "unsilence", "silences"]
[[commands.grants]]
users = ["UDAN"]
verbs = ["job"]
hosts = ["web-*"]
"""


class Host:
    """Takes commands as a host does that knows the key; answers as `answer` says. `ran` is what it ran, once each."""

    def __init__(self, name: str, broker: str, answer: Callable[[Command], list[Reply]] | None = None) -> None:
        self.name = name
        self.answer = answer or (lambda command: [self.reply(command, "done", f"{command.verb} went well")])
        self.ran: list[Command] = []
        self.refused = 0
        config = MqttConfig(url=broker, reconnect_spread=Duration(0.2))
        self._link = Link(
            config,
            identifier=f"fake-{name}",
            subscriptions=[f"{wire.PREFIX}/{name}/commands"],
            clock=SystemClock(),
            backoff=Backoff(first=0.2, cap=0.5),
        )
        self._keys = Keyring([SIGNER.public])
        self._task: asyncio.Task[None] | None = None

    def reply(self, command: Command, state: Any, text: str = "", **data: Any) -> Reply:
        return Reply(command.id, self.name, time.time(), state, text, {"ok": True, **data} if state == "done" else data)

    def start(self) -> None:
        self._task = asyncio.create_task(self._link.run(self._session))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _session(self, session: Session) -> None:
        birth = wire.Status("online", "e" * 32, session.number, time=time.time())
        await session.publish(f"{wire.PREFIX}/{self.name}/status", wire.encode(birth), retain=True)
        async for message in session.messages():
            signed = decode_signed(message.payload)
            self._keys.verify(signed)
            command = decode(signed.payload)
            if command.host != self.name or command.id in {known.id for known in self.ran}:
                self.refused += 1
                continue
            self.ran.append(command)
            for reply in self.answer(command):
                await session.publish(f"{wire.PREFIX}/{self.name}/replies/{reply.id}", encode_reply(reply))


@contextlib.asynccontextmanager
async def office(
    directory: Path,
    broker: str,
    slack: FakeApp,
    *,
    mode: str = "socket",
    more: str = "",
    name: str = "one",
    rule: str = "",
) -> AsyncIterator[Collector]:
    """A collector in this process with Slack's tokens, a key to sign with, and GRANTS. `rule` is of [commands]."""
    home = directory / name
    home.mkdir(exist_ok=True)
    for file, text in (
        ("bot", slack.token),
        ("app", slack.app_token),
        ("secret", slack.signing_secret),
        ("key", KEY_LINE),
    ):
        (home / file).write_text(text)
    path = home / "agent.toml"
    path.write_text(
        f'[agent]\nhost = "collector-1"\nstate_dir = "{home}/state"\n[mqtt]\nurl = "{broker}"\n'
        f'reconnect_spread = "200ms"\nconnect_timeout = "2s"\n[slack]\nbase_url = "{slack.url}"\nmode = "{mode}"\n'
        f'bot_token = {{ file = "{home}/bot" }}\napp_token = {{ file = "{home}/app" }}\n'
        f'signing_secret = {{ file = "{home}/secret" }}\ntimeout = "3s"\n'
        f'[collector]\nlisten = "127.0.0.1:{free_port()}"\nname = "{name}"\n{more}\n'
        f'[commands]\nsigning_key = {{ file = "{home}/key" }}\n{rule}\n{GRANTS}'
    )
    stop, there = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(load(path), clock=SystemClock(), ready=there.set_result, stop=stop))
    try:
        yield await asyncio.wait_for(there, 20)
    finally:
        stop.set()
        await task


class FakeWorkspace(FakeFiles, FakeApp):
    """Speaks to the app, and takes its files."""


@dataclasses.dataclass
class Stage:
    """Slack with a channel, a broker, and the hosts that were started on it."""

    slack: FakeWorkspace
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
