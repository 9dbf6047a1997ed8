"""What people do about incidents, as verbs: acknowledge, silence, snooze. For a host, and for the collector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from agent.alerting.figure import duration
from agent.alerting.memory import Pair
from agent.alerting.silence import Silence
from agent.clock import Clock
from agent.commands.lanes import Outcome, Work
from agent.commands.payload import Args
from agent.errors import CommandError
from agent.model import TransitionKind

SHOWN = 40
"""Lines of a list that are told; the rest is counted."""


class Holder(Protocol):
    """Who has the incidents. KeyError for an id that is not known, ValueError for what is not to be silenced so."""

    def silence(self, match: str, seconds: float, author: str, reason: str) -> tuple[Silence, list[Pair]]: ...
    def unsilence(self, silence_id: str, author: str) -> list[Pair]: ...
    def silences(self) -> list[Silence]: ...
    def acknowledge(self, incident_id: str, by: str) -> list[Pair]: ...


class Reminding(Protocol):
    def snooze(self, incident_id: str, seconds: float) -> None: ...


class Holding:
    """`tell` takes what moved an incident. What cannot be done raises CommandError."""

    def __init__(self, holder: Holder, outbox: Reminding, clock: Clock, tell: Callable[[list[Pair]], None]) -> None:
        self._holder = holder
        self._outbox = outbox
        self._clock = clock
        self._tell = tell

    def works(self) -> Mapping[str, Work]:
        return {
            "silence": self._silence,
            "unsilence": self._unsilence,
            "silences": self._silences,
            "ack": self._ack,
            "snooze": self._snooze,
        }

    async def _silence(self, args: Args, actor: str) -> Outcome:
        match, seconds, reason = str(args["match"]), float(args["duration"]), str(args["reason"])
        try:
            silence, pairs = self._holder.silence(match, seconds, actor, reason)
        except ValueError as error:
            raise CommandError("bad_arguments", str(error)) from error
        self._tell(pairs)
        held = sum(transition.kind == TransitionKind.MUTED for _, transition in pairs)
        text = (
            f"{silence.id}: {silence.match} is held back for {duration(seconds)}; incidents held back by it now: {held}"
        )
        return Outcome(text, {"silence": msgspec.to_builtins(silence), "incidents": [one.id for one, _ in pairs]})

    async def _unsilence(self, args: Args, actor: str) -> Outcome:
        silence_id = str(args["id"])
        try:
            pairs = self._holder.unsilence(silence_id, actor)
        except KeyError as error:
            raise CommandError("unknown_silence", f"no silence {silence_id} holds") from error
        self._tell(pairs)
        return Outcome(f"{silence_id} has ended", {"incidents": [incident.id for incident, _ in pairs]})

    async def _silences(self, args: Args, actor: str) -> Outcome:  # noqa: ARG002 - all verbs are called alike
        silences, now = self._holder.silences(), self._clock.now()
        lines = [
            f"{one.id}  {one.match}, {duration(one.until - now)} more, by {one.author}: {one.reason}"
            for one in silences
        ]
        data = {"silences": [msgspec.to_builtins(one) for one in silences[: 5 * SHOWN]]}
        return Outcome(shown(lines) or "nothing is silenced", data)

    async def _ack(self, args: Args, actor: str) -> Outcome:
        incident_id = str(args["id"])
        try:
            pairs = self._holder.acknowledge(incident_id, actor)
        except KeyError as error:
            raise CommandError("unknown_incident", f"no incident {incident_id} is open") from error
        self._tell(pairs)
        return Outcome(f"{incident_id}: {actor} looks after it" if pairs else f"{incident_id}: somebody does already")

    async def _snooze(self, args: Args, actor: str) -> Outcome:  # noqa: ARG002
        incident_id, seconds = str(args["id"]), float(args["duration"])
        try:
            self._outbox.snooze(incident_id, seconds)
        except KeyError as error:
            raise CommandError("unknown_incident", f"no incident {incident_id} is open") from error
        return Outcome(f"{incident_id}: no reminders for {duration(seconds)}")


def shown(lines: list[str]) -> str:
    more = [f"… and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join([*lines[:SHOWN], *more])
