"""Goes on where another collector has led: what it has told of hosts that are gone is not told a second time.

For a moment several may believe that they lead: one that has just come and has not heard the others yet, or one whose
last heartbeat was answered before it was cut off. Two incidents about one host may come of it, each with its message:
whoever leads finds both in the database at its next look, and ends both when the host is back. Where two end the same
one, its version is the same, and so is what they make of its message. What one has told while the database did
not answer, and was killed before that, it brings there when it is back itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from agent.clock import Clock, wake_or_sleep
from agent.collector.hostwatch import METRIC, THRESHOLD, HostWatch
from agent.collector.store import Reader
from agent.errors import StoreError
from agent.model import Incident

log = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds for which one that has come to lead waits for the database: told twice is better than not told."""
LOOK_EVERY, LOOK_AGAIN = 30.0, 1.0
"""Seconds until the next look into the database, after one that succeeded and one that did not."""


class Succession:
    """`look` once a second, `run` beside it. `show` is given incidents that another may have told in part."""

    def __init__(
        self, reader: Reader, watch: HostWatch, clock: Clock, show: Callable[[Iterable[Incident]], None]
    ) -> None:
        self._reader = reader
        self._watch = watch
        self._clock = clock
        self._show = show
        self._since: float | None = None
        self._begun = asyncio.Event()
        self.ready = False
        """We lead, and know what those before us have told; or have waited for that for long enough."""

    def end(self) -> None:
        """Another leads, or may have led meanwhile."""
        self._since, self.ready = None, False

    def look(self, *, leads: bool) -> None:
        """`leads`: whether it is us, as far as we know."""
        now = self._clock.monotonic()
        if not leads:
            self.end()
        elif self._since is None:
            self._since = now
            self._begun.set()
        elif not self.ready and now - self._since >= PATIENCE:
            log.warning("database away: what another may have told of hosts that are gone is not known")
            self._go_on(())

    async def run(self) -> None:
        """For ever."""
        while True:
            self._begun.clear()
            pause = None if self._since is None else await self._adopt()
            await wake_or_sleep(self._begun, self._clock, pause)

    async def _adopt(self) -> float:
        """Take over what the database has; the seconds until the next time."""
        since = self._since
        try:
            stored = await self._stored()
        except StoreError:
            return LOOK_AGAIN
        if since != self._since or since is None:  # another has led since we asked
            return LOOK_AGAIN
        self._go_on(self._watch.adopt(stored))
        return LOOK_EVERY

    async def _stored(self) -> list[Incident]:
        """What is open there, and what is open here and over there."""
        rows = await self._reader.open_of(THRESHOLD, METRIC)
        known = {row.id for row in rows}
        for incident in self._watch.incidents:
            row = None if incident.id in known else await self._reader.incident(incident.id)
            rows += [] if row is None else [row]
        return [row.incident() for row in rows]

    def _go_on(self, news: Iterable[Incident]) -> None:
        """When we begin, with all that is open, since those before us may have come further with it than we."""
        open_here = () if self.ready else self._watch.incidents
        shown = {incident.id: incident for incident in (*news, *open_here)}
        if not self.ready:
            log.info("this collector tells of hosts that are gone", extra={"incidents": len(shown)})
        self._show(shown.values())
        self.ready = True
