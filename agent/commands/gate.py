"""Whether a message is a command for this host, from whom it believes, and for now. Pure but for the keys file."""

from __future__ import annotations

import time
from typing import NamedTuple

from agent.commands import payload, policy
from agent.commands.payload import WINDOW, Command
from agent.config.schema import CommandsConfig
from agent.errors import CommandError

SKEW = 30.0
"""Seconds by which the signer's clock may be ahead of ours. Behind it may not be: that is what expiry is for."""


class Claim(NamedTuple):
    """What a message says of itself, believed or not."""

    command: Command
    key: str


def genuine(raw: bytes, host: str, settings: CommandsConfig) -> Claim:
    """The command, whatever the time; CommandError where its form, key, signature or audience is not right."""
    signed = payload.decode_signed(raw)
    policy.keyring(settings).verify(signed)
    command = payload.decode(signed.payload)
    if command.host != host:
        raise CommandError("wrong_host", f"it is for {command.host}, and this is {host}")
    return Claim(command, signed.key)


def claimed(raw: bytes) -> Claim | None:
    """What a message that was turned away claims to be, for the audit and for an answer; None where that is nothing."""
    try:
        signed = payload.decode_signed(raw)
        return Claim(payload.decode(signed.payload), signed.key)
    except CommandError:
        return None


def check_time(command: Command, now: float) -> None:
    """CommandError("window", "future" or "expired"); `now` in unix seconds by this host's clock."""
    lasts = command.not_after - command.issued_at
    if not 0 < lasts <= WINDOW:
        raise CommandError("window", f"it would be valid for {lasts:.0f} s; expected at most {WINDOW:g} s")
    if command.issued_at > now + SKEW:
        ahead = command.issued_at - now
        raise CommandError("future", f"it is {ahead:.0f} s ahead of this host's clock; are both clocks right?")
    if now > command.not_after:
        raise CommandError("expired", f"it ran out {now - command.not_after:.0f} s ago by this host's clock")


def check_floor(command: Command, floor: float, now: float) -> None:
    """CommandError("replayed") for what was issued before the journal can tell new from old."""
    if command.issued_at > floor:
        return
    if floor <= now:
        raise CommandError("replayed", "it is older than what was taken here long ago, or than this journal")
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(floor))
    raise CommandError(
        "replayed", f"a clock was ahead: what is issued before {when} counts as old; tocsin keys unblock"
    )
