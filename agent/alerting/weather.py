"""Storms and outages: when many incidents become one message, and what is said after Slack was out of reach."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Collection

from agent.alerting.bulletin import Storm, digest, is_bulletin
from agent.alerting.delivery import Delivery
from agent.alerting.incident import new_token
from agent.alerting.state import State
from agent.alerting.table import Table
from agent.clock import Clock
from agent.model import Incident

CALM = 300.0
"""Seconds without a new incident after which a storm takes no more in."""
OUTAGE = 600.0
"""Seconds without any success after which what happened meanwhile is told in one message first."""


class Weather:
    """Asked by the outbox; `show` puts a bulletin into it as if it were an incident, in a channel."""

    def __init__(
        self,
        state: State,
        clock: Clock,
        rng: random.Random,
        table: Table,
        show: Callable[[Incident, str, str], None],
        *,
        storm_after: int = 8,
        storm_within: float = 60.0,
        host: str = "all hosts",
    ) -> None:
        self._state = state
        self._clock = clock
        self._rng = rng
        self._table = table
        self._rows = table.rows.values
        self._show = show
        self._after, self._within = storm_after, storm_within
        self._host = host
        self._recent: dict[str, deque[float]] = {}
        self._others: set[str] = set()
        self._storms = state.read("storm", Storm)
        self._down = state.read("outage", float).get("since")
        self._down_at = clock.monotonic() - max(0.0, clock.now() - (self._down or clock.now()))
        self._digests: dict[str, int] = state.read("digest", int)
        self._stands: dict[str, tuple[tuple[str, int], ...]] = {}

    # -- storms

    def limit(self, storm_after: int, storm_within: float) -> None:
        """Another configuration, from the next incident on; a storm that is on stays one."""
        self._after, self._within = storm_after, storm_within
        self._recent = {channel: deque(times, maxlen=storm_after + 1) for channel, times in self._recent.items()}

    def opened(self, row: Delivery, *, held: bool = False) -> None:
        """A new incident is to be told in the row's channel: by itself, or in a storm's thread. `held`: by another."""
        if held:
            self._others = {row.id, *(self._others & self._table.rows.keys())}
        elif not row.gathered:
            self._gather(row)

    def missed(self, row: Delivery) -> None:
        """It was looked for and is not there. What another should have told, and did not, opens for us only now."""
        if row.id in self._others and row.next() == "post" and not row.resolved:
            self.opened(row)
        self._others.discard(row.id)

    def _gather(self, row: Delivery) -> None:
        now = self._clock.now()
        storm = self._present(row.channel, now)
        if storm is None:
            if row.channel not in self._recent:
                self._recent[row.channel] = self._remembered(row)
            recent = self._recent[row.channel]
            recent.append(self._clock.monotonic())
            if len(recent) <= self._after or recent[-1] - recent[0] > self._within:
                return
            recent.clear()
            storm = Storm("inc_storm" + new_token(now, self._rng), row.channel, now, now, mention=row.mention)
            self._storms[storm.id] = storm
            for other in self._rows():
                if _untold(other) and other.channel == row.channel and other is not row:
                    self._take_in(other, storm)
        self._take_in(row, storm)
        self._tell(storm)

    def _remembered(self, row: Delivery) -> deque[float]:
        """When the last ones opened in this channel, from before a restart too."""
        now = self._clock.now()
        ahead = now - self._clock.monotonic()
        others = (other for other in self._rows() if other.channel == row.channel and other is not row)
        known = sorted(
            other.incident.fired_at - ahead
            for other in others
            if other.ts and not other.bulletin and other.incident.fired_at <= now  # else the clock was set back
        )
        return deque(known, maxlen=self._after + 1)

    def changed(self, *rows: Delivery) -> None:
        """Something of these storms has changed."""
        for bulletin in {row.bulletin for row in rows if row.bulletin in self._storms}:
            self._tell(self._storms[bulletin])

    def lost(self, row: Delivery) -> None:
        """It is given up for a storm, and nobody knows whether it is over."""
        storm = self._storms.get(row.bulletin)
        if storm is not None and not row.resolved:
            storm.lost += 1
            row.bulletin = ""
            self._tell(storm)

    def routed_as(self, incident: Incident) -> Incident:
        """Whose routes hold for it: for a storm those of the worst that is open."""
        storm = self._storms.get(incident.id)
        return max(self._open(storm), key=lambda child: child.severity.rank, default=incident) if storm else incident

    def taken(self, row: Delivery) -> bool:
        """Whether somebody looks after one of this storm's, and so after all of it; or whether others know that now."""
        storm = self._storms.get(row.id)
        if storm is None:
            return False
        still_open = self._open(storm)
        return not still_open or any(incident.acknowledged_by for incident in still_open)

    def dissolve(self, busy: Delivery | None) -> list[Delivery]:
        """Another writes: what is told nowhere yet of a storm or an outage never is, as only its author may tell it;
        its incidents are told one by one. The rows to forget.
        """
        sure = [row for row in self._rows() if row is not busy and row.state not in ("sending", "ambiguous")]
        unsent = {row.id: row for row in sure if is_bulletin(row.incident) and not row.ts}
        for row in [row for row in self._rows() if row.bulletin in unsent]:
            row.bulletin = ""
            self._table.keep(row)
        for bulletin in unsent:
            self._storms.pop(bulletin, None)
            self._digests.pop(bulletin, None)
            self._state.put({("storm", bulletin): None, ("digest", bulletin): None})
        return list(unsent.values())

    def _present(self, channel: str, now: float) -> Storm | None:
        storms = (storm for storm in self._storms.values() if storm.channel == channel)
        return next((storm for storm in storms if now - storm.joined_at <= CALM), None)

    def _take_in(self, row: Delivery, storm: Storm) -> None:
        row.bulletin = storm.id
        storm.join(row.incident, self._clock.now())
        self._state.put({("delivery", row.id): row})

    def _tell(self, storm: Storm) -> None:
        away = self._open(storm, away=True)
        incident = storm.incident(self._open(storm), self._clock.now(), host=self._host, away=away)
        self._show(incident, storm.channel, storm.mention)
        self._state.put({("storm", storm.id): storm})

    def _open(self, storm: Storm, *, away: bool = False) -> list[Incident]:
        children = (row for row in self._rows() if row.bulletin == storm.id and bool(row.away) is away)
        return [row.incident for row in children if not row.resolved]

    @property
    def pause(self) -> float | None:
        """Seconds until the storms should be looked at again."""
        return CALM if self._storms else None

    def _sweep(self) -> None:
        """Storms that take no more in, and of which nothing is open, are forgotten once that is told."""
        now = self._clock.now()
        for storm in self._storms.values():
            if storm.joined_at > now:  # the clock was set back: it must not last until that is there again
                storm.joined_at = now
                self._state.put({("storm", storm.id): storm})
        for storm in [storm for storm in self._storms.values() if now - storm.joined_at > CALM]:
            row = self._table.rows.get(storm.id)
            if row is None or row.over:
                del self._storms[storm.id]
                self._state.put({("storm", storm.id): None})
            elif not (row.resolved or self._open(storm) or self._open(storm, away=True)):
                self._tell(storm)

    # -- outages

    @property
    def down_for(self) -> float:
        """Seconds for which nothing could be told at all."""
        return 0.0 if self._down is None else self._clock.monotonic() - self._down_at

    def failed(self) -> None:
        """A call failed for a reason that is not its own."""
        if self._down is None:
            self._down, self._down_at = self._clock.now(), self._clock.monotonic()
            self._state.put({("outage", "since"): self._down})

    def succeeded(self, row: Delivery) -> None:
        """Something arrived, or was given up for a reason of its own."""
        if self._digests.pop(row.id, None) is not None:
            self._state.put({("digest", row.id): None})
        self.calm()

    def calm(self) -> None:
        """Slack is not away, or it is not ours to say."""
        if self._down is not None:
            self._down = None
            self._state.put({("outage", "since"): None})

    @property
    def digests(self) -> Collection[str]:
        """While there is one in a channel, nothing else is told there: it comes before what happened after it."""
        return self._digests

    def tick(self, *, held: bool) -> None:
        """After a long outage each channel in which something waits gets a digest, which is then told first."""
        self._sweep()
        if self._down is None or held:
            return
        if not any(row.waits for row in self._rows()):
            self.calm()  # nothing is wanted of Slack, so nobody knows how it is
        if self.down_for < OUTAGE:
            return
        known = {row.channel: row for row in self._rows() if row.id in self._digests}
        waiting: dict[str, list[Delivery]] = {}
        for row in self._rows():
            if row.id not in self._digests and row.id not in self._storms and row.waits:
                waiting.setdefault(row.channel, []).append(row)
        for channel, rows in waiting.items():
            self._digest(channel, rows, known.get(channel))

    def _digest(self, channel: str, rows: list[Delivery], before: Delivery | None) -> None:
        now = self._clock.now()
        since = min(self._down or now, now)
        here = (row for row in self._rows() if row.channel == channel and not row.away)
        concerned = [row for row in here if not is_bulletin(row.incident)]
        waiting = {row.id for row in rows}
        concerned = [row for row in concerned if row.incident.updated_at >= since or row.id in waiting]
        changed = [row.incident for row in concerned]
        stands = (("minute", int(now // 60)), *((incident.id, incident.version) for incident in changed))
        if (before is not None and before.state in ("sending", "ambiguous")) or self._stands.get(channel) == stands:
            return  # it may be there already, and stays what it was; or nothing is new
        self._stands[channel] = stands
        digest_id = "inc_digest" + new_token(now, self._rng) if before is None else before.id
        version = 1 if before is None else before.incident.version + 1
        for row in rows:
            if not row.ts and not row.bulletin and row.resolved:  # what may have arrived is only looked for then
                row.bulletin = digest_id
                self._state.put({("delivery", row.id): row})
        opened = sum(not row.ts for row in concerned)
        self._digests[digest_id] = version
        self._state.put({("digest", digest_id): version})
        self._show(digest(digest_id, since, now, changed, opened=opened, host=self._host, version=version), channel, "")


def _untold(row: Delivery) -> bool:
    held = row.gathered or row.resolved or row.incident.muted or row.away
    return not row.ts and not held and row.state not in ("sending", "ambiguous")
