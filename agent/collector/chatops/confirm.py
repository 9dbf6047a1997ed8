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

import msgspec

from agent.errors import CommandError

VALID = 120.0


class Asked(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is to be confirmed; array-like, as a button's value is short."""

    nonce: str
    until: float
    user: str
    verb: str
    words: tuple[str, ...]
    text: str


class Confirm:
    """`secret` is known to every collector of this app, and to nobody else: the bot's token."""

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(b"tocsin-confirm-v1\0" + secret.encode()).digest()

    def token(self, user: str, verb: str, words: tuple[str, ...], text: str, now: float) -> str:
        """For a button's value; CommandError where the request is too long for one."""
        asked = msgspec.json.encode(Asked(secrets.token_hex(12), now + VALID, user, verb, words, text[:200]))
        token = base64.urlsafe_b64encode(self._proof(asked) + asked).decode()
        if len(token) > 2000:
            raise CommandError("bad_arguments", "this is too long to be asked for in Slack")
        return token

    def read(self, token: str, user: str, now: float) -> Asked:
        """CommandError where we did not write it, it is too late, or somebody else asked."""
        try:
            raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        proof, asked = raw[:32], raw[32:]
        if not hmac.compare_digest(proof, self._proof(asked)):
            raise CommandError("not_ours", "this button is not one of ours any more; ask again")
        found = msgspec.json.decode(asked, type=Asked)
        if now > found.until:
            raise CommandError("expired", f"this had to be confirmed within {VALID:g} s; ask again")
        if user != found.user:
            raise CommandError("not_yours", "only who asked for it may confirm it")
        return found

    def _proof(self, asked: bytes) -> bytes:
        return hmac.new(self._key, asked, hashlib.sha256).digest()
