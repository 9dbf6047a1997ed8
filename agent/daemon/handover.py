"""Hands this host's incidents to a collector that delivers them, and takes them back from one that fell silent.

Whose turn it is says `agent.alerting.turn`; this part makes it so, in an order in which two never write at once:
we end our calls before we say that the collector writes, and what a silent one may have posted is looked for
before it is posted again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from agent.alerting.state import State
from agent.alerting.turn import NOBODY, SELF, Turn
from agent.clock import Clock
from agent.errors import WireError
from agent.transport.inbox import Message
from agent.transport.wire import DeliveredMessage, DeliveryState, Heartbeat, decode

log = logging.getLogger(__name__)

LOOK_EVERY = 0.25
FACT = ("turn", "writer")


class Rows(Protocol):
    """What is needed of the outbox."""

    async def hold(self) -> None:
        """Begin no more calls; returns when none is under way."""
        ...

    def resume(self, *, gently: bool) -> None:
        """Deliver again; `gently`: beside a whole fleet that does the same, so far below Slack's limits."""
        ...

    def doubt(self) -> None:
        """Another has written meanwhile: look for what it may have posted before posting anything."""
        ...

    def adopt(self, rows: tuple[DeliveryState, ...]) -> None:
        """What the writer has told of its messages."""
        ...


class Handover:
    """`take` what arrives about collectors, `run` beside it. `say` publishes our deliveries with `writer`."""

    def __init__(self, turn: Turn, rows: Rows, state: State, clock: Clock, say: Callable[[], None]) -> None:
        self._turn = turn
        self._rows = rows
        self._state = state
        self._clock = clock
        self._say = say

    @property
    def writer(self) -> str:
        """Who writes to Slack for this host: "" itself, else "<collector>/<session>"."""
        return self._turn.current

    def take(self, message: Message) -> bool:
        """A heartbeat, or the word of the collector that writes for us; False for what is neither."""
        levels = message.topic.split("/")
        if levels[2] == "_collector":
            self._heartbeat(levels[3], message)
        elif levels[3:] == ["delivered"]:
            self._delivered(message)
        else:
            return False
        return True

    async def run(self) -> None:
        """For ever."""
        if self._turn.current != SELF:
            await self._rows.hold()
        while True:
            wanted = self._turn.wanted(self._clock.monotonic())
            if wanted != self._turn.current:
                await self._pass_to(wanted)
            await self._clock.sleep(LOOK_EVERY)

    async def _pass_to(self, new: str) -> None:
        """On the disk first: after a kill the next process must know who may have written."""
        old = self._turn.current
        if old == SELF:
            await self._rows.hold()
        else:
            self._rows.doubt()
        self._turn.take(new, self._clock.monotonic())
        self._state.put({FACT: new})
        await self._state.flush()
        self._say()
        if new == SELF:
            self._rows.resume(gently=old != NOBODY)
        log.info("another writes to Slack for this host", extra={"before": old or "itself", "now": new or "itself"})

    def _heartbeat(self, name: str, message: Message) -> None:
        try:
            beat = decode(message.payload, Heartbeat)
        except WireError:
            return
        if beat.state == "offline":
            self._turn.gone(name)
        else:
            self._turn.heard(name, beat.session, self._clock.monotonic(), delivers=beat.delivers)

    def _delivered(self, message: Message) -> None:
        """Only the present writer's word counts: one whose turn is over may still be in the wires."""
        try:
            told = decode(message.payload, DeliveredMessage)
        except WireError as error:
            log.warning("message not understood", extra={"topic": message.topic, "error": str(error)[:200]})
            return
        if told.writer == self._turn.current:
            self._rows.adopt(told.deliveries)
