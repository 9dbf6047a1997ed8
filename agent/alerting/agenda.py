"""When the next call about each incident may be made: pauses after failures, edits that can wait, the pace of it all.

All times are monotonic seconds, but for those in the state, which hold over a restart.
"""

from __future__ import annotations

import math
import random

from agent.alerting.delivery import Delivery, Operation
from agent.alerting.failure import BACKOFF_CAP, Verdict
from agent.alerting.pace import Method, Pace
from agent.alerting.state import State
from agent.alerting.table import Table
from agent.clock import Clock

SETTLE = 3.0
"""Seconds of quiet after a start where the last process had a post in the wires: it may still arrive."""
DEBOUNCE = 10.0
"""Seconds between an edit that can wait and the call before it on the same message."""
CHILD_GAP = 10.0
"""Seconds between two messages in a storm's thread."""
_METHODS: dict[Operation, Method] = {"post": "post", "reply": "post", "edit": "edit", "find": "find", "look": "find"}
LOOK_AFTER = 2.0
"""Seconds until a message that was taken should be shown."""
MISSED_FIRST, MISSED_CAP = 8.0, 120.0
"""Seconds within which what was not shown is told again, at a random moment: doubled each time, up to the cap."""


class Agenda:
    """Asked by the outbox with `ready`, told of each call: before it with `spend`, after it with `called`."""

    def __init__(self, state: State, clock: Clock, table: Table, rng: random.Random) -> None:
        self._state = state
        self._rng = rng
        self._clock = clock
        self._table = table
        self._pace = Pace()
        self._not_before: dict[str, float] = {}
        self._called: dict[str, float] = {}
        self._parked = 0.0
        self._alone_from = float("-inf")
        self.gently = self._pace.gently

    @property
    def unsure(self) -> bool:
        """Whether others may write at this moment: then Slack may take what it does not show."""
        return self._clock.monotonic() < self._alone_from

    def crowded(self, seconds: float) -> None:
        """Others may write for so long, and none knows of the others' posts."""
        self._alone_from = max(self._alone_from, self._clock.monotonic() + seconds)

    def load(self) -> None:
        """What the last process has left."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        for row in self._table.rows.values():
            if row.state == "ambiguous":
                self._parked = monotonic + SETTLE
            if row.next_try is not None:
                self._not_before[row.id] = monotonic + min(max(0.0, row.next_try - now), BACKOFF_CAP)
        posted, paused = self._state.read("posted", float), self._state.read("pause", float)
        self._pace.restore(posted, paused, monotonic - now, now)

    def ready(self, row: Delivery, operation: Operation, channel: str, now: float) -> float:
        """The earliest moment for it; not after `now` means at once, infinity that something else comes first."""
        earliest = max(self._parked, self._not_before.get(_key(row, operation), 0.0))
        if operation == "edit" and not row.urgent:
            earliest = max(earliest, self._called.get(row.id, now - DEBOUNCE) + DEBOUNCE)
        if operation == "look":
            earliest = max(earliest, self._called.get(row.id, now - LOOK_AFTER) + LOOK_AFTER)
        if operation == "post" and row.gathered:
            thread, storm = self._table.thread(row), self._table.rows.get(row.bulletin)
            if storm is not None and storm.state != "dead" and (storm.unsure or not thread):
                return math.inf  # first the message in whose thread it belongs
            earliest = max(earliest, self._called.get(f"in {thread}", now - CHILD_GAP) + CHILD_GAP)
        return max(earliest, self._pace.ready(_METHODS[operation], channel, now))

    def spend(self, operation: Operation, channel: str) -> None:
        self._pace.spend(_METHODS[operation], channel, self._clock.monotonic())
        if _METHODS[operation] == "post":  # the pace holds over a restart, too
            self._state.put({("posted", channel): self._clock.now()})

    def called(self, row: Delivery, operation: Operation, channel: str) -> None:
        """It has ended, whatever came of it."""
        now, thread = self._clock.monotonic(), self._table.thread(row)
        if operation == "post" and thread:
            self._called[f"in {thread}"] = now
        if operation not in ("edit", "look"):  # the gap begins when a post ends; what was found may be just that old
            self.spend("post", channel)
        self._called[row.id] = now

    def worked(self, row: Delivery, *, again: bool) -> None:
        """A call has succeeded; `again`: after failures, so nobody needs to wait for longer."""
        self._parked = 0.0
        self._not_before.pop(row.id, None)
        if again:
            self._not_before.clear()

    def looked(self, row: Delivery, *, seen: bool) -> None:
        """What Slack has taken and not shown is told again; others have posted at once, so not all at once again."""
        row.looked(seen=seen)
        self.soon(row)
        self._not_before.pop(_key(row, "look"), None)
        if seen:
            return
        longest = min(MISSED_CAP, MISSED_FIRST * 2.0 ** min(row.generation - 1, 10))
        self._not_before[row.id] = self._clock.monotonic() + self._rng.uniform(1.0, longest)

    def put_off(self, row: Delivery, operation: Operation, verdict: Verdict) -> None:
        """A call has failed."""
        now, wall = self._clock.monotonic(), self._clock.now()
        self._not_before[_key(row, operation)] = now + verdict.pause
        if operation != "look":
            row.next_try = None if row.state == "dead" else wall + verdict.pause
        if verdict.park:
            self._parked = now + verdict.park
        if verdict.method:
            self._pace.pause(_METHODS[operation], now + verdict.method)
            self._state.put({("pause", _METHODS[operation]): wall + verdict.method})

    def unpark(self) -> None:
        """What everything waited for may be mended."""
        self._parked = 0.0

    def soon(self, row: Delivery) -> None:
        """Its failures were another's."""
        self._not_before.pop(row.id, None)

    def forget(self, row: Delivery) -> None:
        self._not_before.pop(row.id, None)
        self._not_before.pop(_key(row, "look"), None)
        for key in (row.id, f"in {row.ts}", f"in {row.thread}"):
            self._called.pop(key, None)


def _key(row: Delivery, operation: Operation) -> str:
    """A look that failed puts off the next one, and nothing else."""
    return f"look {row.id}" if operation == "look" else row.id
