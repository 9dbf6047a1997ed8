"""What a probe itself can say about an incident, where finding out takes a while.

The message goes out without it, and is edited when it is there. One incident at a time; in a storm the first
ones are looked into, and no more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from agent.alerting.memory import Pair
from agent.model import Evidence, Incident, Labels, TransitionKind

WAITING = 8
"""Incidents that may wait for their turn."""

Ask = Callable[[str, Labels], Awaitable[tuple[Evidence, ...]]]
"""The probe that brings a series; within a bound of its own."""
Tell = Callable[[str, tuple[Evidence, ...]], None]
"""Who adds it to the incident of this id."""


class Inquiry:
    """`consider` what the engine said; `run` looks into it."""

    def __init__(self, ask: Ask, tell: Tell) -> None:
        self._ask = ask
        self._tell = tell
        self._waiting: deque[Incident] = deque()
        self._wake = asyncio.Event()

    def consider(self, pairs: list[Pair]) -> None:
        for incident, transition in pairs:
            if transition.kind not in (TransitionKind.OPENED, TransitionKind.ESCALATED):
                continue
            if len(self._waiting) < WAITING:
                self._waiting.append(incident)
                self._wake.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                incident = self._waiting.popleft()
                if found := await self._ask(incident.metric, incident.labels):
                    self._tell(incident.id, found)
