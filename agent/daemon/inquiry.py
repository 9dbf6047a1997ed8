"""What takes longer to find out about an incident: what has grown on a disk, and what a probe itself can say.

The message goes out without it, and is edited when it is there. One incident at a time, each with a
deadline; in a storm the first ones are looked into, and no more.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable

from agent.alerting.figure import duration, figure
from agent.alerting.memory import Pair
from agent.clock import Clock
from agent.daemon.suspects import SHOWN, table
from agent.daemon.walk import Walk, walk
from agent.model import Evidence, Incident, Labels, TransitionKind
from agent.plugin import BusyError, Thread, printable

log = logging.getLogger(__name__)

DEADLINE = 15.0
"""Seconds for all of one incident."""
WAITING = 8
"""Incidents that may wait for their turn."""
REMEMBERED = 8
"""Mounts of which the last walk is kept, to tell what has grown since."""
_SPACE = ("disk.used_percent", "disk.used_bytes", "disk.free_bytes")
_INODES = ("disk.inodes_used_percent",)
_REMOTE = ("9p", "afs", "beegfs", "ceph", "cifs", "fuse.", "glusterfs", "gpfs", "lustre", "nfs", "smb", "virtiofs")


Ask = Callable[[str, Labels], Awaitable[tuple[Evidence, ...]]]
"""The probe that brings a series."""
Tell = Callable[[str, tuple[Evidence, ...]], None]
"""Who adds it to the incident of this id."""


class Inquiry:
    """`consider` what the engine said; `run` looks into it."""

    def __init__(self, ask: Ask, tell: Tell, clock: Clock, *, look: Callable[[str], Walk] = walk) -> None:
        self._ask = ask
        self._tell = tell
        self._clock = clock
        self._look = look
        self._waiting: deque[Incident] = deque()
        self._wake = asyncio.Event()
        self._thread: Thread | None = None
        self._walks: dict[str, tuple[float, Walk]] = {}

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
                if found := await self._look_into(incident):
                    self._tell(incident.id, found)

    async def _look_into(self, incident: Incident) -> tuple[Evidence, ...]:
        metric, labels = incident.metric, incident.labels
        asked: list[Awaitable[tuple[Evidence, ...]]] = [self._ask(metric, labels), self._growth(metric, labels)]
        tasks = [asyncio.ensure_future(each) for each in asked]
        done, late = await asyncio.wait(tasks, timeout=DEADLINE)
        for task in late:
            task.cancel()
        return tuple(evidence for task in tasks if task in done for evidence in task.result())

    async def _growth(self, metric: str, labels: Labels) -> tuple[Evidence, ...]:
        mount = labels.get("mount", "")
        remote = labels.get("type", "").startswith(_REMOTE)  # there it is the server's to walk
        if metric not in (*_SPACE, *_INODES) or remote or not mount.startswith("/"):
            return ()
        self._thread = self._thread or Thread("inquiry")
        try:
            found = await self._thread.run(lambda: self._look(mount))
        except (BusyError, OSError) as error:
            log.info("no look at a mount", extra={"mount": mount, "error": str(error)})
            return ()
        at, before = self._clock.monotonic(), self._walks.pop(mount, None)
        self._walks[mount] = at, found
        while len(self._walks) > REMEMBERED:
            del self._walks[next(iter(self._walks))]
        told = _told(found, at, before, inodes=metric in _INODES)
        return (told,) if told.lines else ()


def _told(found: Walk, at: float, before: tuple[float, Walk] | None, *, inodes: bool) -> Evidence:
    """What has grown most comes first, where an earlier walk tells; else the largest."""
    amounts = found.files if inodes else found.sizes
    earlier = (before[1].files if inodes else before[1].sizes) if before is not None else {}
    # An unfinished walk may have missed what only now was found: nothing can be said of growth.
    comparable = before is not None and before[1].complete and found.complete
    growth = {path: amount - earlier[path] for path, amount in amounts.items() if path in earlier} if comparable else {}
    grown = [path for path, more in growth.items() if more > 0]
    order = sorted(grown, key=lambda path: -growth[path])
    order += [path for path in amounts if path not in grown]
    shown = [path for path in order[:SHOWN] if amounts[path] > 0]
    rows = [(printable(os.fsencode(path)), _amount(amounts[path], inodes=inodes)) for path in shown]
    lines = list(table(rows))
    for index, path in enumerate(shown):
        if growth.get(path, 0) > 0 and before is not None:
            since = duration(at - before[0])
            lines[index] += f"  +{_amount(growth[path], inodes=inodes)} in {since}"
    if not found.complete:
        lines.append(f"(of {found.entries} entries; not all could be looked at)")
    title = "Most files" if inodes else "Largest directories and files"
    return Evidence(title, tuple(lines) if rows else ())


def _amount(amount: int, *, inodes: bool) -> str:
    return f"{amount} files" if inodes else figure(float(amount), "bytes")
