"""Public keys as people write them, and where a host's list of them is."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_LENGTH = 32


class PublicKey:
    """An Ed25519 key, written `ID:BASE64`. `raw` are its 32 bytes."""

    expected = 'a key as `tocsin keys new` prints it, "ID:BASE64"'

    def __init__(self, key_id: str, raw: bytes) -> None:
        self.id = key_id
        self.raw = raw

    @classmethod
    def parse(cls, text: object) -> PublicKey:
        """ValueError where it is none."""
        if isinstance(text, str):
            key_id, _, encoded = text.partition(":")
            try:
                raw = base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                raw = b""
            if _ID.fullmatch(key_id) and len(raw) == _LENGTH:
                return cls(key_id, raw)
        raise ValueError(f"expected {cls.expected}")

    def __str__(self) -> str:
        return f"{self.id}:{base64.b64encode(self.raw).decode()}"

    def __repr__(self) -> str:
        return f"PublicKey({self})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and (self.id, self.raw) == (other.id, other.raw)

    def __hash__(self) -> int:
        return hash((self.id, self.raw))


class KeySource:
    """`trusted_keys`: the keys themselves, or `{ file = "/etc/tocsin/keys" }`, which `tocsin keys` edits.

    Neither: no command is taken from anybody.
    """

    expected = 'a list of at most two keys "ID:BASE64", or { file = "/path" }'

    def __init__(self, keys: tuple[PublicKey, ...] = (), file: Path | None = None) -> None:
        self.keys = keys
        self.file = file

    @classmethod
    def parse(cls, value: object) -> KeySource:
        if isinstance(value, dict) and set(value) == {"file"} and isinstance(value["file"], str) and value["file"]:
            return cls(file=Path(value["file"]))
        if isinstance(value, list):
            keys = tuple(PublicKey.parse(text) for text in value)
            if len(keys) <= 2 and len({key.id for key in keys}) == len(keys):
                return cls(keys)
        raise ValueError(f"expected {cls.expected}")

    def __bool__(self) -> bool:
        return bool(self.keys) or self.file is not None

    def __repr__(self) -> str:
        return f"KeySource({self.file or self.keys})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeySource) and (self.keys, self.file) == (other.keys, other.file)

    def __hash__(self) -> int:
        return hash((self.keys, self.file))
