"""A collector that Slack speaks to, and hosts that take signed commands, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from agent.clock import SystemClock
from agent.collector.service import Collector, serve
from agent.commands.payload import Command, Reply, decode, decode_signed, encode_reply
from agent.commands.signing import Keyring, Signer
from agent.config.load import load
from agent.config.schema import MqttConfig
from agent.config.units import Duration
from agent.transport import wire
from agent.transport.mqtt import Backoff, Link, Session
from tests.fakes.slack_app import FakeApp
from tests.services import free_port

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
    directory: Path, broker: str, slack: FakeApp, *, mode: str = "socket", more: str = "", name: str = "one"
) -> AsyncIterator[Collector]:
    """A collector in this process with Slack's tokens, a key to sign with, and GRANTS."""
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
        f'[commands]\nsigning_key = {{ file = "{home}/key" }}\n{GRANTS}'
    )
    stop, there = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(load(path), clock=SystemClock(), ready=there.set_result, stop=stop))
    try:
        yield await asyncio.wait_for(there, 20)
    finally:
        stop.set()
        await task
