"""The right to write to Slack for others, as far as the others can know of it. Pure.

Hosts take over when they have not heard us for `takeover_after`; so we begin nothing more some while before that,
and every connection to the broker makes us another writer, to whom the hosts must hand over anew. It is the same for
as long as we run: hosts may become more patient meanwhile, by a reload, but not less (`agent.alerting.turn`).
"""

from __future__ import annotations

import secrets

from agent.alerting.turn import writer
from agent.transport.wire import Heartbeat

HEARTBEATS = 5
"""In the time after which a host takes over."""
SHARE = 0.4
"""Of that time, for which one confirmed heartbeat lets us begin calls: the rest is for a call to end."""
PEERS = 64
"""Other collectors that are known: the first by name, of whom one leads. Anybody at the broker can make up more."""


class Lease:
    def __init__(self, name: str, takeover_after: float) -> None:
        self.name = name
        self.interval = takeover_after / HEARTBEATS
        self._length = takeover_after * SHARE
        self._takeover_after = takeover_after
        self.session = ""
        self._until = float("-inf")
        self._peers: dict[str, float] = {}

    @property
    def writer(self) -> str:
        """Our name as a writer, for this connection."""
        return writer(self.name, self.session)

    def begin(self) -> None:
        """Connected anew: nobody knows this writer yet."""
        self.session = secrets.token_hex(8)
        self._until = float("-inf")

    def confirmed(self, sent_at: float) -> None:
        """The broker has the heartbeat that was sent then (monotonic)."""
        self._until = max(self._until, sent_at + self._length)

    def holds(self, now: float) -> bool:
        return now <= self._until

    def heard(self, name: str, beat: Heartbeat, now: float) -> None:
        """Another collector's heartbeat, or our own as it comes back.

        One that has routes and does not deliver is without its database: the hosts write themselves then, but it tells
        of those that are gone all the same. When the database is away from all, one of them must.
        """
        if name == self.name:
            return
        if beat.state == "online" and (beat.delivers or beat.routes):
            self._peers[name] = now
            if len(self._peers) > PEERS:
                self._peers = dict(sorted(self._living(now))[:PEERS])
        else:
            self._peers.pop(name, None)

    def leads(self, now: float) -> bool:
        """Of several collectors the first by name tells what is of no host: that one is gone."""
        return self.holds(now) and self.leader(now) == self.name

    def leader(self, now: float) -> str:
        """The name of that one, as far as we know."""
        return min([self.name, *(name for name, _ in self._living(now))])

    def _living(self, now: float) -> list[tuple[str, float]]:
        return [(name, at) for name, at in self._peers.items() if now - at <= self._takeover_after]
