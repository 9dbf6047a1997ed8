"""From words to commands: which hosts are meant, which of them the asker may ask, and with what arguments."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypeVar

from agent.collector.chatops.fanout import HostState, States
from agent.collector.chatops.grants import Rights
from agent.collector.fleet import Fleet
from agent.collector.store import Reader
from agent.commands import verbs
from agent.commands.payload import Args
from agent.errors import CommandError, StoreError

HOST_FIRST = frozenset({"status", "top", "probe", "advise", "job", "explain"})
"""Verbs whose first word is the host, or a glob over hosts."""
OF_AN_INCIDENT = frozenset({"ack", "snooze"})
MOST_HOSTS = 500
REMEMBERED_WITHIN = 5.0
"""Seconds that an engineer waits for a database that may never answer."""
T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """`args` per host that is asked; `states` of those that are not worth asking; `left_out`: no grant for these.

    `own` is what the collector does itself, in the place of a host or in its own name.
    """

    verb: str
    args: Mapping[str, Args]
    states: States
    left_out: tuple[str, ...] = ()
    own: Mapping[str, Args] = field(default_factory=dict)

    @property
    def hosts(self) -> tuple[str, ...]:
        return (*self.args, *self.states, *self.own)


class Planner:
    def __init__(self, fleet: Fleet, reader: Reader) -> None:
        self._fleet = fleet
        self._reader = reader

    async def plan(
        self, verb: str, words: Sequence[str], rights: Rights, *, host: str = "", incident: str = ""
    ) -> Plan:
        """`host` and `incident` are known where a button was pressed. CommandError says what cannot be."""
        if verb == "probe" and incident:
            return self.on(verb, verbs.parse(verb, [incident]), [host], rights, exact=True)
        if verb in HOST_FIRST:
            hosts, rest = self._named(verb, words)
            return self.on(verb, verbs.parse(verb, rest, usage_of(verb)), hosts, rights, exact=len(hosts) == 1)
        args = verbs.parse(verb, words)
        if verb in OF_AN_INCIDENT or str(args.get("match", "")).startswith("inc_"):
            owner = host or await self._owner(str(args.get("id") or args.get("match")))
            return self.on(verb, args, [owner], rights, exact=True)
        return self.on(verb, args, self.matching(str(args.get("match", ""))), rights)

    def on(self, verb: str, args: Args, hosts: Sequence[str], rights: Rights, *, exact: bool = False) -> Plan:
        """The same to each of `hosts`; CommandError("no_grant") where none of them may be asked."""
        allowed = rights.hosts(verb, hosts)
        if not allowed:
            where = hosts[0] if exact and hosts else "any of these hosts"
            raise CommandError("no_grant", f"you have no grant for {verb} on {where}")
        if len(allowed) > MOST_HOSTS:
            raise CommandError("too_many", f"{len(allowed)} hosts, more than {MOST_HOSTS} at once")
        states: States = {}
        for host in allowed:
            entry = self._fleet.host(host)
            if entry is not None and entry["state"] == "offline":
                states[host] = HostState("offline", "offline")
        left_out = tuple(host for host in hosts if host not in set(allowed))
        return Plan(verb, {host: args for host in allowed if host not in states}, states, left_out)

    def names(self) -> list[str]:
        return [str(entry["host"]) for entry in self._fleet.hosts()]

    def _named(self, verb: str, words: Sequence[str]) -> tuple[list[str], Sequence[str]]:
        usage = f"usage: {usage_of(verb)}"
        if not words:
            raise CommandError("bad_arguments", f"host is missing; {usage}")
        hosts = [name for name in self.names() if fnmatchcase(name, words[0].lower())]
        if not hosts:
            raise CommandError("unknown_host", f"no host is called {words[0][:63]!r}; `hosts` lists them; {usage}")
        return hosts, words[1:]

    def matching(self, match: str) -> list[str]:
        """Every host that a silence's `host=glob` may mean; all, where it says nothing of hosts."""
        globs = [part.partition("=")[2].strip() for part in match.split(",") if part.strip().startswith("host=")]
        return [name for name in self.names() if all(fnmatchcase(name, glob) for glob in globs)]

    async def _owner(self, incident: str) -> str:
        row = await remembered(self._reader.incident(incident))
        if row is None:
            raise CommandError("unknown_incident", f"there is no incident {incident[:60]!r}; `incidents` lists them")
        return row.host


async def remembered(question: Awaitable[T]) -> T:
    """What the database answers; CommandError where it is away, or as good as."""
    try:
        async with asyncio.timeout(REMEMBERED_WITHIN):
            return await question
    except (StoreError, TimeoutError):
        raise CommandError("database", "the database is away; what needs no memory works all the same") from None


def usage_of(verb: str) -> str:
    """As one writes it in Slack, where the host comes first."""
    known = verbs.find(verb)
    _, *rest = known.usage.split(" ")
    if verb == "status":
        return "status [HOST]"
    return " ".join([verb, "HOST", *rest] if verb in HOST_FIRST or verb == "graph" else [verb, *rest])
