"""The outbox's rows, on the disk as in memory: a restart needs nothing but these."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from agent.alerting.bulletin import STORM, is_bulletin
from agent.alerting.delivery import Delivery
from agent.alerting.state import State
from agent.model import DeliveryState, Incident

KEPT_FOR, KEPT = 86400.0, 100
"""How long, and how many, deliveries of resolved incidents stay listed; and how long what others write for is kept."""


class Table:
    """`rows` by incident. `on_change` is called with every row that is kept."""

    def __init__(self, state: State, on_change: Callable[[], None] | None) -> None:
        self._state = state
        self._on_change = on_change
        self.rows = state.read("delivery", Delivery)

    def keep(self, row: Delivery) -> None:
        facts: dict[tuple[str, str], object | None] = {("delivery", row.id): row}
        if row.over and row.state != "dead":
            facts["incident", row.id] = None
        self._state.put(facts)
        if self._on_change is not None:
            self._on_change()

    def forget(self, row: Delivery) -> None:
        del self.rows[row.id]
        self._state.put({("delivery", row.id): None, ("incident", row.id): None})

    def outlived(self, now: float) -> list[Delivery]:
        """What need not be listed any more: what is over and told after a day, and of more than a hundred the oldest;
        and what has been another's for a day.
        """
        over = sorted((row for row in self.rows.values() if row.over), key=lambda row: row.incident.updated_at)
        limit, spare = now - KEPT_FOR, len(over) - KEPT
        old = [row for index, row in enumerate(over) if row.incident.updated_at < limit or index < spare]
        return old + [row for row in self.rows.values() if 0.0 < row.away < limit and not row.over]

    def thread(self, row: Delivery) -> str:
        """The message in whose thread this one is, or is to be: that of our storm, be it posted anew; "" for a root.
        In that of a digest is none.
        """
        storm = self.rows.get(row.bulletin)
        return row.thread if row.ts or storm is None or storm.incident.metric != STORM else storm.ts

    def shown(self, host: str | None = None) -> list[DeliveryState]:
        """Every incident's row, or those about one host, oldest incident first."""
        rows = (row for row in self._incidents() if host in (None, row.incident.host))
        return [msgspec.structs.replace(row.shown(), thread=self.thread(row)) for row in rows]

    def waiting(self) -> list[Incident]:
        """What should be told and is not yet, oldest first."""
        return [row.incident for row in self._incidents() if row.waits]

    def _incidents(self) -> Iterator[Delivery]:
        return (row for _, row in sorted(self.rows.items()) if not row.away and not is_bulletin(row.incident))
