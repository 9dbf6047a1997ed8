"""What may be acknowledged: pure bookkeeping, one track per host and epoch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from agent.collector.store import Received
from agent.transport.wire import Ack, GapEnvelope

MAX_TRACKS = 20_000
MAX_AHEAD = 10_000
"""Numbers beyond the first hole that one track remembers."""


class Track:
    """The numbers of one epoch that this collector knows to be stored, or dropped by the spool and reported.

    `upto`: all from 1 to here. A track that would have to remember too much stands still for good,
    which costs nothing but longer acks.
    """

    def __init__(self) -> None:
        self.upto = 0
        self._ahead: set[int] = set()
        self._dropped: list[tuple[int, int]] = []
        self._stuck = False

    def add(self, seq: int) -> None:
        if seq > self.upto and not self._stuck:
            self._ahead.add(seq)

    def drop(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Inclusive ranges, as in a gap record."""
        if not self._stuck:
            self._dropped += [(first, last) for first, last in ranges if last > self.upto and first <= last]

    def advance(self) -> int:
        """Fill what can be filled; the new `upto`."""
        self._dropped.sort()
        filled = 0
        while True:
            if self.upto + 1 in self._ahead:
                self.upto += 1
                self._ahead.remove(self.upto)
            elif filled < len(self._dropped) and self._dropped[filled][0] <= self.upto + 1:
                self.upto = max(self.upto, self._dropped[filled][1])
                filled += 1
            else:
                break
        del self._dropped[:filled]
        if len(self._ahead) + len(self._dropped) > MAX_AHEAD:
            self._ahead = {seq for seq in self._ahead if seq > self.upto}
            if len(self._ahead) + len(self._dropped) > MAX_AHEAD:
                self._stuck = True
                self._ahead.clear()
                self._dropped.clear()
        return self.upto


class Acks:
    """Makes the acks of a batch. After our restart tracks start anew, and with them `upto` at 0."""

    def __init__(self) -> None:
        self._tracks: OrderedDict[tuple[str, str], Track] = OrderedDict()

    def of(self, done: Iterable[Received], slow_down: float = 0.0) -> list[tuple[str, Ack]]:
        """One per host and epoch: `also` is exactly what is in `done`, `upto` what is known beyond doubt."""
        numbers: dict[tuple[str, str], set[int]] = {}
        for item in done:
            host, epoch, seq = item.identity
            numbers.setdefault((host, epoch), set()).add(seq)
            self._track(host, epoch).add(seq)
            if isinstance(item.envelope, GapEnvelope):
                gap = item.envelope.gap
                self._track(host, gap.epoch).drop(gap.ranges)
        return [
            (host, Ack(epoch, self._track(host, epoch).advance(), tuple(sorted(also)), slow_down))
            for (host, epoch), also in numbers.items()
        ]

    def _track(self, host: str, epoch: str) -> Track:
        key = host, epoch
        track = self._tracks.get(key)
        if track is None:
            track = self._tracks[key] = Track()
            if len(self._tracks) > MAX_TRACKS:
                self._tracks.popitem(last=False)
        else:
            self._tracks.move_to_end(key)
        return track
