"""A picture in the thread of an incident: once when it opens, once for each rise; after the message and beside it.

No alert waits for one, and none fails for one. That it is about to be sent is on the disk first, so a restart
sends it at most once; one that may have arrived is not sent again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from agent.alerting.messenger import TERMINAL, Messenger
from agent.alerting.state import State
from agent.clock import Clock
from agent.errors import AmbiguousError, DeliveryError, RetryError, TokenError
from agent.model import Incident

log = logging.getLogger(__name__)

WAITING = 8
"""Incidents that may wait for theirs; in a storm the others get none."""
GAP = 3.0
"""Seconds between two pictures: a file counts as a post of the channel's."""
KEPT = 500
"""Incidents of which it is remembered that they had theirs."""
TRIES, PAUSE = 3, 15.0
"""How often one is tried where nothing of it was shown, and the seconds between, if Slack asks for no more."""


class _Shown(NamedTuple):
    incident: Incident
    channel: str
    ts: str


class Pictures:
    """`offer` every message that stands; `run` puts the pictures beside them. `on` may be switched at any time."""

    def __init__(
        self,
        state: State,
        messenger: Messenger,
        draw: Callable[[Incident], Awaitable[bytes]],
        clock: Clock,
        *,
        on: bool = True,
    ) -> None:
        """`draw` gives a PNG, or b"" where there is nothing to draw; it raises nothing."""
        self.on = on
        self._state = state
        self._messenger = messenger
        self._draw = draw
        self._clock = clock
        self._sent: dict[str, int] = state.read("picture", int)
        """Incident -> rank of the severity for which it has had its picture."""
        self._waiting: dict[str, _Shown] = {}
        self._wake = asyncio.Event()

    def offer(self, incident: Incident, channel: str, ts: str) -> None:
        """A version of the incident has just been told there, in a message of its own or in its thread.

        Of several writers only one tells a rise, so only one offers it.
        """
        if incident.state == "resolved":
            self._waiting.pop(incident.id, None)
            if self._sent.pop(incident.id, None) is not None:
                self._state.put({("picture", incident.id): None})
            return
        if (
            not self.on
            or channel == TERMINAL
            or incident.muted
            or not any(each is not None for each in incident.history)
        ):
            return
        if incident.severity.rank <= self._sent.get(incident.id, 0):
            return
        if len(self._waiting) < WAITING or incident.id in self._waiting:
            self._waiting[incident.id] = _Shown(incident, channel, ts)
            self._wake.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                shown = self._waiting.pop(next(iter(self._waiting)))
                await self._mark(shown.incident)
                if png := await self._draw(shown.incident):
                    await self._send(png, shown)
                    await self._clock.sleep(GAP)

    async def _mark(self, incident: Incident) -> None:
        """On the disk before anything is sent. Of incidents that nobody resolves the oldest are let go of."""
        facts: dict[tuple[str, str], int | None] = {("picture", incident.id): incident.severity.rank}
        self._sent[incident.id] = incident.severity.rank
        for oldest in sorted(self._sent)[:-KEPT]:
            del self._sent[oldest]
            facts["picture", oldest] = None
        self._state.put(facts)
        await self._state.flush()

    async def _send(self, png: bytes, shown: _Shown) -> None:
        incident = shown.incident
        title = f"{incident.severity.upper()}: {incident.threshold} on {incident.host}"
        nonce = f"{incident.id}.{incident.version}"
        for attempt in range(1, TRIES + 1):
            try:
                await self._messenger.picture(png, title, shown.channel, shown.ts, nonce)
            except RetryError as error:
                if attempt == TRIES:
                    self._give_up(incident, error)
                else:
                    await self._clock.sleep(max(PAUSE, error.after or 0.0))
            except DeliveryError as error:
                self._give_up(incident, error)
                return
            except Exception as error:  # the border of a delivery
                log.exception("picture broke", extra={"incident": incident.id})
                self._give_up(incident, AmbiguousError("internal", repr(error)))
                return
            else:
                log.info("picture sent", extra={"incident": incident.id, "bytes": len(png), "attempts": attempt})
                return

    def _give_up(self, incident: Incident, error: DeliveryError) -> None:
        if isinstance(error, TokenError) and error.code in ("missing_scope", "not_allowed_token_type"):
            self.on = False
            log.warning("no pictures: the token may not send files (scope files:write)")
            return
        log.warning("picture not sent", extra={"incident": incident.id, "error": str(error)})
