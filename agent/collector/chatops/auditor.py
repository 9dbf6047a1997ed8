"""Writes the audit, in order, as the database can take it: a request waits for no database.

Every entry is a line of the log at once, so that it is kept somewhere also while the database is away.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque

from agent.clock import Clock
from agent.collector.store import AuditEntry, AuditLog
from agent.errors import StoreError

log = logging.getLogger(__name__)

MOST_WAITING = 20_000
AT_ONCE = 500
LONGEST_PAUSE = 5.0


class Auditor:
    """`chain` is this collector's name. `outcomes` counts since the start, for /metrics."""

    def __init__(self, store: AuditLog, chain: str, clock: Clock) -> None:
        self._store = store
        self._chain = chain
        self._clock = clock
        self._waiting: deque[AuditEntry] = deque()
        self._arrived = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        self.outcomes: Counter[str] = Counter()
        self.dropped = 0

    def note(
        self,
        *,
        request: str,
        actor: str,
        source: str,
        verb: str,
        text: str,
        outcome: str,
        hosts: tuple[str, ...] = (),
        detail: str = "",
    ) -> None:
        """One fact, now."""
        entry = AuditEntry(self._clock.now(), request, actor, source, verb, text, hosts, outcome, detail)
        self.outcomes[outcome] += 1
        shown = {"request": request, "actor": actor, "verb": verb[:32], "outcome": outcome, "hosts": len(hosts)}
        log.info("command", extra=shown | {"text": text[:200], "detail": detail[:200]})
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1  # it is in the log
            return
        self._waiting.append(entry)
        self._written.clear()
        self._arrived.set()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def run(self) -> None:
        """Until cancelled."""
        pause = 0.2
        while True:
            await self._arrived.wait()
            batch = list(self._waiting)[:AT_ONCE]
            try:
                await self._store.append(self._chain, batch)
            except StoreError as error:
                if pause == 0.2:
                    log.warning(
                        "audit waits for the database", extra={"entries": len(batch), "error": str(error)[:200]}
                    )
                await self._clock.sleep(pause)
                pause = min(LONGEST_PAUSE, pause * 2)
                continue
            pause = 0.2
            for _ in batch:
                self._waiting.popleft()
            if not self._waiting:
                self._arrived.clear()
                self._written.set()

    async def settled(self) -> None:
        """Until everything noted is in the database."""
        await self._written.wait()
