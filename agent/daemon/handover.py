"""Hands this host's incidents to a collector that delivers them, and takes them back from one that fell silent.

Whose turn it is says `agent.alerting.turn`; this part makes it so, in an order in which two never write at once:
we end our calls before we say that the collector writes, and what a silent one may have posted is looked for
before it is posted again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable
from importlib.metadata import version

from agent.alerting.outbox import Outbox
from agent.alerting.route import digest
from agent.alerting.state import State
from agent.alerting.turn import NOBODY, SELF, Turn
from agent.clock import Clock, wake_or_sleep
from agent.config.schema import SlackConfig
from agent.errors import WireError
from agent.transport.inbox import Message
from agent.transport.wire import DeliveredMessage, Heartbeat, decode

log = logging.getLogger(__name__)

MARGIN = 0.05
"""Seconds after the moment at which a turn may end until we look: a clock's grain must not make us miss it."""
ANSWER_WITHIN, ASK_AFTER, LOOK_EVERY = 30.0, 10.0, 5.0
"""Seconds that a collector has to say a word about an incident that is to be told; after which it is asked once more,
as a broker with too much on its hands may have dropped the question; and between two looks at that.
"""
FACT = ("turn", "writer")


class Handover:
    """`heartbeat` and `delivered` take what arrives, `run` acts on it. `say` publishes our deliveries with `writer`."""

    def __init__(
        self, config: SlackConfig, outbox: Outbox, state: State, clock: Clock, say: Callable[[], None]
    ) -> None:
        last = state.read("turn", str).get("writer", SELF)
        silence = float(config.takeover_after)
        self._turn = Turn(clock.monotonic(), random.Random(), mode=config.deliver, current=last, silence=silence)
        self._outbox = outbox
        if self._turn.current != SELF:
            outbox.pause()  # before anything can begin
        outbox.crowded(math.inf)  # a host never knows what others write
        self._state = state
        self._clock = clock
        self._say = say
        self._version = version("tocsin")
        self._routes = _routes(config)
        self._others: set[str] = set()
        self._answered: set[str] = set()
        self._unanswered: dict[str, float] = {}
        self._looked = float("-inf")
        self._news = asyncio.Event()

    @property
    def writer(self) -> str:
        """Who writes to Slack for this host: "" itself, else "<collector>/<session>"."""
        return self._turn.current

    def reload(self, config: SlackConfig) -> None:
        """Another configuration; `run` brings about what follows from it. A shorter `takeover_after` is not taken."""
        self._turn.reload(config.deliver, float(config.takeover_after))
        self._routes = _routes(config)
        self._news.set()

    async def run(self) -> None:
        """For ever: at each word of a collector, and when time alone may have decided."""
        while True:
            self._news.clear()
            now = self._clock.monotonic()
            self._look_after(now)
            wanted = self._turn.wanted(now)
            if wanted != self._turn.current:
                await self._pass_to(wanted)
                continue
            until = self._turn.until(now - MARGIN)
            pauses = [LOOK_EVERY] if self._led else []
            pauses += [] if until is None else [until + MARGIN - now]
            await wake_or_sleep(self._news, self._clock, min(pauses, default=None))

    @property
    def _led(self) -> bool:
        """Whether a collector writes, and we could."""
        return self._turn.mode == "auto" and self._turn.current not in (SELF, NOBODY) and self._routes != ""

    def _look_after(self, now: float) -> None:
        """A heartbeat is a promise that anybody at the broker can make: one that is not kept gives us the turn back."""
        wanting = (
            {incident.id for incident in self._outbox.waiting() if incident.state == "open"} if self._led else set()
        )
        self._answered &= wanting
        if now - self._looked > 2 * LOOK_EVERY:  # we stood still, and what was said meanwhile is not read yet
            self._unanswered.clear()
        before, self._looked = self._looked, now
        self._unanswered = {one: self._unanswered.get(one, now) for one in wanting - self._answered}
        if any(before < since + ASK_AFTER <= now for since in self._unanswered.values()):
            self._say()
        within = max(ANSWER_WITHIN, self._turn.patience)
        if any(now - since >= within for since in self._unanswered.values()):
            log.error(
                "the collector that says it writes to Slack does not: this host writes itself",
                extra={"collector": self._turn.current, "incidents": len(self._unanswered)},
            )
            self._turn.distrust(now)

    async def _pass_to(self, new: str) -> None:
        """On the disk first: after a kill the next process must know who may have written."""
        old = self._turn.current
        if old == SELF:
            await self._outbox.hold()
        else:
            self._outbox.doubt()
        self._turn.take(new, self._clock.monotonic())
        self._answered.clear()
        self._unanswered.clear()
        self._state.put({FACT: new})
        await self._state.flush()
        self._say()
        if new == SELF:
            self._outbox.resume(gently=self._turn.mode != "direct")
        log.info("another writes to Slack for this host", extra={"before": old or "itself", "now": new or "itself"})

    def heartbeat(self, message: Message) -> None:
        """A collector's word of itself."""
        name = message.topic.split("/")[3]
        try:
            beat = decode(message.payload, Heartbeat)
        except WireError:
            return  # of a stranger, or of one from another time
        if beat.state == "offline":
            self._turn.gone(name)
        else:
            self._turn.heard(name, beat.session, self._clock.monotonic(), delivers=beat.delivers)
            self._compare(name, beat)
        self._news.set()

    def _compare(self, name: str, beat: Heartbeat) -> None:
        """Say once where the collector's routes are not ours: what it has begun would be looked for elsewhere."""
        if not beat.delivers or beat.version != self._version or not self._routes:
            return
        differs = beat.routes != self._routes
        if differs and name not in self._others:
            log.warning(
                "the collector's [slack] channel or routes are not those of this host", extra={"collector": name}
            )
        (self._others.add if differs else self._others.discard)(name)

    def delivered(self, message: Message) -> None:
        """What the collector that writes for us has shown.

        Only the present writer's word counts: one whose turn is over may still be in the wires.
        """
        try:
            told = decode(message.payload, DeliveredMessage)
        except WireError as error:
            log.warning("message not understood", extra={"topic": message.topic, "error": str(error)[:200]})
            return
        if told.writer == self._turn.current:
            self._answered.update(row.incident for row in told.deliveries)
            self._outbox.adopt(told.deliveries)
        else:
            self._say()  # a broker may have dropped our word for it


def _routes(config: SlackConfig) -> str:
    """Empty where this host and a collector do not write in turns."""
    return "" if config.bot_token is None or config.deliver == "direct" else digest(config.channel, config.routes)
