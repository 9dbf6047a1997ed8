"""A person of Slack's, as commands, audits and incidents name one: "slack:U0123 (ada)". Pure.

The name is what that person may choose: it is for readers, and rights go by the id.
"""

from __future__ import annotations

import re

_NAME = r"[a-zA-Z0-9_.-]{1,30}"
_ACTOR = re.compile(rf"slack:[UW][A-Z0-9]+ \(({_NAME})\)")


def actor(user: str, name: object = "") -> str:
    """Without the name where there is none, or one that could be taken for more than a name."""
    known = isinstance(name, str) and re.fullmatch(_NAME, name)
    return f"slack:{user} ({name})" if known else f"slack:{user}"


def called(actor: str) -> str:
    """The name alone; whoever has none, or is no person of Slack's, in full."""
    found = _ACTOR.fullmatch(actor)
    return found[1] if found else actor
