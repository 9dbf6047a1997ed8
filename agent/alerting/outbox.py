"""The level-triggered outbox: one worker makes what is shown of each incident equal to what is so.

A storm queues at most one operation per incident, and a restart needs nothing but the table. A post
that may or may not have arrived is looked for by its nonce before it is sent again. Trouble with Slack
is told in the log and in `deliveries`, never to Slack.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence

from agent.alerting import search
from agent.alerting.agenda import Agenda
from agent.alerting.bulletin import is_bulletin
from agent.alerting.delivery import Delivery, Operation
from agent.alerting.failure import Verdict, judge
from agent.alerting.memory import IncidentFact
from agent.alerting.messenger import TERMINAL, Messenger, Posted
from agent.alerting.order import urgency
from agent.alerting.reminders import sweep
from agent.alerting.route import Destination, route
from agent.alerting.state import State
from agent.alerting.table import Table
from agent.alerting.weather import Weather
from agent.clock import Clock, wake_or_sleep
from agent.config.schema import SlackRoute
from agent.errors import AmbiguousError, AnewError, ChannelError, DeliveryError, ShrinkError
from agent.model import DeliveryState, Incident, Transition, TransitionKind

log = logging.getLogger(__name__)


class Outbox:
    """`desire` says what should be shown; `run` shows it. `on_change` is called when `deliveries` has changed,
    `on_shown` with incident, channel and ts of its message when we have posted it, or told its thread something.
    """

    def __init__(
        self,
        state: State,
        messenger: Messenger,
        clock: Clock,
        *,
        channel: str = "#alerts",
        routes: Sequence[SlackRoute] = (),
        storm_after: int = 8,
        storm_within: float = 60.0,
        host: str = "all hosts",
        on_change: Callable[[], None] | None = None,
        may: Callable[[Delivery], bool] | None = None,
        on_shown: Callable[[Incident, str, str], None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._state = state
        self._messenger = messenger
        self._clock = clock
        self._default = channel
        self._routes = tuple(routes)
        self._may = may or (lambda _: True)
        self._held = False
        self._busy: Delivery | None = None
        self._ended = asyncio.Event()
        self._on_shown = on_shown
        self._rng = rng or random.Random()
        self._wake = asyncio.Event()
        self._ids: dict[str, str] = state.read("channel", str)
        self._table = Table(state, on_change)
        self._rows = self._table.rows
        self._agenda = Agenda(state, clock, self._table, self._rng)
        self.crowded = self._agenda.crowded
        self.shown, self.waiting = self._table.shown, self._table.waiting
        self._weather = Weather(
            state,
            clock,
            self._rng,
            self._table,
            self._show,
            storm_after=storm_after,
            storm_within=storm_within,
            host=host,
        )
        self._load()

    def desire(self, incident: Incident, *, urgent: bool = False, told: DeliveryState | None = None) -> None:
        """Have this version shown; an older one than is known is ignored. `urgent`: somebody acted, so at once;
        `told`: how far another writer has come with it.
        """
        row = self._rows.get(incident.id)
        if row is not None:
            row.away = 0.0
        before = None if row is None else row.next()
        if row is None:
            to = self._route(incident)
            row = self._rows[incident.id] = Delivery(incident, to.channel, to.mention, quiet=bool(incident.muted))
        elif not row.desire(incident):
            if told is not None:
                self.adopt((told,))
            return
        if told is not None:
            row.adopt(told, busy=row is self._busy)
        self._weather.changed(row)
        if before is None and row.next() == "post" and not row.resolved:  # new, or no longer muted
            self._weather.opened(row, held=self._held)
        row.urgent = row.urgent or urgent
        self._table.keep(row)
        self._wake.set()

    def snooze(self, incident_id: str, seconds: float) -> None:
        """No reminders of this incident for a while; KeyError where none of this id is open."""
        row = self._rows[incident_id]
        if row.resolved or is_bulletin(row.incident):
            raise KeyError(incident_id)
        row.snooze(self._clock.now() + seconds)
        self._table.keep(row)

    @property
    def down_for(self) -> float:
        """Seconds for which nothing could be told at all; 0 while Slack answers."""
        return self._weather.down_for

    def _show(self, incident: Incident, channel: str, mention: str = "") -> None:
        """A bulletin, as if it were an incident."""
        row = self._rows.get(incident.id)
        if row is None:
            tried = max((other.attempts for other in self._rows.values()), default=0)  # no impatience of its own
            row = self._rows[incident.id] = Delivery(incident, channel, mention, attempts=tried if self.down_for else 0)
        else:
            row.desire(incident)
        self._table.keep(row)
        self._wake.set()

    def _route(self, incident: Incident) -> Destination:
        return route(self._routes, self._weather.routed_as(incident), self._default, self._clock.now())

    def reroute(self, channel: str, routes: Sequence[SlackRoute], storms: tuple[int, float] | None = None) -> None:
        """A new configuration; holds for incidents that have not been told yet. `storms`: how many within what time."""
        self._default, self._routes = channel, tuple(routes)
        if storms is not None:
            self._weather.limit(*storms)
        for row in self._rows.values():
            if not (row.ts or row.doing or row.gathered or is_bulletin(row.incident)):
                to = self._route(row.incident)
                row.channel, row.mention = to.channel, to.mention
        self._agenda.unpark()
        self._wake.set()

    # -- one of several writers

    @property
    def busy(self) -> bool:
        """Whether a call is under way."""
        return self._busy is not None

    async def idle(self) -> None:
        """Until no call is under way; for this to last, `hold` or `may` must keep the next from beginning."""
        while self._busy is not None:
            self._ended.clear()
            await self._ended.wait()

    def pause(self) -> None:
        """Another writes: begin no more calls, but to keep true what our bulletins say, which nobody else may edit.
        `hold` waits until none is under way, too.
        """
        self._held = True
        self._weather.calm()
        for row in self._weather.dissolve(self._busy):
            self._forget(row)

    async def hold(self) -> None:
        self.pause()
        await self.idle()
        self.pause()  # what was under way may have been a bulletin that has not arrived

    def resume(self, *, gently: bool) -> None:
        """Write again. `gently`: beside a whole fleet that does the same, so far below what Slack takes from one."""
        self._held = False
        self._agenda.gently(gently)
        self._wake.set()

    def doubt(self, about: Callable[[Delivery], bool] = lambda _: True) -> None:
        """Another has written until now, and may have posted more than it has told: look before posting."""
        for row in [row for row in self._rows.values() if row is not self._busy and about(row)]:
            row.doubt()
            self._table.keep(row)
        self._wake.set()

    def adopt(self, told: Iterable[DeliveryState]) -> None:
        """Go on from what another writer tells of its messages. Incidents that are not known here are left out."""
        back: list[Delivery] = []
        for other in told:
            row = self._rows.get(other.incident)
            if row is None:
                continue
            away, row.away = row.away, 0.0
            if row.adopt(other, busy=row is self._busy):
                self._agenda.soon(row)
            elif not away:
                continue
            self._table.keep(row)
            back += [row] if away else []
        self._weather.changed(*back)
        self._wake.set()

    def desired(self, incident: str) -> Incident | None:
        """As it should be shown; None where none of this id has been desired."""
        return row.incident if (row := self._rows.get(incident)) is not None else None

    def release(self, others: Callable[[Delivery], bool]) -> None:
        """Another writes for these now. They are kept for when they come back, and for the storms they belong to."""
        rows = [row for row in self._rows.values() if not row.away and others(row)]
        for row in rows:
            row.away = self._clock.now()
            self._table.keep(row)
        self._weather.changed(*rows)
        self._wake.set()

    def drop(self, doomed: Callable[[Delivery], bool]) -> None:
        """Forget these, but for a call that is under way: they are over, as others have told."""
        rows = [row for row in self._rows.values() if row is not self._busy and doomed(row)]
        for row in rows:
            self._forget(row)
        self._weather.changed(*rows)

    async def run(self) -> None:
        """Deliver for ever."""
        while True:
            self._wake.clear()
            reminder = None if self._held else self._remind()
            row, operation, at = self._pick()
            now = self._clock.monotonic()
            if row is None or operation is None or at > now:
                self._outlive()
                pauses = [reminder, self._weather.pause, None if row is None else at - now]
                await wake_or_sleep(self._wake, self._clock, min((p for p in pauses if p is not None), default=None))
                continue
            self._busy = row
            try:
                await self._deliver(row, operation)
            finally:
                self._busy = None
                self._ended.set()

    # -- choosing

    def _pick(self) -> tuple[Delivery | None, Operation | None, float]:
        """The most pressing operation that may be done now; else the one that may be done first, and when."""
        now = self._clock.monotonic()
        best: tuple[tuple[float, int, int, str], Delivery, Operation, float] | None = None
        self._weather.tick(held=self._held)
        digests = self._weather.digests
        first = {self._rows[digest].channel for digest in digests if digest in self._rows}
        for row in self._rows.values():
            operation = row.next()
            if operation is None or not self._allowed(row, operation):
                continue
            if row.channel in first and row.id not in digests:
                continue
            at = self._agenda.ready(row, operation, self._channel(row, operation), now)
            rank = (max(at, now), urgency(row, operation), -row.incident.severity.rank, row.id)
            if best is None or rank < best[0]:
                best = (rank, row, operation, at)
        return (None, None, 0.0) if best is None else best[1:]

    def _allowed(self, row: Delivery, operation: Operation) -> bool:
        """Whether we are the one to do this now."""
        return self._may(row) and (not self._held or (operation in ("edit", "look") and is_bulletin(row.incident)))

    def _channel(self, row: Delivery, operation: Operation) -> str:
        if operation in ("edit", "reply", "look") or (operation == "find" and row.doing == "reply"):
            return row.posted_in
        return self._ids.get(row.channel, row.channel)

    # -- doing

    async def _deliver(self, row: Delivery, operation: Operation) -> None:
        """One call. What it is about is on the disk first, so that a kill leaves a trace to look for."""
        channel = self._channel(row, operation)
        incident, call = row.incident, row.call if operation == "reply" else None
        row.begin(operation, self._clock.now())
        self._table.keep(row)
        self._agenda.spend(operation, channel)
        await self._state.flush()
        try:
            posted = await self._call(row, operation, channel, incident, call)
        except DeliveryError as error:
            self._failed(row, operation, error)
            await self._state.flush()  # a pause that Slack asked for holds over a kill
        except Exception as error:  # the border: a fault of ours must not end all delivery
            log.exception("delivery broke", extra={"incident": row.id, "operation": operation})
            self._failed(row, operation, AmbiguousError("internal", repr(error)))
        else:
            self._succeeded(row, operation, posted)
        self._agenda.called(row, operation, row.posted_in or channel)
        self._table.keep(row)

    def _outlive(self) -> None:
        """Forget what need not be known any more."""
        if not self.down_for:  # a digest needs them all
            for row in self._table.outlived(self._clock.now()):
                self._weather.lost(row)
                self._forget(row)

    async def _call(
        self, row: Delivery, operation: Operation, channel: str, incident: Incident, call: Transition | None
    ) -> Posted | None:
        messenger, small, thread = self._messenger, row.small, self._table.thread(row)
        if operation == "find":
            return await search.find(messenger, row, channel, thread)
        if operation == "look" and row.unseen is not None:
            return await search.look(messenger, row, row.unseen, channel, thread)
        mention = row.mention if call is not None or not row.gathered else ""
        if operation == "edit":
            await messenger.edit(incident, channel, row.ts, mention=mention, small=small)
            return Posted(channel, row.ts)
        if call is not None and call.kind is TransitionKind.REMINDED:
            mention = self._route(incident).escalate_to if call.note else ""
        within = thread or row.ts or None
        return await messenger.post(incident, call, channel, within, row.nonce, mention=mention, small=small)

    def _remind(self) -> float | None:
        """Have reminded what is due; the seconds until the next."""
        calls = any(route.remind_every or route.escalate_after for route in self._routes)
        watched = (row for row in self._rows.values() if calls or row.incident.flapping)
        mine = (row for row in watched if row.state == "delivered" and not row.resolved and self._may(row))
        rows = [row for row in mine if not self._weather.taken(row)]
        changed, pause = sweep(rows, self._route, self._clock.now())
        for row in changed:
            self._table.keep(row)
        return pause

    def _succeeded(self, row: Delivery, operation: Operation, posted: Posted | None) -> None:
        failures = row.attempts - 1
        if operation == "look":
            self._agenda.looked(row, seen=posted is not None)
            return
        if posted is None:  # looked for and not there: send it again
            self._agenda.unpark()
            row.state = "pending"
            self._weather.missed(row)
            return
        if operation == "post" or (operation == "find" and row.doing == "post"):
            row.thread = self._table.thread(row)
        unsure = self._agenda.unsure and operation in ("post", "reply") and posted.channel != TERMINAL
        row.done(operation, posted.channel, posted.ts, unsure=unsure)
        self._weather.succeeded(row)
        if row.posted_in != TERMINAL and self._ids.get(row.channel) != row.posted_in:
            self._ids[row.channel] = row.posted_in
            self._state.put({("channel", row.channel): row.posted_in})
        self._agenda.worked(row, again=failures > 0)
        if self._on_shown is not None and operation in ("post", "reply"):
            self._on_shown(row.incident, row.posted_in, row.ts)
        log.info(
            "incident delivered",
            extra={"incident": row.id, "operation": operation, "version": row.delivered, "failures": failures},
        )

    def _failed(self, row: Delivery, operation: Operation, error: DeliveryError) -> None:
        channel = self._channel(row, operation)
        if isinstance(error, ChannelError) and row.channel in self._ids:  # the name may be another channel's by now
            del self._ids[row.channel]
            self._state.put({("channel", row.channel): None})
        verdict = judge(row, operation, error, self._default, self._rng)
        if self._held or operation == "look":  # how Slack is for us is not asked
            verdict = Verdict(verdict.pause, verdict.method)
        elif not isinstance(error, ChannelError | AnewError | ShrinkError):
            self._weather.failed()
        elif row.state == "dead":
            self._weather.succeeded(row)
        log.warning(
            "delivery failed",
            extra={
                "incident": row.id,
                "operation": operation,
                "channel": channel,
                "attempts": row.attempts,
                "error": row.error,
                "state": row.state,
            },
        )
        self._agenda.put_off(row, operation, verdict)

    # -- remembering

    def _load(self) -> None:
        """Rows of the last process; and incidents that it had no time to desire."""
        for row in self._rows.values():
            row.recover()
        self._agenda.load()
        for fact in self._state.read("incident", IncidentFact).values():
            self.desire(fact.incident)

    def _forget(self, row: Delivery) -> None:
        self._table.forget(row)
        self._agenda.forget(row)
