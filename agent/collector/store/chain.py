"""The audit's chain of hashes, pure: each row's hash covers its own words and the hash of the row before.

A row that is changed, taken out or put between breaks the chain there. Rows cut off at the end do not; so the
newest hash is given out with every answer, for who wants to keep it elsewhere.
"""

from __future__ import annotations

import hashlib

import msgspec

FIRST = "0" * 64
"""What the first row of a chain follows."""

MAX_TEXT = 500
MAX_DETAIL = 2000


class AuditEntry(msgspec.Struct, frozen=True):
    """One fact: `actor` asked for `verb` on `hosts`, or how that came out. `time` in unix seconds.

    Entries with the same `request` belong together: "accepted", "refused", "confirm", "confirmed", and then "done",
    "failed" or "unanswered". `source`: slash, mention, button or api; `text` what was asked, word for word.
    """

    time: float
    request: str
    actor: str
    source: str
    verb: str
    text: str
    hosts: tuple[str, ...]
    outcome: str
    detail: str = ""


class AuditRow(msgspec.Struct, frozen=True):
    """An entry and its place in the chain of one collector."""

    chain: str
    seq: int
    hash: str
    entry: AuditEntry


class ChainState(msgspec.Struct, frozen=True):
    """What verifying one chain found: `head` is its newest hash; `broken` the first row that is wrong, 0 if none."""

    chain: str
    rows: int
    head: str
    broken: int = 0
    why: str = ""


def written(entry: AuditEntry) -> str:
    """The one spelling that is hashed and stored: no control characters, no half of a character, cut to length."""
    tidy = {
        name: plain(getattr(entry, name), length)
        for name, length in (("actor", 120), ("source", 16), ("verb", 32), ("outcome", 16), ("request", 64))
    }
    whole = msgspec.structs.replace(
        entry, text=plain(entry.text, MAX_TEXT), detail=plain(entry.detail, MAX_DETAIL), **tidy
    )
    return msgspec.json.encode(whole).decode()


def read(text: str) -> AuditEntry:
    """ValueError (of msgspec) where it is none."""
    return msgspec.json.decode(text, type=AuditEntry)


def linked(before: str, chain: str, seq: int, text: str) -> str:
    """The hash of a row, as 64 hex digits."""
    return hashlib.sha256(f"{before}\n{chain}\n{seq}\n{text}".encode()).hexdigest()


def plain(text: str, longest: int) -> str:
    tidy = "".join(character if character.isprintable() else " " for character in text[: longest + 1])
    tidy = tidy.encode("utf-8", "replace").decode()
    return tidy if len(tidy) <= longest else tidy[: longest - 1] + "…"
