"""What a confirm button carries: the request itself, who asked, until when, and the proof that we wrote it.

It is pressed anywhere: of several collectors any may get it, so that nothing about it is in memory. Single use is
held by claiming its nonce, and once more by the host, whose command's id is made of it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence

import msgspec

from agent.collector.chatops.request import CANCEL, CONFIRM
from agent.errors import CommandError
from agent.slack.answers import LINE, answer, button, fits
from agent.slack.blocks import Message

VALID = 120.0
_HOSTS = 20
"""Hosts at most that are named in the question."""


class Asked(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is to be confirmed; array-like, as a button's value is short."""

    nonce: str
    until: float
    user: str
    verb: str
    words: tuple[str, ...]
    text: str
    second: bool = False
    """Somebody else than `user` must confirm it."""
    name: str = ""


class Confirm:
    """`secret` is known to every collector of this app, and to nobody else: the bot's token."""

    def __init__(self, secret: str, *, second: bool = False) -> None:
        self._key = hashlib.sha256(b"tocsin-confirm-v1\0" + secret.encode()).digest()
        self.second = second
        """Whether it takes a second person; what was asked for under this rule stays under it."""

    def token(self, user: str, verb: str, words: tuple[str, ...], text: str, now: float, *, name: str = "") -> str:
        """For a button's value; CommandError where the request is too long for one."""
        asked = Asked(secrets.token_hex(12), now + VALID, user, verb, words, text[:200], self.second, name)
        raw = msgspec.json.encode(asked)
        token = base64.urlsafe_b64encode(self._proof(raw) + raw).decode()
        if len(token) > 2000:
            raise CommandError("bad_arguments", "this is too long to be asked for in Slack")
        return token

    def read(self, token: str) -> Asked:
        """CommandError where we did not write it. Who may press it when is for `check` to say."""
        try:
            raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        proof, asked = raw[:32], raw[32:]
        if not hmac.compare_digest(proof, self._proof(asked)):
            raise CommandError("not_ours", "this button is not one of ours any more; ask again")
        found = msgspec.json.decode(asked, type=Asked)
        return msgspec.structs.replace(found, second=found.second or self.second)

    @staticmethod
    def check(asked: Asked, user: str, now: float, *, cancel: bool = False) -> None:
        """CommandError where it is too late, or not for `user` to say. Of grants nothing is known here."""
        if now > asked.until:
            raise CommandError("expired", f"this had to be confirmed within {VALID:g} s; ask again")
        if not asked.second and user != asked.user:
            raise CommandError("not_yours", "only who asked for it may confirm it")
        if asked.second and user == asked.user and not cancel:
            raise CommandError("second_person", "you asked for it, so somebody else who may do it too must confirm it")

    def _proof(self, asked: bytes) -> bytes:
        return hmac.new(self._key, asked, hashlib.sha256).digest()


def question(user: str, text: str, hosts: Sequence[str], token: str, *, second: bool) -> Message:
    """Are you sure? With the two buttons, of which any works once; with the name of who asks, where others see it.

    CommandError where `text` would be cut: nobody says yes to what they cannot read.
    """
    if not fits(text):
        raise CommandError("bad_arguments", "this is too long to be asked for in Slack")
    lines = [text, f"on {_where(hosts)}", f"Within {VALID:g} s, and once."]
    buttons = [button("Do it", CONFIRM, token, "danger"), button("Leave it", CANCEL, token)]
    if not second:
        return answer("Are you sure?", lines, buttons=buttons)
    made = answer("Who confirms this?", lines, buttons=buttons)
    told = f"<@{user}> asks for it; somebody else who may do it too must confirm it."  # an id: nothing to escape
    names = {"type": "context", "elements": [{"type": "mrkdwn", "text": told}]}
    return Message(made.text, [*made.blocks[:-1], names, made.blocks[-1]])


def _where(hosts: Sequence[str]) -> str:
    """As many by name as one line holds; the others are counted."""
    named = list(hosts[:_HOSTS])
    while len(", ".join(named)) > LINE - 50:
        named.pop()
    rest = len(hosts) - len(named)
    return ", ".join(named) + (f" and {rest} more" if rest else "")
