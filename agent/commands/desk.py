"""Where a command becomes an act or a refusal: the one place that decides whether this host obeys.

Over MQTT a command must be small and exactly of its form, signed by a key that is trusted now, for this host, in
its window, and new; its verb allowed, its arguments what the verb takes, the line before it short. Then its id is
on disk before anything is done. The command line comes by the control socket, as a user whom the kernel vouches
for, and skips only what belongs to the wire.

A refusal's reason is one of: malformed, unknown_key, revoked_key, bad_signature, wrong_host, window, future,
expired, replayed, disabled, unknown_verb, not_allowed, bad_arguments, rate, busy, journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from agent.clock import Clock
from agent.commands import gate, payload, verbs
from agent.commands.journal import FILE, Entry, Journal
from agent.commands.journal import Outcome as Word
from agent.commands.lanes import Allowance, Lane, Work
from agent.commands.payload import WINDOW, Args, Command, Reply
from agent.config.schema import CommandsConfig
from agent.errors import CommandError

log = logging.getLogger(__name__)
T = TypeVar("T")

INBOX = 64
"""Commands that wait to be looked at; more are dropped, as is all that comes faster than it can be verified."""
CLOSE = 3.0
"""Seconds for what runs to be ended."""
_SLOW = {"job": "job", "probe": "look", "top": "look", "advise": "look"}

Say = Callable[[Reply, Callable[[], None] | None], None]
"""Send an answer; the second is called once the broker has it."""
Tell = Callable[[Reply], None]


class Desk:
    """`works` binds verbs to what they do; `settings` gives the present `[commands]`; `say` answers over MQTT.

    `accepted` and `refused` count since the start; floods and replays are among the refused.
    """

    def __init__(
        self,
        host: str,
        directory: Path,
        clock: Clock,
        *,
        settings: Callable[[], CommandsConfig],
        works: Mapping[str, Work],
        say: Say,
    ) -> None:
        self._host = host
        self._path = directory / FILE
        self._clock = clock
        self._settings = settings
        self._works = works
        self._say = say
        self._inbox: asyncio.Queue[bytes] = asyncio.Queue(INBOX)
        self._journal: Journal | None = None
        self._disk = asyncio.Lock()
        self._lanes = {"quick": Lane(10, 16), "look": Lane(60, 4), "job": Lane(3660, 0, grace=3)}
        self._running: dict[str, tuple[Reply, asyncio.Task[Reply]]] = {}
        self._writing: set[asyncio.Future[None]] = set()
        self._commands = Allowance(20, 1, clock.monotonic())
        # Apart, so that what anybody may send does not hide what somebody with a key was refused.
        self._refusals = {True: Allowance(20, 1, clock.monotonic()), False: Allowance(20, 0.1, clock.monotonic())}
        self._uncounted = 0
        self._closed = False
        self.accepted = self.refused = 0

    def submit(self, raw: bytes) -> None:
        """A message of the `commands` topic. Never blocks, never raises."""
        with contextlib.suppress(asyncio.QueueFull):  # whoever floods has no answer to expect
            self._inbox.put_nowait(raw)

    async def run(self) -> None:
        """Until cancelled: tell what the last process left behind, then take what comes."""
        if self._path.exists():
            await self._recover()
        while True:
            raw = await self._inbox.get()
            try:
                await self.consider(raw)
            except Exception:  # the border of a command: one must not end the taking of others
                log.exception("a command could not be considered")

    async def consider(self, raw: bytes) -> None:
        """One message, to its refusal or until it is begun."""
        if self._closed:
            return
        try:
            command, key = gate.genuine(raw, self._host, self._settings())
        except CommandError as error:
            claim = gate.claimed(raw)
            await self._refuse(error, claim.command if claim else None, "mqtt, not verified", genuine=False)
            return
        try:
            await self._admit(command, f"key {key}", None)
        except CommandError as error:
            await self._refuse(error, command, f"key {key}", genuine=True)

    async def ask(self, verb: str, args: Args, actor: str, tell: Tell) -> Reply:
        """From the control socket: the final answer; `tell` has every answer before it. Raises nothing."""
        now = self._clock.now()
        command = Command(payload.new_id(), self._host, verb, args, actor, now, now + WINDOW)
        try:
            task = await self._admit(command, "socket", tell)
        except CommandError as error:
            await self._note(self._entry(command, "refused", "socket", reason=error.code, text=error.detail))
            return self._refusal(command.id, error)
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        """End what runs. It has no result then, and the next start says so. Nothing is begun any more."""
        self._closed = True
        tasks: set[asyncio.Future[None] | asyncio.Task[Reply]] = {task for _, task in self._running.values()}
        for task in tasks:
            task.cancel()
        if tasks or self._writing:
            await asyncio.wait(tasks | self._writing, timeout=CLOSE)
        async with self._disk:
            if self._journal is not None:
                self._journal.close()
                self._journal = None

    # -- whether

    async def _admit(self, command: Command, origin: str, tell: Tell | None) -> asyncio.Task[Reply]:
        """Begin it, its id on disk; CommandError where it may not be. `tell` None: it came over MQTT."""
        over_mqtt = tell is None
        async with self._disk:
            journal = await self._open()
            if over_mqtt:
                await self._check_new(journal, command)
            work = self._check(command, over_mqtt=over_mqtt)
            lane = self._lanes[_SLOW.get(command.verb, "quick")]
            if lane.full:
                raise CommandError("busy", f"{command.verb}: as many as this host takes are under way; try again later")
            reply = self._reply(command.id, "accepted")
            entry = self._entry(command, "accepted", origin)
            await self._write(lambda: journal.consume(command, reply, entry, wanted=over_mqtt))
            lane.enter()
            self.accepted += 1
            task = asyncio.ensure_future(self._perform(command, origin, lane, work, tell))
            self._running[command.id] = reply, task
        task.add_done_callback(lambda _: self._running.pop(command.id, None))
        log.info("command accepted", extra={"verb": command.verb, "actor": command.actor, "id": command.id})
        self._answer(reply, tell)
        return task

    async def _check_new(self, journal: Journal, command: Command) -> None:
        known = await self._write(lambda: journal.recall(command.id))
        if known is not None:
            present, _ = self._running.get(command.id, (known, None))
            raise _ReplayError(present)
        gate.check_time(command, self._clock.now())
        gate.check_floor(command, journal.floor, self._clock.now())

    def _check(self, command: Command, *, over_mqtt: bool) -> Work:
        verb = verbs.find(command.verb)
        if over_mqtt and command.verb not in self._settings().allow:
            raise CommandError("not_allowed", f"{command.verb} is not in commands.allow of this host")
        if verb.where != "host" or command.verb not in self._works:
            raise CommandError("unknown_verb", f"{command.verb} is nothing that this host's agent can do")
        verbs.check(command.verb, command.args)
        if over_mqtt and not self._commands.take(self._clock.monotonic()):
            raise CommandError("rate", "too many commands in a short time")
        return self._works[command.verb]

    # -- doing

    async def _perform(self, command: Command, origin: str, lane: Lane, work: Work, tell: Tell | None) -> Reply:
        def begun() -> None:
            reply = self._reply(command.id, "running")
            if command.id in self._running:
                self._running[command.id] = reply, self._running[command.id][1]
            self._answer(reply, tell)

        outcome = await lane.run(lambda: work(command.args, command.actor), begun)
        text = payload.clean(outcome.text)
        reply = self._reply(command.id, "done", text, {"ok": outcome.ok, **payload.clean(dict(outcome.data))})
        word: Word = "done" if outcome.ok else "failed"
        await self._finish(reply, self._entry(command, word, origin, text=text))
        log.info("command done", extra={"verb": command.verb, "id": command.id, "ok": outcome.ok})
        self._answer(reply, tell)
        return reply

    def _answer(self, reply: Reply, tell: Tell | None) -> None:
        if tell is not None:
            tell(reply)
        elif reply.state in ("accepted", "running"):
            self._say(reply, None)
        else:
            self._say(reply, lambda: self._published(reply.id))

    def _published(self, command_id: str) -> None:
        future = asyncio.ensure_future(self._forget(command_id))
        self._writing.add(future)
        future.add_done_callback(self._writing.discard)

    async def _forget(self, command_id: str) -> None:
        async with self._disk:
            journal = self._journal
            if journal is not None:
                with contextlib.suppress(CommandError):  # it is said once more after the next start
                    await self._write(lambda: journal.published(command_id))

    async def _finish(self, reply: Reply, entry: Entry) -> None:
        async with self._disk:
            with contextlib.suppress(CommandError):  # told in the log; after a restart it counts as interrupted
                journal = await self._open()
                await self._write(lambda: journal.finish(reply, entry))

    async def _recover(self) -> None:
        """What was begun and has no result is interrupted; what was not heard is said again."""
        async with self._disk:
            try:
                journal = await self._open()
                begun = await self._write(journal.accepted)
                for command_id in begun:
                    if command_id in self._running:
                        continue
                    text = "this host's agent ended while it ran; how far it came is not known"
                    reply = self._reply(command_id, "interrupted", text)
                    entry = Entry(self._clock.now(), "interrupted", "start", command_id)
                    await self._write(functools.partial(journal.finish, reply, entry))
                    log.warning("a command was interrupted", extra={"id": command_id})
                left = await self._write(journal.wanted)
            except CommandError:
                return
        for reply in left:
            self._answer(reply, None)

    # -- refusing

    async def _refuse(self, error: CommandError, command: Command | None, origin: str, *, genuine: bool) -> None:
        """For good: what is told to be refused must not run when it is delivered again.

        A flood is only counted, and not answered: it must fill neither disk nor log nor the line to the broker.
        """
        self.refused += 1
        if not self._refusals[genuine].take(self._clock.monotonic()):
            self._uncounted += 1
            return
        entry = Entry(self._clock.now(), "refused", origin, reason=error.code, text=error.detail)
        if command is None:
            await self._note(entry)
            return
        entry = self._entry(command, "refused", origin, reason=error.code, text=error.detail)
        reply = self._refusal(command.id, error)
        if isinstance(error, _ReplayError):
            reply, genuine = error.known, False  # its answer stands as it was
        await self._note(entry, command if genuine else None, reply)
        self._say(reply, None)

    async def _note(self, entry: Entry, command: Command | None = None, reply: Reply | None = None) -> None:
        """Into the audit; with a command, its id is used up too."""
        fields = {"reason": entry.reason, "actor": entry.actor, "verb": entry.verb, "id": entry.id, "text": entry.text}
        log.warning("command refused", extra=fields)
        flood, self._uncounted = self._flood(entry.time), 0
        async with self._disk:
            with contextlib.suppress(CommandError):
                journal = await self._open()
                if flood is not None:
                    await self._write(functools.partial(journal.note, flood))
                if command is not None and reply is not None:
                    await self._write(functools.partial(journal.consume, command, reply, entry, wanted=False))
                else:
                    await self._write(functools.partial(journal.note, entry))

    def _flood(self, now: float) -> Entry | None:
        if not self._uncounted:
            return None
        text = f"{self._uncounted} more refusals were counted and not written one by one"
        return Entry(now, "refused", "mqtt", reason="flood", text=text)

    # -- small change

    async def _open(self) -> Journal:
        if self._closed:
            raise CommandError("journal", "this agent is about to end")
        if self._journal is None:
            now = self._clock.now()
            self._journal = await self._write(lambda: Journal.open(self._path, now))
        return self._journal

    async def _write(self, call: Callable[[], T]) -> T:
        """In a thread, with `_disk` held; CommandError("journal") where the disk does not take it."""
        try:
            return await asyncio.shield(asyncio.to_thread(call))
        except (OSError, sqlite3.Error) as error:
            log.error("journal of commands cannot be used", extra={"file": str(self._path), "error": str(error)})
            raise CommandError("journal", f"what is asked for cannot be written down: {error}") from error

    def _reply(
        self, command_id: str, state: payload.State, text: str = "", data: Mapping[str, object] | None = None
    ) -> Reply:
        return Reply(command_id, self._host, self._clock.now(), state, text, dict(data or {}))

    def _refusal(self, command_id: str, error: CommandError) -> Reply:
        return self._reply(command_id, "refused", error.detail, {"reason": error.code})

    def _entry(self, command: Command, outcome: Word, origin: str, *, reason: str = "", text: str = "") -> Entry:
        shown = text if len(text) <= 500 else text[:499] + "…"
        return Entry(
            self._clock.now(), outcome, origin, command.id, command.actor, command.verb, command.args, reason, shown
        )


class _ReplayError(CommandError):
    """It was here before; `known` is the answer as it stands, which whoever asks twice may have missed."""

    def __init__(self, known: Reply) -> None:
        super().__init__("replayed", f"{known.id} was here before")
        self.known = known
