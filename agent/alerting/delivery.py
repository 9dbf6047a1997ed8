"""How far one incident's message has come, and what is to be done next: pure.

What should be shown (`incident`, and `call`, what its thread is still to be told) against what is shown
(`delivered`, `ts`). The next operation follows from the two, so that whatever happened in between - a
storm of transitions, a crash, an outage - one look tells what is left to do.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from agent.alerting.bulletin import is_bulletin
from agent.model import DeliveryState, Incident, Severity, Sight, Transition, TransitionKind

Stage = Literal["pending", "sending", "delivered", "ambiguous", "dead"]
Operation = Literal["post", "edit", "reply", "find", "look"]
"""To "find" is to look for what may have arrived, to "look" whether what Slack has taken is shown there."""


class Delivery(msgspec.Struct):
    """One incident's row. Times are unix seconds.

    `doing` is the post or reply that is under way or may have arrived, `nonce` its mark in Slack,
    `asked_at` when it was first asked for, `asking` the version it shows.
    """

    incident: Incident
    channel: str
    mention: str = ""
    state: Stage = "pending"
    delivered: int = 0
    call: Transition | None = None
    urgent: bool = True
    posted_in: str = ""
    ts: str = ""
    doing: Literal["", "post", "reply"] = ""
    nonce: str = ""
    asked_at: float = 0.0
    asking: int = 0
    attempts: int = 0
    next_try: float | None = None
    error: str = ""
    generation: int = 1
    small: bool = False
    quiet: bool = False
    """Muted for as long as it was open: then its end is not told either."""
    bulletin: str = ""
    """The storm in whose thread it is told, or the digest that tells of it."""
    thread: str = ""
    """The message in whose thread its own is, or is to be, where that is no root."""
    reminded: int = 0
    reminded_at: float = 0.0
    escalated: bool = False
    snoozed_until: float = 0.0
    snoozes: int = 0
    """How often it was put off: the last time holds, be it the shorter."""
    flapped_at: float = 0.0
    """When its thread was last to be told that it flaps."""
    set_back: dict[float, float] = {}
    """Of moments that lie in the future, as the clock was set back: when that was first seen."""
    away: float = 0.0
    """Since when another writes for it; it is not told by us then, but still counted with its storm."""
    unseen: Sight | None = None

    @property
    def id(self) -> str:
        return self.incident.id

    @property
    def resolved(self) -> bool:
        return self.incident.state == "resolved"

    @property
    def gathered(self) -> bool:
        """Told in the thread of a storm, whoever has made that, or by a digest."""
        return bool(self.bulletin or self.thread)

    @property
    def stale(self) -> bool:
        return self.delivered < self.incident.version

    @property
    def unsure(self) -> bool:
        """Whether a look will soon say that it is there."""
        return self.unseen is not None and self.unseen.tries == 0

    @property
    def waits(self) -> bool:
        """Whether something of it is still to be told."""
        operation = self.next()
        return operation is not None and (operation != "look" or self.stale or self.call is not None)

    @property
    def over(self) -> bool:
        """Resolved, and nothing is left to be told of it."""
        return self.resolved and self.next() is None

    def next(self) -> Operation | None:
        """What to do now, if anything. What is muted is not posted, and what a bulletin tells of only while it is open;
        but a message that is there goes on to be true.
        """
        held = self.incident.muted or self.quiet or (self.gathered and self.resolved)
        if self.away or self.state == "dead" or (held and not self.ts and self.state != "ambiguous"):
            return None
        if self.state == "ambiguous":
            return "find"
        return self._next_to_it() if self.ts else "post"

    def _next_to_it(self) -> Operation | None:
        """What to do about a message that is there. A look comes first, but one that failed keeps nothing waiting."""
        if self.unsure and not (self.stale and self.urgent):
            return "look"
        if self.stale:
            return "edit"
        if self.call is not None:
            return "reply"
        return None if self.unseen is None else "look"

    def desire(self, incident: Incident) -> bool:
        """Want a newer version shown. False if it is not newer."""
        before = self.incident
        if incident.version <= before.version:
            return False
        self.quiet = bool(incident.muted) or (self.quiet and incident.state == "resolved")
        self._hear(before, incident)
        taken = incident.acknowledged_by != before.acknowledged_by  # whoever pressed the button looks at it now
        self.urgent = self.urgent or self.call is not None or taken
        self.incident = incident
        if self.state in ("delivered", "dead"):
            self.state, self.attempts, self.next_try = "pending", 0, None
        return True

    def _hear(self, before: Incident, incident: Incident) -> None:
        """What the thread is to be told of the change; that of a bulletin has reminders alone."""
        if is_bulletin(incident):
            self.call = None if incident.state == "resolved" else self.call
        elif incident.muted:
            self.call = None
        elif before.muted and incident.state == "open" and self.ts:
            self.call = _call(incident, TransitionKind.UNMUTED)
        elif incident.state == "resolved":
            self.call = _call(incident, TransitionKind.RESOLVED)
        elif incident.severity.rank > before.severity.rank:
            self.call = _call(incident, TransitionKind.ESCALATED)
        elif incident.flapping is not before.flapping:
            self._turn(incident)
        elif incident.severity.rank < before.severity.rank and not self._tells(TransitionKind.STEADY):
            self.call = None  # a rise that was not yet told is over
        if self.gathered and not self._tells(TransitionKind.ESCALATED):
            self.call = None  # its message is in a storm's thread, which is told enough by its edits

    def _turn(self, incident: Incident) -> None:
        """It begins to flap, or ends; a rise is the more important thing to tell."""
        self.flapped_at = incident.updated_at
        if not self._tells(TransitionKind.ESCALATED):
            self.call = _call(incident, TransitionKind.FLAPPING if incident.flapping else TransitionKind.STEADY)

    def _tells(self, kind: TransitionKind) -> bool:
        return self.call is not None and self.call.kind is kind

    def snooze(self, until: float) -> None:
        """No reminders until then, whatever was asked for before."""
        self.snoozes, self.snoozed_until = self.snoozes + 1, until

    def begin(self, operation: Operation, now: float) -> None:
        """About to call Slack. A post keeps its nonce from one attempt to the next."""
        self.attempts += 1
        if operation in ("find", "look"):
            return
        self.state = "sending"
        if operation in ("post", "reply"):
            nonce = self._nonce(operation)
            if self.nonce != nonce:
                self.nonce, self.asked_at = nonce, now
            self.doing = operation
        self.asking = self.incident.version

    def done(self, operation: Operation, channel: str = "", ts: str = "", *, unsure: bool = False) -> None:
        """It is there; where `unsure`, it has been taken. For "find": what was looked for has been found."""
        if unsure and (self.unseen is None or self.unseen.call is not None):  # what the message itself is, is more
            self.unseen = Sight(self.nonce, self.asked_at, self.call if operation == "reply" else None, ts)
        found = operation == "find" and self.doing == "reply" and self.nonce == self._nonce("reply")
        operation = self.doing or "post" if operation == "find" else operation
        if operation == "post":
            self.posted_in, self.ts = channel, ts
        if operation != "reply":
            self.delivered = self.asking
        if found or (operation != "edit" and self.call is not None and self.call.version <= self.asking):
            self.call = None  # a first post tells all that came before it
        self.doing, self.nonce, self.asked_at = "", "", 0.0
        self.small = False
        self._rest()

    def looked(self, *, seen: bool) -> None:
        """Whether what Slack has taken is shown there; else it is to be told again."""
        sight, self.unseen = self.unseen, None
        if not seen and sight is not None and sight.call is None:
            self.anew()
        elif not seen and sight is not None:
            self.call = self.call or sight.call
        self._rest()

    def overlooked(self) -> int:
        """A look has failed; how many have."""
        if self.unseen is None:
            return 0
        self.unseen = msgspec.structs.replace(self.unseen, tries=self.unseen.tries + 1)
        return self.unseen.tries

    def _rest(self) -> None:
        self.attempts, self.next_try, self.error = 0, None, ""
        self.state = "pending"
        if self.next() is None:
            self.state, self.urgent = "delivered", False

    def anew(self) -> None:
        """The message is gone: post another."""
        self.ts, self.posted_in, self.delivered, self.unseen = "", "", 0, None
        self.generation += 1
        self.doing, self.nonce, self.asked_at, self.state = "", "", 0.0, "pending"

    def recover(self) -> None:
        """After a restart: a post that was under way may have arrived."""
        if self.state == "sending":
            self.state = "ambiguous" if self.doing else "pending"

    def doubt(self) -> None:
        """Another may have posted what comes next here: look for it, from when it came to be wanted."""
        operation = self.next()
        if operation in ("edit", "look") and self.call is not None:
            operation = "reply"  # which comes after it; the edit may be made twice
        if operation not in ("post", "reply"):
            return
        self.state, self.doing, self.nonce = "ambiguous", operation, self._nonce(operation)
        self.asked_at = self.call.time if operation == "reply" and self.call is not None else self.incident.fired_at
        self.attempts, self.next_try = 0, None

    def adopt(self, other: DeliveryState, *, busy: bool = False) -> bool:
        """Go on from where another writer is, if it has come further than we know; whether any of it is news.

        What is known only grows: which generation of the message, where it is, what it shows, what its thread was told.
        Between two that know as little, the one that has a doubt is right. `busy`: a call is under way, and what it is
        about must not change; a snooze holds all the same, and what the thread has been told is not told again.
        """
        before = self._reminders()
        mine, theirs = (self.snoozes, self.snoozed_until), (other.snoozes, other.snoozed_until)
        self.snoozes, self.snoozed_until = max(mine, theirs)
        if busy:
            told = self.call is not None and _thread_knows(other) >= (self.generation, self.call.version)
            if told and not self.doing and not self._tells(TransitionKind.REMINDED):
                self.call = None
            return self._reminders() != before
        reminds = _reminds(other) and other.reminded > self.reminded
        self.reminded, self.escalated = max(self.reminded, other.reminded), self.escalated or other.escalated
        self.reminded_at = max(self.reminded_at, other.reminded_at)
        self.quiet = self.quiet or (other.state == "untold" and not other.open)
        learned = self._joins(other)
        doubtful = other.state in ("ambiguous", "sending")
        if (*_known(other), doubtful) <= (*_known(self.shown()), self.state == "ambiguous"):
            if reminds and self.call is None and not self.resolved and self.state in ("pending", "delivered"):
                self.call, self.state = other.call, "pending"  # it counts as told, so it would never come again
                if doubtful:
                    self.doubt()
            return self._gives_up(other) or learned or self._reminders() != before
        self.unseen = other.unseen
        self.ts, self.posted_in, self.generation = other.ts, other.channel if other.ts else "", other.generation
        self.thread = other.thread or ("" if other.ts else self.thread)
        self.delivered, self.doing, self.nonce, self.asked_at = other.version, other.doing, other.nonce, other.asked_at
        self.attempts, self.next_try, self.error = other.attempts, other.next_try, other.error
        ahead = other.call is not None and other.call.version > self.incident.version
        ahead = ahead and not _reminds(other)  # it comes with that version
        if self.call is None or self.call.version <= other.desired:
            self.call = None if ahead else other.call
        self.state = "dead" if other.state == "dead" and other.desired == self.incident.version else "pending"
        if self.doing:
            self.state = "ambiguous"
        elif self.next() is None and self.state != "dead":
            self.state, self.urgent = "delivered", False
        return True

    def _gives_up(self, other: DeliveryState) -> bool:
        """Whether Slack refuses it for good, so far as we know it; until then its tries are that of who writes."""
        same = _known(other) == _known(self.shown()) and other.desired == self.incident.version
        if self.state == "dead" or other.state != "dead" or not same:
            return False
        self.attempts, self.next_try, self.error = other.attempts, other.next_try, other.error
        self.state, self.doing, self.nonce, self.asked_at = "dead", "", "", 0.0
        return True

    def _reminders(self) -> tuple[int, float, bool, int, float]:
        return self.reminded, self.reminded_at, self.escalated, self.snoozes, self.snoozed_until

    def _joins(self, other: DeliveryState) -> bool:
        """Learn in whose thread the message is to be, while it is nowhere; whether that is new."""
        nowhere = not self.ts and not other.ts and self.generation == other.generation
        if not nowhere or other.thread in ("", self.thread):
            return False
        self.thread = other.thread
        return True

    def _nonce(self, operation: Operation) -> str:
        version = ""
        if operation == "reply" and self.call is not None:
            again = self.call.kind is TransitionKind.REMINDED or bool(self.call.note)
            nth = f"r{self.reminded}" if again else ""
            version = f".{self.call.version}{nth}"
        return f"{self.id}.{self.generation}{version}"

    def shown(self) -> DeliveryState:
        """As others see it: the API, the retained message, the next writer."""
        return DeliveryState(
            incident=self.id,
            version=self.delivered,
            state="untold" if self.state == "pending" and self.next() is None else self.state,
            channel=self.posted_in or self.channel,
            ts=self.ts,
            attempts=self.attempts,
            error=self.error,
            next_try=self.next_try,
            desired=self.incident.version,
            open=not self.resolved,
            generation=self.generation,
            doing=self.doing,
            nonce=self.nonce,
            asked_at=self.asked_at,
            call=self.call,
            thread=self.thread,
            reminded=self.reminded,
            reminded_at=self.reminded_at,
            escalated=self.escalated,
            snoozed_until=self.snoozed_until,
            snoozes=self.snoozes,
            unseen=self.unseen,
        )


def doubtful(incident: Incident) -> DeliveryState:
    """Of one that is not known here: what another tells that may have posted it."""
    row = Delivery(incident, "")
    row.doubt()
    return row.shown()


def _known(row: DeliveryState) -> tuple[int, bool, int, int, bool]:
    """How far a message has come: its generation, whether it is there, what it shows, what its thread was told (there
    is none without a message), whether it was seen.
    """
    generation, told = _thread_knows(row)
    return generation, row.ts != "", row.version, told, row.unseen is None


def _thread_knows(row: DeliveryState) -> tuple[int, int]:
    """Up to which version the thread has been told, of which generation of the message."""
    told = row.desired if row.call is None else row.call.version - 1
    return row.generation, told if row.ts else 0


def _reminds(row: DeliveryState) -> bool:
    """Whether a reminder is still to be told: no version of the incident brings it."""
    return row.call is not None and row.call.kind is TransitionKind.REMINDED


def _call(incident: Incident, kind: TransitionKind) -> Transition:
    severity = Severity.OK if kind is TransitionKind.RESOLVED else incident.severity
    return Transition(incident.id, incident.version, kind, severity, incident.updated_at, incident.value)
