"""The last hour of the series that a threshold names: one mean a minute, in 4 bytes."""

from __future__ import annotations

import math
from array import array

import msgspec

MINUTES = 60
MAX_SERIES = 2000
"""Of these about 0.7 kB each are held; series beyond it have no history."""
_NOTHING = math.nan


class Hour(msgspec.Struct):
    """One series. `minute` is the one that is being counted, by a clock that never goes back."""

    probe: str
    minute: int
    means: array[float] = msgspec.field(default_factory=lambda: array("f", [_NOTHING]) * MINUTES)
    total: float = 0.0
    count: int = 0

    def add(self, value: float, minute: int) -> None:
        if minute != self.minute:
            for skipped in range(max(self.minute + 1, minute - MINUTES + 1), minute):
                self.means[skipped % MINUTES] = _NOTHING
            self.minute, self.total, self.count = minute, 0.0, 0
        self.total += value
        self.count += 1
        self.means[minute % MINUTES] = self.total / self.count

    def history(self, minute: int) -> tuple[float | None, ...]:
        """The hour that ends with `minute`, oldest first; None where there was nothing that is a number."""
        first = self.minute - MINUTES + 1
        return tuple(
            _known(self.means[each % MINUTES]) if first <= each <= self.minute else None
            for each in range(minute - MINUTES + 1, minute + 1)
        )


def _known(mean: float) -> float | None:
    """A 32-bit float has seven digits; a line in a message shows fewer."""
    return mean if math.isfinite(mean) else None
