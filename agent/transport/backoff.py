"""How long to wait before the next connection."""

from __future__ import annotations

import random

import msgspec


class Backoff(msgspec.Struct, frozen=True):
    """Full jitter: each pause is uniform between 0 and a bound that starts at `first` and doubles up to `cap`.

    A connection that stood for `calm` seconds starts it anew.
    """

    first: float = 30.0
    cap: float = 120.0
    calm: float = 60.0

    def delay(self, failures: int, rng: random.Random) -> float:
        return rng.uniform(0, min(self.cap, self.first * 2 ** min(failures, 20)))
