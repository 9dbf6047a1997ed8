"""How fast Slack may be spoken to: one post a second per channel, about 40 edits a minute, and its own pauses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

Method = Literal["post", "edit", "find"]

POST_GAP = 1.05
"""Seconds between posts to one channel; a little over the second, for posts closer than that can vanish."""
GENTLE_GAP = 5.0
LONGEST_PAUSE = 300.0
EDITS_PER_SECOND, EDIT_BURST = 40 / 60, 8.0


class Pace:
    """Says when a call may be made; all times are monotonic seconds."""

    def __init__(self) -> None:
        self._paused: dict[Method, float] = {}
        self._posted: dict[str, float] = {}
        self._edits = EDIT_BURST
        self._counted = 0.0
        self._gap = POST_GAP

    def ready(self, method: Method, channel: str, now: float) -> float:
        """The earliest moment for a call; not after `now` means at once."""
        earliest = self._paused.get(method, now)
        if method == "post":
            return max(earliest, self._posted.get(channel, float("-inf")) + self._gap)
        if method == "edit":
            missing = 1 - self._stock(now)
            return max(earliest, now + missing / EDITS_PER_SECOND) if missing > 1e-9 else earliest
        return earliest

    def spend(self, method: Method, channel: str, now: float) -> None:
        """A call has been made, whatever came of it."""
        if method == "post":
            if len(self._posted) > 1000:
                self._posted.clear()
            self._posted[channel] = now
        elif method == "edit":
            self._edits, self._counted = self._stock(now) - 1, now

    def gently(self, gently: bool) -> None:
        """Many write at once, each of them far below the limit that holds for all together."""
        self._gap = GENTLE_GAP if gently else POST_GAP

    def pause(self, method: Method, until: float) -> None:
        """Slack asked for silence of this method."""
        self._paused[method] = max(until, self._paused.get(method, until))

    def restore(self, posted: Mapping[str, float], paused: Mapping[str, float], ahead: float, now: float) -> None:
        """From unix seconds, `ahead` of which is monotonic; nothing in the future counts for more than it can."""
        for channel, at in posted.items():
            self.spend("post", channel, now + ahead - min(max(0.0, now - at), POST_GAP))
        for method, until in paused.items():
            self.pause(cast("Method", method), now + ahead + min(max(0.0, until - now), LONGEST_PAUSE))

    def _stock(self, now: float) -> float:
        return min(EDIT_BURST, self._edits + (now - self._counted) * EDITS_PER_SECOND)
