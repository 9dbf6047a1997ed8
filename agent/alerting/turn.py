"""Whose turn it is to write to Slack: this host's, or that of a collector that lives. Pure.

Slack's limits are per app and channel, so one collector writes for all hosts. A host whose collector has been
silent for a while writes itself, and hands over when one is back. A writer is named "<collector>/<session>",
so that a collector which has started anew is another one; "" is the host itself.
"""

from __future__ import annotations

import random
from typing import Literal

import msgspec

SELF = ""
NOBODY = "-"
"""Writes in `mode = "collector"` before any collector was heard, and for a while after one was told to stop."""
JITTER = 0.3
"""Share of `silence` at most that a host waits beyond it, so that a fleet does not begin to write as one."""

ALONE = 600.0
"""Seconds for which a collector that did not do its work is not given the turn again."""
MOST = 16
"""Collectors that are listened to at a time; what says it is one more is somebody who plays many."""

Mode = Literal["auto", "direct", "collector"]


class Beat(msgspec.Struct, frozen=True):
    """The last heartbeat of a collector, and when it came (monotonic)."""

    session: str
    delivers: bool
    at: float


class Turn:
    """`current` is who writes now, `wanted` who should; the wiring brings the one to the other with `take`.

    Between the two lies what must be done first: a host ends its calls before a collector begins, and looks for
    what a silent collector may have posted before it posts itself.
    """

    def __init__(
        self, now: float, rng: random.Random, *, mode: Mode = "auto", current: str = SELF, silence: float = 10.0
    ) -> None:
        """`current` as the last process has left it: that collector has from now on the time to be heard.

        `silence`: seconds without a heartbeat after which a collector is given up.
        """
        self.mode: Mode = mode
        self.current = current or NOBODY if mode == "collector" else current
        self._rng = rng
        self._silence = silence
        self._beats: dict[str, Beat] = {}
        self._trusted_until = self._patience(now)
        self._alone_until = float("-inf")

    def reload(self, mode: Mode, silence: float) -> None:
        """Another configuration. `silence` only grows: the collector's lease may still be as long as it was."""
        self.mode, self._silence = mode, max(self._silence, silence)

    def heard(self, name: str, session: str, now: float, *, delivers: bool) -> None:
        """A heartbeat; `delivers` is False where that collector has no Slack, or cannot write at present."""
        if name not in self._beats and len(self._beats) >= MOST:
            self._beats = {known: beat for known, beat in self._beats.items() if now - beat.at <= self._silence}
            if len(self._beats) >= MOST:
                return
        self._beats[name] = Beat(session, delivers, now)
        if self.current == writer(name, session):
            self._trusted_until = self._patience(now)

    def gone(self, name: str) -> None:
        """A last will. It says that the connection is lost, not that the collector has ended: silence decides.

        Unless it had given its turn back before, as it does at a clean end.
        """
        beat = self._beats.pop(name, None)
        if beat is not None and not beat.delivers and self.current == writer(name, beat.session):
            self._trusted_until = float("-inf")

    @property
    def patience(self) -> float:
        """Seconds for which one that is silent keeps its turn at most."""
        return self._silence * (1 + JITTER)

    def distrust(self, now: float) -> None:
        """Whoever has the turn says that it writes, and does not."""
        self._alone_until = now + ALONE

    def take(self, new: str, now: float) -> None:
        """`new` writes from now on."""
        self.current = new
        self._trusted_until = self._patience(now)

    def wanted(self, now: float) -> str:
        """Who should write: the present one for as long as it can, else the first by name that delivers."""
        if self.mode == "direct" or (self.mode == "auto" and now < self._alone_until):
            return self._alone(now)
        living = sorted(
            writer(name, beat.session)
            for name, beat in self._beats.items()
            if beat.delivers and now - beat.at <= self._silence
        )
        if self.current in living:
            return self.current
        if living:
            return living[0]
        if self.mode == "collector":
            return self.current or NOBODY
        if now < self._trusted_until and not self._released(now):
            return self.current
        return SELF

    def until(self, now: float) -> float | None:
        """The first moment after `now` at which `wanted` may change by time alone."""
        ends = [beat.at + self._silence for beat in self._beats.values()]
        return min((end for end in (*ends, self._trusted_until, self._alone_until) if end > now), default=None)

    def _alone(self, now: float) -> str:
        """The host; but a collector that has written until now hears of it first, and has the time to end its call."""
        if self.current == SELF or (self.current == NOBODY and now >= self._trusted_until):
            return SELF
        return NOBODY

    def _released(self, now: float) -> bool:
        """The present writer itself says that it does not write: nothing of its is under way any more."""
        return any(
            writer(name, beat.session) == self.current and not beat.delivers and now - beat.at <= self._silence
            for name, beat in self._beats.items()
        )

    def _patience(self, now: float) -> float:
        return now + self._silence * (1 + self._rng.uniform(0, JITTER))


def writer(name: str, session: str) -> str:
    return f"{name}/{session}"
