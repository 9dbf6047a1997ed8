"""Messages about many incidents at once, told as one incident is: posted, edited in place, turned green. Pure.

A *storm* says that more opened in a minute than anybody can read, and has them in its thread; a *digest* says what
happened while Slack was out of reach. They are no incidents of any host, and no collector stores them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from agent.alerting.figure import counted, duration
from agent.model import Evidence, Incident, Severity

STORM, DIGEST = "storm", "digest"
LISTED = 12
"""Lines of each list in a message."""
_NAMES = 500
"""Thresholds and hosts that a storm counts by name."""


class Storm(msgspec.Struct):
    """One storm in one channel. `joined_at` is when the last incident came to it; counts are of all that ever did."""

    id: str
    channel: str
    began_at: float
    joined_at: float
    total: int = 0
    version: int = 0
    mention: str = ""
    thresholds: dict[str, int] = {}
    hosts: dict[str, int] = {}
    lost: int = 0
    """Of which nothing was heard any more, after another had begun to write for them."""

    def join(self, incident: Incident, now: float) -> None:
        self.total += 1
        self.joined_at = now
        for counts, name in ((self.thresholds, incident.threshold), (self.hosts, incident.host)):
            if name in counts or len(counts) < _NAMES:
                counts[name] = counts.get(name, 0) + 1

    def incident(
        self, still_open: Sequence[Incident], now: float, *, host: str, away: Sequence[Incident] = ()
    ) -> Incident:
        """As the outbox delivers it; resolved when nothing of it is open any more.

        `away`: another writes for these now; they were open when it began to.
        """
        self.version += 1
        over = not still_open and not away
        worst = _worst([*still_open, *away]) or Severity.WARNING
        lasted = duration(max(1.0, self.joined_at - self.began_at))
        summary = f"{counted(self.total, 'incident')} in {lasted} on {counted(len(self.hosts), 'host')}; "
        summary += self._end() if over else "; ".join(_stands(still_open, away))
        return Incident(
            id=self.id,
            host=host,
            threshold=f"storm of {counted(self.total, 'more incident')}",  # beside those that were told before it began
            metric=STORM,
            severity=worst,
            peak=worst,
            started_at=self.began_at,
            fired_at=self.began_at,
            updated_at=now,
            version=self.version,
            state="resolved" if over else "open",
            resolved_at=now if over else None,
            summary=summary,
            evidence=(
                Evidence("By threshold", _ranked(self.thresholds)),
                Evidence("By host", _ranked(self.hosts)),
            ),
        )

    def _end(self) -> str:
        if not self.lost:
            return "all of them are over"
        return f"of {self.lost} nothing was heard for a day, the others are over"


def _stands(still_open: Sequence[Incident], away: Sequence[Incident]) -> Iterator[str]:
    if still_open:
        yield f"{_severities(still_open)} open; each is in the thread"
    if away:
        number = f"{len(away)} more" if still_open else str(len(away))
        yield f"{number} told by {'its host' if len(away) == 1 else 'their hosts'} now"


def digest(
    digest_id: str, since: float, now: float, changed: Iterable[Incident], *, opened: int, host: str, version: int
) -> Incident:
    """What became of all that changed while Slack was out of reach, from `since` on (unix seconds).

    `opened` of them nobody was told of before.
    """
    changed = sorted(changed, key=lambda incident: (-incident.peak.rank, incident.fired_at))
    over = [incident for incident in changed if incident.state == "resolved"]
    still_open = [incident for incident in changed if incident.state != "resolved"]
    summary = (
        f"For {duration(now - since)} nothing could be told here. Meanwhile {counted(opened, 'incident')} opened; "
        f"{len(over)} {'is' if len(over) == 1 else 'are'} over"
    )
    summary += f", {_severities(still_open)} still open and told below" if still_open else ""
    lists = (("Over", over), ("Open", still_open))
    return Incident(
        id=digest_id,
        host=host,
        threshold="Slack was out of reach",
        metric=DIGEST,
        severity=Severity.INFO,
        peak=Severity.INFO,
        started_at=since,
        fired_at=since,
        updated_at=now,
        version=version,
        state="resolved",
        resolved_at=now,
        summary=summary,
        evidence=tuple(Evidence(title, _lines(found)) for title, found in lists if found),
    )


def is_bulletin(incident: Incident) -> bool:
    return incident.metric in (STORM, DIGEST)


def _worst(incidents: Iterable[Incident]) -> Severity | None:
    return max((incident.severity for incident in incidents), key=lambda severity: severity.rank, default=None)


def _severities(incidents: Sequence[Incident]) -> str:
    counts = Counter(incident.severity for incident in incidents)
    return ", ".join(f"{counts[s]} {s}" for s in (Severity.CRITICAL, Severity.WARNING, Severity.INFO) if counts[s])


def _ranked(counts: dict[str, int]) -> tuple[str, ...]:
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    lines = [f"{count:>5}  {name}" for name, count in ranked[:LISTED]]
    rest = ranked[LISTED:]
    if rest:
        lines.append(f"{sum(count for _, count in rest):>5}  {len(rest)} more")
    return tuple(lines)


def _lines(incidents: Sequence[Incident]) -> tuple[str, ...]:
    lines = [_line(incident) for incident in incidents[:LISTED]]
    if len(incidents) > LISTED:
        lines.append(f"and {len(incidents) - LISTED} more")
    return tuple(lines)


def _line(incident: Incident) -> str:
    labels = ", ".join(f"{name}={text}" for name, text in sorted(incident.labels.items()))
    end = incident.resolved_at or incident.updated_at
    lasted = f", {duration(end - incident.started_at)}" if incident.state == "resolved" else ""
    return f"{incident.peak}: {incident.threshold} on {incident.host}{f' ({labels})' if labels else ''}{lasted}"
