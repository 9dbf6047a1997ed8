"""A desk with everything that it needs around it, and a record of what was executed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from agent.commands.desk import Desk
from agent.commands.journal import FILE, Entry, entries
from agent.commands.lanes import Outcome
from agent.commands.payload import Args, Command, Reply, new_id
from agent.commands.signing import Signer
from agent.config.keys import KeySource, PublicKey
from agent.config.schema import CommandsConfig
from tests.fakes.clock import ManualClock
from tests.services import eventually

HOST = "web-1"
VERBS = ("status", "probe", "silence", "job", "explain", "advise", "ack")


class Office:
    """One host. `executed` is what verbs were really called with; `replies` what was said over MQTT."""

    def __init__(self, directory: Path, clock: ManualClock) -> None:
        self.directory = directory
        self.clock = clock
        self.signer, _ = Signer.new("ops-1")
        self.stranger, _ = Signer.new("ops-1")
        self.executed: list[tuple[str, Args, str]] = []
        self.replies: list[Reply] = []
        self.heard = True
        self.hold: asyncio.Event | None = None
        self.believe(self.signer.public)
        self.desk = self._desk()
        self._task: asyncio.Task[None] | None = None

    def believe(self, *keys: PublicKey, allow: tuple[str, ...] = VERBS) -> None:
        jobs = self.directory / "jobs.toml"
        jobs.write_text('[jobs.hello]\nargv = ["/bin/echo", "hello"]\n')
        jobs.chmod(0o644)
        self.settings = CommandsConfig(trusted_keys=KeySource(keys), allow=allow, jobs=jobs)

    def _desk(self) -> Desk:
        works = {verb: self._work(verb) for verb in VERBS}
        return Desk(HOST, self.directory, self.clock, settings=lambda: self.settings, works=works, say=self._say)

    def _work(self, verb: str) -> Callable[[Args, str], Any]:
        async def work(args: Args, actor: str) -> Outcome:
            self.executed.append((verb, args, actor))
            if self.hold is not None:
                await self.hold.wait()
            return Outcome(f"{verb} was done", {"args": args})

        return work

    def _say(self, reply: Reply, done: Callable[[], None] | None) -> None:
        self.replies.append(reply)
        if done is not None and self.heard:
            done()

    async def start(self) -> None:
        known = (self.directory / FILE).exists()
        self._task = asyncio.create_task(self.desk.run())
        await eventually(lambda: not known or self.desk._journal is not None, "an open journal")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self.desk.aclose()

    async def restart(self) -> None:
        await self.stop()
        self.desk = self._desk()
        await self.start()

    def command(self, verb: str = "probe", args: Args | None = None, **changes: Any) -> Command:
        now = self.clock.now()
        given = {"name": "disk"} if args is None and verb == "probe" else args or {}
        command = Command(new_id(), HOST, verb, given, "slack:U1 (ada)", now, now + 60)
        return msgspec.structs.replace(command, **changes)

    def signed(self, verb: str = "probe", args: Args | None = None, **changes: Any) -> bytes:
        return self.signer.sign(self.command(verb, args, **changes))

    async def settled(self) -> None:
        await eventually(lambda: not self.desk._running and not self.desk._writing, "nothing under way")

    def states(self, command_id: str) -> list[str]:
        return [reply.state for reply in self.replies if reply.id == command_id]

    def audit(self) -> list[Entry]:
        return [entry for _, entry, _ in entries(self.directory / FILE)]

    def reasons(self) -> list[str]:
        return [entry.reason for entry in self.audit() if entry.outcome == "refused"]
