"""Who was right: the journals say what was committed, the store says what arrived."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Identity = tuple[str, str, int]
"""(host, epoch, seq)"""


@dataclass
class Verdict:
    committed: int = 0
    stored: int = 0
    in_gaps: int = 0
    lost: list[Identity] = field(default_factory=list)
    duplicated: list[Any] = field(default_factory=list)
    both: list[Identity] = field(default_factory=list)
    conflicts: int = 0
    missing_samples: int = 0
    waiting: int = 0

    @property
    def clean(self) -> bool:
        wrong = self.lost or self.duplicated or self.both or self.conflicts or self.missing_samples
        return not wrong and self.waiting <= LEFT_OVER


def journal(spool: Path, host: str) -> set[Identity]:
    """Everything that this host's spool ever committed, acknowledged and deleted since or not."""
    return _identities(spool, host, "SELECT epoch, seq FROM journal")


def chaotic(spool: Path, host: str) -> set[Identity]:
    """Of these the runs of chaos probes, which are counted by their samples too."""
    return _identities(spool, host, "SELECT epoch, seq FROM journal WHERE topic LIKE '%/metrics/chaos%'")


def _identities(spool: Path, host: str, query: str) -> set[Identity]:
    connection = sqlite3.connect(f"file:{spool}?mode=ro", uri=True)
    try:
        return {(host, epoch, seq) for epoch, seq in connection.execute(query)}
    finally:
        connection.close()


def waiting(spool: Path, host: str) -> set[Identity]:
    """Envelopes that the spool still holds."""
    return _identities(spool, host, "SELECT epoch, seq FROM envelopes")


class StoreView:
    """The collector's tables, read past the collector: plain SQL on the database itself."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def envelopes(self) -> list[Identity]:
        query = "SELECT h.name, e.epoch, e.seq FROM envelopes e JOIN hosts h ON h.id = e.host_id"
        return [(str(host), str(epoch), int(seq)) for host, epoch, seq in self._rows(query)]

    def gaps(self) -> list[tuple[str, str, list[list[int]]]]:
        query = "SELECT h.name, g.epoch, g.ranges FROM gaps g JOIN hosts h ON h.id = g.host_id"
        return [(str(host), str(epoch), json.loads(ranges)) for host, epoch, ranges in self._rows(query)]

    def conflicts(self) -> int:
        return int(self._rows("SELECT COUNT(*) FROM quarantine")[0][0])

    def runs(self) -> int:
        """Samples of the metric that each run of a chaos probe emits exactly once."""
        query = "SELECT COUNT(*) FROM samples s JOIN series r ON r.id = s.series_id WHERE r.metric = 'chaos.runs'"
        return int(self._rows(query)[0][0])

    def sampled(self) -> int:
        """Samples of the metric that the agent adds to each run of a probe, failed or not; of chaos probes."""
        query = (
            "SELECT COUNT(*) FROM samples s JOIN series r ON r.id = s.series_id "
            "WHERE r.metric = 'probe.up' AND r.labels LIKE '%chaos%'"
        )
        return int(self._rows(query)[0][0])


LEFT_OVER = 100
"""Envelopes that may still be in the spools at the end: what the agents say of themselves as they stop."""


def judge(committed: set[Identity], chaos: set[Identity], left: set[Identity], store: StoreView) -> Verdict:
    stored = Counter(store.envelopes())
    in_gaps: Counter[Identity] = Counter()
    for host, epoch, ranges in store.gaps():
        for first, last in ranges:
            in_gaps.update((host, epoch, seq) for seq in range(first, last + 1))
    verdict = Verdict(committed=len(committed), stored=len(stored), in_gaps=len(in_gaps))
    verdict.lost = sorted(one for one in committed if one not in stored and one not in in_gaps and one not in left)
    verdict.duplicated = sorted(one for counts in (stored, in_gaps) for one, count in counts.items() if count > 1)
    verdict.both = sorted(one for one in in_gaps if one in stored)
    verdict.conflicts = store.conflicts()
    verdict.missing_samples = abs(store.sampled() - len(chaos & stored.keys()))
    verdict.waiting = len(left - stored.keys())
    return verdict
