"""Who may ask for what: by user id, as names are not unique in Slack; nothing is allowed that is not granted."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from agent.clock import Clock
from agent.config.schema import CommandGrant
from agent.errors import DeliveryError

log = logging.getLogger(__name__)

FRESH = 300.0
"""Seconds for which the members of a user group are not asked for again."""
USABLE = 3600.0
"""Seconds for which they are believed while Slack does not answer."""
AGAIN = 30.0
"""Seconds after which a group is asked for again that could not be."""
FREE = frozenset({"help"})
"""What everybody may ask for."""

AskMembers = Callable[[str], Awaitable[frozenset[str]]]


class Rights:
    """What one person may do. Pure."""

    def __init__(self, grants: Sequence[CommandGrant]) -> None:
        self._grants = tuple(grants)

    def __bool__(self) -> bool:
        """Whether there is any grant at all."""
        return bool(self._grants)

    def allows(self, verb: str, host: str) -> bool:
        return any(_any(verb, grant.verbs) and _any(host, grant.hosts) for grant in self._grants)

    def uses(self, verb: str) -> bool:
        """Whether the verb is granted on some host."""
        return verb in FREE or any(_any(verb, grant.verbs) for grant in self._grants)

    def hosts(self, verb: str, hosts: Iterable[str]) -> list[str]:
        """Those of `hosts` on which the verb is granted."""
        return [host for host in hosts if self.allows(verb, host)]


EVERYTHING = Rights((CommandGrant(verbs=("*",), hosts=("*",)),))
"""Of who holds the collector's own token."""


class Groups:
    """The members of user groups, remembered for a while. `ask` may raise DeliveryError."""

    def __init__(self, ask: AskMembers, clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._known: dict[str, tuple[float, frozenset[str]]] = {}
        self._failed: dict[str, float] = {}

    async def members(self, group: str) -> frozenset[str]:
        """Nobody, where the group cannot be asked for and was not known lately."""
        now = self._clock.monotonic()
        at, found = self._known.get(group, (float("-inf"), frozenset()))
        if now - at < FRESH:
            return found
        if now - self._failed.get(group, float("-inf")) < AGAIN:
            return found if now - at < USABLE else frozenset()
        try:
            found = await self._ask(group)
        except DeliveryError as error:
            self._failed[group] = now
            log.warning("members of a user group are not known", extra={"group": group, "error": str(error)[:200]})
            return found if now - at < USABLE else frozenset()
        self._known[group] = now, found
        return found


class Grants:
    """`[[commands.grants]]`."""

    def __init__(self, grants: Sequence[CommandGrant], groups: Groups) -> None:
        self._grants = tuple(grants)
        self._groups = groups

    async def of(self, user: str) -> Rights:
        """A group is asked for only where its grant does not name the user directly."""
        return Rights([grant for grant in self._grants if user in grant.users or await self._in_a_group(user, grant)])

    async def _in_a_group(self, user: str, grant: CommandGrant) -> bool:
        for group in grant.usergroups:
            if user in await self._groups.members(group):
                return True
        return False


def _any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
