"""One request to many hosts: a signed command to each, and what they answer until a deadline."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal

from agent.clock import Clock
from agent.commands.payload import Args, Command, Reply, decode_reply
from agent.commands.signing import Signer
from agent.errors import CommandError, TransportError
from agent.transport import wire
from agent.transport.mqtt import Message, Session

log = logging.getLogger(__name__)

ANSWER_WITHIN = 30.0
JOB_WITHIN = 600.0
"""Seconds for a command that a host has accepted and runs."""
VALID = 60.0
"""Seconds for which a host may take a command up."""

State = Literal["sent", "accepted", "running", "done", "refused", "interrupted", "silent", "offline", "unsent"]
FINAL = frozenset({"done", "refused", "interrupted", "silent", "offline", "unsent"})


@dataclasses.dataclass(frozen=True, slots=True)
class HostState:
    """How far one host is. `text` is its own, or ours where it did not answer."""

    state: State
    text: str = ""
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def good(self) -> bool:
        return self.state == "done" and self.data.get("ok", True) is not False


States = dict[str, HostState]
Changed = Callable[[States], None]


class Fanout:
    """Signs with `signer`; None: no key is configured, and nothing is ever sent. `session` is the broker's, or None."""

    def __init__(self, signer: Signer | None, clock: Clock) -> None:
        self._signer = signer
        self._clock = clock
        self._waiting: dict[str, Callable[[Reply], None]] = {}
        self.session: Session | None = None
        self.sent = 0

    @property
    def able(self) -> bool:
        return self._signer is not None

    async def run(
        self,
        verb: str,
        commands: Mapping[str, Args],
        *,
        actor: str,
        key: str,
        states: States | None = None,
        changed: Changed | None = None,
        seconds: float = ANSWER_WITHIN,
    ) -> States:
        """The last state of each host of `commands`, after all have ended or time is up.

        Equal `key`s make equal command ids, so that no host runs a request twice whoever sends it. `states` is
        where they are kept (what is in it already stays), `changed` is called at each step.
        """
        states = {} if states is None else states
        stepped = asyncio.Event()

        def step(host: str, state: HostState) -> None:
            states[host] = state
            stepped.set()
            if changed is not None:
                changed(states)

        ids = {host: command_id(key, host) for host in commands}
        for host, number in ids.items():
            self._waiting[number] = lambda reply, host=host: _take(step, states, host, reply)  # type: ignore[misc]
        try:
            async with asyncio.TaskGroup() as group:
                for host, args in commands.items():
                    states[host] = HostState("sent")
                    group.create_task(self._send(Command(ids[host], host, verb, args, actor, 0.0, 0.0), step))
            await self._collect(commands, states, stepped, seconds)
        finally:
            for number in ids.values():
                self._waiting.pop(number, None)
        for host in commands:
            if not states[host].final:
                step(host, _late(states[host], seconds))
        return states

    def heard(self, topic: wire.Topic, message: Message) -> None:
        """A reply, to us or to another collector; a retained or malformed one is nothing."""
        waiting = self._waiting.get(topic.item)
        if waiting is None or message.retain:
            return
        try:
            reply = decode_reply(message.payload)
        except CommandError as error:
            log.warning("reply not understood", extra={"topic": message.topic[:200], "error": error.detail[:200]})
            return
        if reply.id == topic.item and reply.host == topic.host:
            waiting(reply)

    async def _send(self, command: Command, step: Callable[[str, HostState], None]) -> None:
        host, session, signer = command.host, self.session, self._signer
        if signer is None:
            step(host, HostState("unsent", "this collector has no key to sign with ([commands] signing_key)"))
            return
        if session is None:
            step(host, HostState("unsent", "this collector has no connection to the broker"))
            return
        now = self._clock.now()
        command = Command(command.id, host, command.verb, command.args, command.actor, now, now + VALID)
        try:
            self.sent += 1
            async with asyncio.timeout(5.0):
                await session.publish(f"{wire.PREFIX}/{host}/commands", signer.sign(command))
        except (TransportError, TimeoutError) as error:
            step(host, HostState("unsent", f"the broker did not take it: {str(error)[:100] or 'no answer'}"))

    async def _collect(
        self, commands: Mapping[str, Args], states: States, stepped: asyncio.Event, seconds: float
    ) -> None:
        """A host that has accepted gets more time than one that says nothing."""
        began = self._clock.monotonic()
        while True:
            open_ = [states[host] for host in commands if not states[host].final]
            if not open_:
                return
            busy = any(state.state in ("accepted", "running") for state in open_)
            left = began + (max(seconds, JOB_WITHIN) if busy else seconds) - self._clock.monotonic()
            if left <= 0:
                return
            stepped.clear()
            waits = [asyncio.ensure_future(stepped.wait()), asyncio.ensure_future(self._clock.sleep(left))]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()


def command_id(key: str, host: str) -> str:
    return "cmd_" + hashlib.sha256(f"{key}\0{host}".encode("utf-8", "replace")).hexdigest()[:32]


def _take(step: Callable[[str, HostState], None], states: States, host: str, reply: Reply) -> None:
    if reply.host == host and not states[host].final:
        step(host, HostState(reply.state, reply.text, reply.data))


def _late(state: HostState, seconds: float) -> HostState:
    if state.state == "sent":
        return HostState("silent", f"no answer within {seconds:g} s")
    return HostState("silent", f"still {state.state} after {max(seconds, JOB_WITHIN):g} s; it goes on by itself")
