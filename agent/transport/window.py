"""What is on its way and not yet acknowledged, and how fast more may follow. Pure; times are monotonic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from agent.transport.item import Item


class Flight(msgspec.Struct):
    """One item under way. `due` is when it is to be sent (again)."""

    item: Item
    first_sent: float
    last_sent: float
    due: float
    tries: int = 1


class Window:
    """At most `size` unacknowledged items; resends after max(`patience`, 4 x round trip)."""

    def __init__(self, size: int, patience: float) -> None:
        self._size = size
        self._patience = patience
        self._flights: dict[tuple[str, int], Flight] = {}
        self.rtt: float | None = None
        """Smoothed seconds from a publish to its acknowledgement; items sent twice are left out, as ambiguous."""

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def room(self) -> int:
        return self._size - len(self._flights)

    @property
    def items(self) -> Iterator[Item]:
        return (flight.item for flight in self._flights.values())

    def launch(self, item: Item, now: float) -> None:
        self._flights[item.key] = Flight(item, now, now, now + self.resend_after)

    def relaunch(self, flight: Flight, now: float) -> None:
        flight.tries += 1
        flight.last_sent = now
        flight.due = now + self.resend_after

    def land(self, items: Iterable[Item], now: float) -> int:
        """These are acknowledged; how many of them were under way."""
        landed = 0
        for item in items:
            flight = self._flights.pop(item.key, None)
            if flight is None:
                continue
            landed += 1
            if flight.tries == 1:
                sample = now - flight.last_sent
                self.rtt = sample if self.rtt is None else 0.875 * self.rtt + 0.125 * sample
        return landed

    def keep(self, wanted: Iterable[tuple[str, int]]) -> None:
        """Forget what the spool has let go of."""
        wanted = set(wanted)
        self._flights = {key: flight for key, flight in self._flights.items() if key in wanted}

    def expire(self) -> None:
        """The connection is a new one: whatever was under way is due at once."""
        for flight in self._flights.values():
            flight.due = 0.0

    def overdue(self, now: float) -> list[Flight]:
        """What is to be sent again: the important first, then the newest."""
        due = [flight for flight in self._flights.values() if flight.due <= now]
        due.sort(key=lambda flight: (flight.item.priority, flight.item.time), reverse=True)
        return due

    @property
    def next_due(self) -> float | None:
        return min((flight.due for flight in self._flights.values()), default=None)

    @property
    def oldest(self) -> float | None:
        return min((flight.first_sent for flight in self._flights.values()), default=None)

    @property
    def resend_after(self) -> float:
        return max(self._patience, 4 * (self.rtt or 0.0))


class Bucket:
    """`rate` tokens a second, at most one second's worth saved up."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = max(rate, 1e-3)
        self._tokens = max(1.0, self._rate)
        self._since = now

    def available(self, now: float) -> int:
        self._tokens = min(max(1.0, self._rate), self._tokens + (now - self._since) * self._rate)
        self._since = now
        return int(self._tokens)

    def spend(self, tokens: int) -> None:
        self._tokens -= tokens

    def wait_for(self, tokens: int) -> float:
        """Seconds until so many are available."""
        return max(0.0, (tokens - self._tokens) / self._rate)
