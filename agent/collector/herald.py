"""Writes to Slack for the hosts that hand their incidents over, and about hosts that are gone.

A host says in its retained `deliveries` message who writes for it. While that is us, what it has is ours to show:
the incidents come out of the database or with the commits, how far their messages are comes from the host, and
goes back to it with every change, so that it can go on where we have ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from agent.alerting.bulletin import is_bulletin
from agent.alerting.delivery import Delivery, doubtful
from agent.alerting.memory import Pair
from agent.alerting.outbox import Outbox
from agent.clock import Clock, wake_or_sleep
from agent.collector.fleet import Fleet
from agent.collector.hostwatch import METRIC, HostWatch
from agent.collector.lease import Lease
from agent.collector.store import Reader
from agent.collector.succession import Succession
from agent.errors import StoreError
from agent.model import DeliveryState, Incident, Transition
from agent.transport.wire import DeliveredMessage, DeliveriesMessage

log = logging.getLogger(__name__)

REPORT_EVERY = 0.3
HANDING_OVER = 60.0
"""Seconds after a connection in which some hosts still write themselves."""
FETCH_AGAIN, FETCH_SLOWEST = 0.2, 30.0
"""Seconds until the database is asked again for what it did not have, at first and at most."""


class Herald:
    """`deliveries` and `committed` bring what happens; `run` shows it.

    `tell` sends to a host what has become of its messages; `keep` puts a transition of ours on its way into the
    database, as often as it is called.
    """

    def __init__(
        self,
        lease: Lease,
        reader: Reader,
        fleet: Fleet,
        watch: HostWatch,
        clock: Clock,
        *,
        tell: Callable[[str, DeliveredMessage], None],
        keep: Callable[[Incident, Transition], None],
    ) -> None:
        self._lease = lease
        self._reader = reader
        self._fleet = fleet
        self._watch = watch
        self._clock = clock
        self._tell = tell
        self._keep = keep
        self._succession = Succession(reader, watch, clock, self._go_on)
        self.outbox: Outbox
        self.delivering = False
        self._unwritten: dict[str, Incident] = {}
        """What there is to say of hosts that are gone, on its way into the database."""
        self._ours: set[str] = set()
        self._slips: dict[str, dict[str, DeliveryState]] = {}
        self._told: dict[str, dict[str, DeliveryState]] = {}
        self._changed = asyncio.Event()
        self._missing = asyncio.Event()

    # -- what is heard

    def deliveries(self, host: str, message: DeliveriesMessage) -> None:
        """Who writes for this host, and how far its messages are."""
        if message.writer == self._lease.writer:
            self._accept(host, message.deliveries)
        else:
            self._give_up(host)
            over = {slip.incident for slip in message.deliveries if not slip.open}
            self.outbox.drop(lambda row: _of(row, host) and row.id in over)

    def committed(self, incident: Incident) -> None:
        """The database has this version."""
        if incident.metric == METRIC:
            self._watch.settled(incident.id, incident.version)
            waits = self._unwritten.get(incident.id)
            if waits is not None and waits.version == incident.version:
                self.outbox.desire(self._unwritten.pop(incident.id))
        elif incident.host in self._ours:
            self._show(incident)

    def connected(self) -> None:
        """As another writer: no host has handed anything to this one yet, not even what the last process has left."""
        self._succession.end()
        for known in (self._ours, self._slips, self._told):
            known.clear()
        self.outbox.release(lambda row: row.incident.metric != METRIC and not is_bulletin(row.incident))
        self.outbox.crowded(HANDING_OVER)
        self._fleet.connected()

    def disconnected(self) -> None:
        self._fleet.disconnected()

    def may(self, row: Delivery) -> bool:
        """Whether a call about this row may begin now."""
        now = self._clock.monotonic()
        if row.incident.metric == METRIC:
            return self._succession.ready and self._lease.leads(now)
        if is_bulletin(row.incident):
            return self._lease.holds(now)
        return self.delivering and self._lease.holds(now) and row.incident.host in self._ours

    def changed(self) -> None:
        """The outbox has something new to tell."""
        self._changed.set()

    # -- beside it

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            for work in (self.outbox.run, self._report, self._fetch, self._succession.run):
                group.create_task(work())

    def tick(self) -> None:
        """Once a second: which hosts are gone; what has waited for the database until now is told without it."""
        for incident in self._unwritten.values():
            self.outbox.desire(incident)
        self._unwritten.clear()
        self._succession.look(leads=self._lease.leads(self._clock.monotonic()))
        if self._succession.ready:
            self.moved(self._watch.look(self._fleet.absent(), self._fleet.present()))
        for pair in self._watch.unsettled.values():  # whoever leads by now must learn of them
            self._keep(*pair)

    def moved(self, pairs: Iterable[Pair]) -> None:
        """What there is to say of hosts that are gone has changed. The database has it first, if it can: should we end
        in this moment, who leads next would not know of it and tell it a second time.
        """
        for incident, transition in pairs:
            self._unwritten[incident.id] = incident
            self._keep(incident, transition)

    def _go_on(self, incidents: Iterable[Incident]) -> None:
        """Of hosts that are gone; what another may have told of them is looked for before it is told."""
        ids = set()
        for incident in incidents:
            ids.add(incident.id)
            self.outbox.desire(incident, told=None if self.outbox.desired(incident.id) else doubtful(incident))
        self.outbox.doubt(lambda row: row.id in ids)

    def _accept(self, host: str, rows: Iterable[DeliveryState]) -> None:
        self._ours.add(host)
        self._told.pop(host, None)
        slips = self._slips[host] = {slip.incident: slip for slip in rows if not self._of_another(host, slip.incident)}
        self.outbox.drop(lambda row: _of(row, host) and row.id not in slips)  # what it does not list any more is over
        self.outbox.adopt(tuple(slips.values()))
        self._missing.set()
        self._changed.set()

    def _give_up(self, host: str) -> None:
        if host in self._ours:
            self._ours.discard(host)
            self._slips.pop(host, None)
            self._told.pop(host, None)
            self.outbox.release(lambda row: _of(row, host))

    def _of_another(self, host: str, incident: str) -> bool:
        """A host speaks of its own incidents, whatever ids it names."""
        known = self.outbox.desired(incident)
        return known is not None and known.host != host

    def _show(self, incident: Incident) -> None:
        if self._of_another(incident.host, incident.id):
            return
        self.outbox.desire(incident, told=self._slips.get(incident.host, {}).get(incident.id))

    async def _fetch(self) -> None:
        """Incidents that were handed over, that are not over, and that we have not heard of since our start.

        Of several collectors another may have taken such a one from the host, and may still be about to store it.
        """
        pause: float | None = None
        while True:
            await wake_or_sleep(self._missing, self._clock, pause)
            before = FETCH_AGAIN / 2 if pause is None or self._missing.is_set() else pause
            self._missing.clear()
            pause = None if await self._fetch_all() else min(FETCH_SLOWEST, 2 * before)

    async def _fetch_all(self) -> bool:
        """Whether nothing is missing any more."""
        known = True
        try:
            for host, slips in list(self._slips.items()):
                for slip in list(slips.values()):
                    known &= await self._fetch_one(host, slip)
        except StoreError:
            return False
        return known

    async def _fetch_one(self, host: str, slip: DeliveryState) -> bool:
        over = not slip.open and slip.state in ("delivered", "dead")
        known = self.outbox.desired(slip.incident)  # perhaps from when we wrote for this host before
        if known.version >= slip.desired if known else over:
            return True
        row = await self._reader.incident(slip.incident)
        if row is not None and row.host == host and host in self._ours:
            self._show(row.incident())
        return row is not None and (row.host != host or row.version >= slip.desired)

    async def _report(self) -> None:
        """What has changed about a host's messages, to that host."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            for host in self._ours:
                before = self._told.setdefault(host, {})
                slips = [slip for slip in self.outbox.shown(host) if before.get(slip.incident) != slip]
                if slips:
                    before.update((slip.incident, slip) for slip in slips)
                    self._tell(host, DeliveredMessage(1, self._lease.writer, tuple(slips)))
            await self._clock.sleep(REPORT_EVERY)


def _of(row: Delivery, host: str) -> bool:
    """Whether it is the host's; what we say of the host ourselves stays ours."""
    return row.incident.host == host and row.incident.metric != METRIC
