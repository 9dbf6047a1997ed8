"""What hosts do for their incidents, done here: those about hosts that are gone are the collector's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agent.alerting.holding import Holding, Reminding
from agent.alerting.memory import Pair
from agent.clock import Clock
from agent.collector.chatops.fanout import HostState
from agent.collector.hostwatch import HostWatch
from agent.collector.lease import Lease
from agent.commands.payload import Args
from agent.config.match import Match
from agent.errors import CommandError

HERE = "_collector"
"""Stands among the hosts of a request for the collector itself; no host can be called so."""


class Custody:
    """`tell` takes what moved an incident. Of several collectors only the one that leads has any."""

    def __init__(
        self, watch: HostWatch, lease: Lease, outbox: Reminding, clock: Clock, tell: Callable[[list[Pair]], None]
    ) -> None:
        self._watch = watch
        self._lease = lease
        self._clock = clock
        self._works = Holding(watch, outbox, clock, tell).works()

    @property
    def leading(self) -> bool:
        return self._leader == self._lease.name

    def host_of(self, incident: str) -> str:
        """Whom it is about; "" where it is none of ours, or over."""
        return next((one.host for one in self._watch.incidents if one.id == incident), "")

    def concerned(self, match: str, hosts: Iterable[str]) -> list[str]:
        """Those of `hosts` whose being gone it covers. What is no match covers nothing; hosts say what is wrong."""
        try:
            parsed = Match.parse(match)
        except ValueError:
            return []
        return [host for host in hosts if parsed.covers(self._watch.standing(host))]

    async def do(self, verb: str, args: Args, actor: str) -> HostState:
        """As a host would answer."""
        if not self.leading and verb != "silences":
            return HostState("refused", f"the collector {self._leader} leads, and tells of hosts that are gone")
        try:
            outcome = await self._works[verb](args, actor)
        except CommandError as error:
            return HostState("refused", error.detail, {"reason": error.code})
        return HostState("done", outcome.text, {**outcome.data, "ok": outcome.ok})

    @property
    def _leader(self) -> str:
        return self._lease.leader(self._clock.monotonic())
