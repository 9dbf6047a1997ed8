r"""Ed25519 over `b"tocsin-command-v1\0" + payload`; the only importer of PyNaCl, at the first command.

A key is written `ID:BASE64`, the id for people and logs ("ops-1"), the 32 bytes of the public key after it.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.commands.payload import Command, Signed, encode, encode_signed
from agent.config.keys import PublicKey
from agent.errors import CommandError

CONTEXT = b"tocsin-command-v1\0"
"""So that a signature for a command is never one for anything else."""


PRIVATE = "tocsin-private-key"
"""Begins the line of a private key, so that nobody takes it for a public one."""


class Signer:
    """Holds a private key (a seed of 32 bytes) under its id."""

    def __init__(self, key_id: str, seed: bytes) -> None:
        from nacl.signing import SigningKey  # noqa: PLC0415 - only who signs or verifies has it in memory

        self.key_id = key_id
        self._key = SigningKey(seed)

    @classmethod
    def parse(cls, text: str) -> Signer:
        """Of a private key file's one line; ValueError where it is none. Never shows what it read."""
        mark, _, rest = text.strip().partition(" ")
        try:
            key = PublicKey.parse(rest if mark == PRIVATE else "")
        except ValueError:
            raise ValueError("expected a private key as `tocsin keys new` writes it") from None
        return cls(key.id, key.raw)

    @classmethod
    def new(cls, key_id: str) -> tuple[Signer, str]:
        """A fresh key, and the line for its private file."""
        import secrets  # noqa: PLC0415

        seed = secrets.token_bytes(32)
        return cls(key_id, seed), f"{PRIVATE} {PublicKey(key_id, seed)}\n"

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.key_id, bytes(self._key.verify_key))

    def sign(self, command: Command) -> bytes:
        """The command as it travels."""
        payload = encode(command)
        return encode_signed(Signed(payload, self.key_id, self._key.sign(CONTEXT + payload).signature))


class Keyring:
    """Whom this host believes: at most two keys, so that one can follow the other, and those it no longer believes."""

    def __init__(self, trusted: Iterable[PublicKey], revoked: Iterable[PublicKey] = ()) -> None:
        gone = tuple(revoked)
        self._revoked_ids = {key.id for key in gone}
        self._revoked = {key.raw for key in gone}
        self._trusted = {key.id: key for key in trusted}

    def verify(self, signed: Signed) -> None:
        """CommandError with "revoked_key", "unknown_key" or "bad_signature"; returns where it is genuine."""
        key = self._trusted.get(signed.key)
        if signed.key in self._revoked_ids or (key is not None and key.raw in self._revoked):
            raise CommandError("revoked_key", f"key {signed.key} was revoked here")
        if key is None:
            raise CommandError("unknown_key", f"key {signed.key} is not trusted here")
        from nacl.exceptions import BadSignatureError  # noqa: PLC0415 - see above
        from nacl.signing import VerifyKey  # noqa: PLC0415

        try:
            VerifyKey(key.raw).verify(CONTEXT + signed.payload, signed.signature)
        except (BadSignatureError, ValueError, RuntimeError) as error:
            raise CommandError("bad_signature", f"it is not signed by {signed.key}") from error
