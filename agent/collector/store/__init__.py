"""The collector's database: SQLite or MySQL/MariaDB behind one door."""

from agent.collector.store.audit import AuditLog
from agent.collector.store.batch import Quarantined, Received, Written
from agent.collector.store.chain import AuditEntry, AuditRow, ChainState
from agent.collector.store.reader import Reader
from agent.collector.store.rows import Counts, GapRow, HostRow, IncidentRow, ProbeRow, SeriesRow, TransitionRow
from agent.collector.store.store import Store

__all__ = [
    "AuditEntry",
    "AuditLog",
    "AuditRow",
    "ChainState",
    "Counts",
    "GapRow",
    "HostRow",
    "IncidentRow",
    "ProbeRow",
    "Quarantined",
    "Reader",
    "Received",
    "SeriesRow",
    "Store",
    "TransitionRow",
    "Written",
]
