"""What can go wrong with a call to Slack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FaultKind = Literal["rate_limited", "html", "empty", "reset", "silence", "unanswered", "error", "slow"]


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one call. `number`: seconds or HTTP status; `code`: the API's word."""

    kind: FaultKind
    number: float = 0
    code: str = ""
    method: str = ""


def rate_limited(seconds: int, method: str = "") -> Fault:
    """429 with Retry-After; until it is over every call of the method gets another, and is a violation."""
    return Fault("rate_limited", seconds, method=method)


def html(status: int = 500, method: str = "") -> Fault:
    return Fault("html", status, method=method)


def empty(method: str = "") -> Fault:
    """200 and nothing."""
    return Fault("empty", method=method)


def reset(method: str = "") -> Fault:
    """The connection is torn down; nothing was done."""
    return Fault("reset", method=method)


def silence(method: str = "") -> Fault:
    """Accepted, nothing done, and never an answer."""
    return Fault("silence", method=method)


def unanswered(method: str = "") -> Fault:
    """Accepted and done, and never an answer."""
    return Fault("unanswered", method=method)


def refused(code: str, method: str = "") -> Fault:
    return Fault("error", code=code, method=method)


def slow(seconds: float, method: str = "") -> Fault:
    """Done and answered, but late."""
    return Fault("slow", seconds, method=method)
