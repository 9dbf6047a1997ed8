"""By which ways commands reach this daemon: the broker, where [commands] allows it, and the control socket."""

from __future__ import annotations

import logging
from collections.abc import Callable

from agent.alerting.memory import Pair
from agent.clock import Clock
from agent.commands.control import Control
from agent.commands.desk import Desk
from agent.commands.payload import Reply, encode_reply
from agent.config.schema import CommandsConfig
from agent.daemon.parts import Identity, Parts
from agent.daemon.self_probe import Figure
from agent.daemon.setup import Setup
from agent.daemon.verbs import Verbs
from agent.model import ProbeResult
from agent.transport.wire import Topic

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
        directory = setup().config.agent.state_dir
        self._verbs = Verbs(parts, setup, clock, line, tell)
        self.desk = Desk(
            identity.host,
            directory,
            clock,
            settings=lambda: setup().config.commands,
            works=self._verbs.works(),
            say=self._say,
        )
        self._control = Control(directory, self.desk.ask)
        self._hears = False

    async def open(self) -> None:
        self._verbs.open()
        await self._control.open()
        self.listen()

    async def run(self) -> None:
        """Until cancelled."""
        await self.desk.run()

    async def aclose(self) -> None:
        await self._control.aclose()
        await self.desk.aclose()

    def figures(self) -> list[Figure]:
        return [
            ("agent.commands_accepted", self.desk.accepted, "", "counter"),
            ("agent.commands_refused", self.desk.refused, "", "counter"),
        ]

    def observe(self, result: ProbeResult) -> None:
        self._verbs.observe(result)

    def listen(self) -> bool:
        """Hear the broker where this host believes somebody, at a reload too; whether that needs a new connection."""
        commands = self._setup().config.commands
        if not commands.trusted_keys:
            return False
        self._tell_faults(commands)
        if self._hears:
            return False
        self._hears = True
        topic = str(Topic(self._host, "commands"))
        self._parts.shipper.hear(topic, lambda message: self.desk.submit(message.payload))
        return True

    @staticmethod
    def _tell_faults(commands: CommandsConfig) -> None:
        """The desk refuses everything while they are there; that is to be known before somebody needs it."""
        from agent.commands.policy import trust_faults  # noqa: PLC0415 - only where commands are configured

        for fault in trust_faults(commands):
            log.error("commands are refused until this is mended", extra={"fault": str(fault)})

    def _say(self, reply: Reply, done: Callable[[], None] | None) -> None:
        self._parts.shipper.publish(Topic(self._host, "replies", reply.id), encode_reply(reply), done)
