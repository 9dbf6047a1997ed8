"""The collector's database: SQLite or MySQL/MariaDB behind one door."""

from agent.collector.store.reader import Reader
from agent.collector.store.rows import Counts, GapRow, HostRow, IncidentRow, ProbeRow, SeriesRow, TransitionRow

__all__ = ["Counts", "GapRow", "HostRow", "IncidentRow", "ProbeRow", "Reader", "SeriesRow", "TransitionRow"]
