"""Silences: what somebody wants to hear nothing of for a while. The incidents go on, and say that they are silenced."""

from __future__ import annotations

import time

import msgspec

from agent.config.match import Match

LONGEST = 30 * 86400.0
"""Seconds; who wants longer removes the threshold."""
MOST = 500


class Silence(msgspec.Struct, frozen=True):
    """`match` as it was written (see `Match`); times are unix seconds."""

    id: str
    match: str
    created_at: float
    until: float
    author: str
    reason: str

    @property
    def words(self) -> str:
        until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.until))
        return f"silenced by {self.author} until {until}: {self.reason}"


def check(match: str, seconds: float, author: str, reason: str) -> Match:
    """The match, or ValueError for what is not to be silenced so."""
    if not 0 < seconds <= LONGEST:
        raise ValueError(f"expected a duration of at most {LONGEST / 86400:g} days")
    if not author.strip() or not reason.strip():
        raise ValueError("a silence has an author and a reason")
    return Match.parse(match)
