"""The collector's readers over plain lists, for tests of what shows them."""

from __future__ import annotations

from typing import Any, Literal

from agent.collector.fleet import Fleet
from agent.collector.live import Hub
from agent.collector.store import Counts, GapRow, IncidentRow, ProbeRow, Reader, SeriesRow, TransitionRow
from agent.errors import StoreError
from tests.fakes.clock import ManualClock

NOW = 1_790_000_000.0


def incident_row(number: int = 1, **changes: Any) -> IncidentRow:
    values: dict[str, Any] = {
        "id": f"inc-{number}",
        "host": "web-1",
        "threshold": "disk almost full",
        "metric": "disk.used_percent",
        "labels": {"mount": "/"},
        "severity": "warning",
        "peak": "warning",
        "grade": "B",
        "state": "open",
        "value": 91.5,
        "peak_value": 91.5,
        "limit": 90.0,
        "op": ">",
        "unit": "percent",
        "summary": "Disk / is almost full",
        "runbook": "",
        "started_at": NOW - 300,
        "fired_at": NOW - 290 + number,
        "updated_at": NOW - 290,
        "resolved_at": None,
        "acknowledged_by": "",
        "version": 1,
    }
    return IncidentRow(**(values | changes))


def host_entry(host: str = "web-1", **changes: Any) -> dict[str, Any]:
    return {
        "host": host,
        "state": "online",
        "last_seen": NOW - 3,
        "first_seen": NOW - 86400,
        "version": "0.1.0",
        "labels": {"role": "web"},
        "health": {"score": 92.0, "status": "GOOD", "components": {"memory": {"score": 100.0}}, "time": NOW - 3},
        "incidents": 0,
        "worst": None,
    } | changes


def sample(host: str = "web-1", probe: str = "cpu", **changes: Any) -> dict[str, Any]:
    return {
        "host": host,
        "probe": probe,
        "time": NOW - 3,
        "status": "ok",
        "error": "",
        "metrics": [
            {"name": "cpu.used_percent", "value": 12.5, "unit": "percent"},
            {"name": "cpu.iowait_percent", "value": 0.5, "unit": "percent"},
        ],
    } | changes


class FakeReader(Reader):
    """Set `down` and every question raises; `asked` has the series questions."""

    def __init__(self) -> None:
        self.down = False
        self.rows: list[IncidentRow] = []
        self.steps: list[TransitionRow] = []
        self.lost: list[GapRow] = []
        self.runs: list[ProbeRow] = []
        self.values: list[SeriesRow] = []
        self.asked: list[tuple[str, str, float, float, float]] = []

    def _check(self) -> None:
        if self.down:
            raise StoreError("no database")

    async def series(self, host: str, metric: str, start: float, end: float, step: float = 0) -> list[SeriesRow]:
        self._check()
        self.asked.append((host, metric, start, end, step))
        prefix = metric.removesuffix("*")
        return [
            row for row in self.values if row.metric == metric or (metric != prefix and row.metric.startswith(prefix))
        ]

    async def incidents(
        self,
        host: str | None = None,
        state: Literal["open", "resolved"] | None = None,
        limit: int = 100,
        cursor: str = "",
    ) -> tuple[list[IncidentRow], str]:
        self._check()
        first = int(cursor or 0)
        found = [row for row in self.rows if host in (None, row.host) and state in (None, row.state)]
        page = found[first : first + limit]
        return page, str(first + limit) if first + limit < len(found) else ""

    async def incident(self, incident: str) -> IncidentRow | None:
        self._check()
        return next((row for row in self.rows if row.id == incident), None)

    async def transitions(self, incident: str) -> list[TransitionRow]:
        self._check()
        return [step for step in self.steps if step.incident == incident]

    async def gaps(self, host: str | None = None, limit: int = 100) -> list[GapRow]:
        self._check()
        return [row for row in self.lost if host in (None, row.host)][:limit]

    async def probes(self, host: str) -> list[ProbeRow]:
        self._check()
        return [row for row in self.runs if row.host == host]

    async def counts(self) -> Counts:
        self._check()
        return Counts(2, 40, 1000, 1, 3, 0, 0)


class FakeFleet(Fleet):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock, Hub(), 45)
        self.entries: list[dict[str, Any]] = []
        self.samples: list[dict[str, Any]] = []
        self.deliveries: dict[tuple[str, str], dict[str, Any]] = {}

    def hosts(self) -> list[dict[str, Any]]:
        return self.entries

    def host(self, host: str) -> dict[str, Any] | None:
        return next((entry for entry in self.entries if entry["host"] == host), None)

    def latest(self, host: str) -> list[dict[str, Any]]:
        return [one for one in self.samples if one["host"] == host]

    def delivery(self, host: str, incident: str) -> dict[str, Any] | None:
        return self.deliveries.get((host, incident))

    def told(self) -> dict[str, dict[str, Any]]:
        return {incident: fields for (_, incident), fields in self.deliveries.items()}
