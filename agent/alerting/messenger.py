"""What the outbox asks of a chat system."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from agent.model import Incident, Transition

TERMINAL = "terminal"
"""Stands for the channel of what was printed instead: nobody in Slack has seen it."""


class Posted(NamedTuple):
    """Where a message is: the channel's id (or TERMINAL) and the message's `ts`."""

    channel: str
    ts: str


class Messenger(Protocol):
    """Speaks to one chat system; raises the DeliveryError tree, and never takes for ever.

    `small`: leave out all that can be left out. `nonce` is to be found again by `find`.
    """

    def warm(self) -> None:
        """Prepare for the first call, without waiting: what takes long is done beside everything else."""
        ...

    async def post(
        self,
        incident: Incident,
        transition: Transition | None,
        channel: str,
        thread_ts: str | None,
        nonce: str,
        *,
        mention: str = "",
        small: bool = False,
    ) -> Posted:
        """The incident's own message (`transition` None), or a reply in its thread about a transition."""
        ...

    async def edit(
        self, incident: Incident, channel: str, ts: str, *, mention: str = "", small: bool = False
    ) -> None: ...

    async def find(
        self, channel: str, nonce: str, since: float, thread_ts: str | None = None, *, at: str = ""
    ) -> Posted | None:
        """The message with this nonce, sent after `since` (unix seconds); in a thread if one is given. `at`: its `ts`,
        where that is known.
        """
        ...

    async def picture(self, png: bytes, title: str, channel: str, thread_ts: str, nonce: str) -> None:
        """A PNG into a thread. AmbiguousError: it may be there; any other: nothing was shown."""
        ...
