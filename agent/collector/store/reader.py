"""What is asked of the store: bounded answers, all parameters bound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from agent.collector.store.rows import Counts, GapRow, HostRow, IncidentRow, ProbeRow, SeriesRow, TransitionRow

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

MAX_SERIES = 200
MAX_POINTS = 5000


class Reader:
    """Reads of the collector's database. Every method raises StoreError when it cannot be reached."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def hosts(self) -> list[HostRow]:
        """Every host ever heard, by name."""
        raise NotImplementedError

    async def series(self, host: str, metric: str, start: float, end: float, step: float = 0) -> list[SeriesRow]:
        """Series of `metric` (may end in `*`) with points in [start, end), at most MAX_SERIES of them.

        `step` in seconds: 0 is raw samples; else means per step, from roll-ups where it is over 60 s.
        The step is widened so that no series has more than MAX_POINTS. Series without points are left out.
        """
        raise NotImplementedError

    async def incidents(
        self,
        host: str | None = None,
        state: Literal["open", "resolved"] | None = None,
        limit: int = 100,
        cursor: str = "",
    ) -> tuple[list[IncidentRow], str]:
        """Newest first; the second value is the cursor of the next page, "" after the last.

        ValueError for a cursor that is not one of ours.
        """
        raise NotImplementedError

    async def incident(self, incident: str) -> IncidentRow | None:
        raise NotImplementedError

    async def transitions(self, incident: str) -> list[TransitionRow]:
        """The timeline of one incident, oldest first; empty if there is none of that id."""
        raise NotImplementedError

    async def gaps(self, host: str | None = None, limit: int = 100) -> list[GapRow]:
        """Newest first."""
        raise NotImplementedError

    async def probes(self, host: str) -> list[ProbeRow]:
        """The latest run of each probe of the host, by probe name."""
        raise NotImplementedError

    async def counts(self) -> Counts:
        raise NotImplementedError
