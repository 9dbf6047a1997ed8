"""By which ways commands reach this daemon: the broker, where [commands] allows it, and the control socket.

Most hosts are never told anything: desk and verbs are loaded when there is somebody to obey.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.alerting.memory import Pair
from agent.clock import Clock
from agent.commands import JOURNAL
from agent.commands.control import Control
from agent.commands.leash import Leash
from agent.commands.payload import Args, Reply, encode_reply
from agent.config.schema import CommandsConfig
from agent.daemon.parts import Identity, Parts
from agent.daemon.self_probe import Figure
from agent.daemon.setup import PROCESSES, Setup
from agent.model import ProbeResult
from agent.transport.inbox import Message
from agent.transport.wire import Topic

if TYPE_CHECKING:
    from agent.commands.desk import Desk

log = logging.getLogger(__name__)


class Intake:
    """`setup` gives the present one; `line` and `tell` as in Verbs."""

    def __init__(
        self,
        parts: Parts,
        identity: Identity,
        setup: Callable[[], Setup],
        clock: Clock,
        *,
        line: Callable[[], str],
        tell: Callable[[list[Pair]], None],
    ) -> None:
        self._host = identity.host
        self._parts = parts
        self._setup = setup
        self._clock = clock
        self._line = line
        self._tell = tell
        self._directory = setup().config.agent.state_dir
        self._leash = Leash(self._directory)
        self._control = Control(self._directory, self._ask)
        self._processes: ProbeResult | None = None
        self._desk: Desk | None = None
        self._seated = asyncio.Event()
        self._hears = self._closed = False

    async def open(self) -> None:
        self._leash.pull()
        await self._control.open()
        self.listen()
        if (self._directory / JOURNAL).exists():  # the last process may have left something to tell
            self._seat()

    async def run(self) -> None:
        """Until cancelled."""
        await self._seated.wait()
        await self._seat().run()

    async def aclose(self) -> None:
        self._closed = True
        await self._control.aclose()
        if self._desk is not None:
            await self._desk.aclose()

    def figures(self) -> list[Figure]:
        desk = self._desk
        return [
            ("agent.commands_accepted", 0 if desk is None else desk.accepted, "", "counter"),
            ("agent.commands_refused", 0 if desk is None else desk.refused, "", "counter"),
        ]

    def observe(self, result: ProbeResult) -> None:
        """Every result passes here; one is kept."""
        table = self._setup().config.probes.get(result.probe)
        if table is not None and (table.plugin or result.probe) == PROCESSES:
            self._processes = result

    def listen(self) -> bool:
        """Hear the broker where this host believes somebody, at a reload too; whether that needs a new connection."""
        commands = self._setup().config.commands
        if not commands.trusted_keys:
            return False
        self._tell_faults(commands)
        if self._hears:
            return False
        self._hears = True
        desk = self._seat()

        def submit(message: Message) -> None:
            desk.submit(message.payload)

        self._parts.shipper.hear(str(Topic(self._host, "commands")), submit)
        return True

    def _seat(self) -> Desk:
        """The desk, from the first call on."""
        if self._desk is None:
            from agent.commands.desk import Desk  # noqa: PLC0415 - see above
            from agent.daemon.verbs import Verbs  # noqa: PLC0415

            verbs = Verbs(
                self._parts, self._setup, self._clock, self._line, self._tell, lambda: self._processes, self._leash
            )
            self._desk = Desk(
                self._host,
                self._directory,
                self._clock,
                settings=lambda: self._setup().config.commands,
                works=verbs.works(),
                say=self._say,
            )
            self._seated.set()
        return self._desk

    async def _ask(self, verb: str, args: Args, actor: str, tell: Callable[[Reply], None]) -> Reply:
        if self._closed and self._desk is None:
            raise ConnectionError("this agent is about to end")
        return await self._seat().ask(verb, args, actor, tell)

    @staticmethod
    def _tell_faults(commands: CommandsConfig) -> None:
        """The desk refuses everything while they are there; that is to be known before somebody needs it."""
        from agent.commands.policy import trust_faults  # noqa: PLC0415 - only where commands are configured

        for fault in trust_faults(commands):
            log.error("commands are refused until this is mended", extra={"fault": str(fault)})

    def _say(self, reply: Reply, done: Callable[[], None] | None) -> None:
        self._parts.shipper.publish(Topic(self._host, "replies", reply.id), encode_reply(reply), done)
