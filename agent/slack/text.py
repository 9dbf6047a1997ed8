"""Text for Slack, pure: cut, without control characters, escaped. Everything that a host said goes through here."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable

_ODD = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_CONTROL = re.compile(f"[{_ODD}]+")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_URL = re.compile(rf"https?://[^\s|<>\"`{_ODD}]{{1,1000}}")
_LAST_DAY = 99_999_999_999.0
_FENCE = 8
"""Characters of a code block that are not its lines."""


def plain(text: str, limit: int) -> str:
    """Without control and direction characters, in one line, at most `limit` characters long."""
    text = _CONTROL.sub(" ", text).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def escape(text: str, limit: int) -> str:
    """For Slack: at most `limit` characters once escaped; no entity is cut, and no code block begun."""
    text = plain(text, limit).replace("```", "'''")
    escaped = "".join(_ENTITIES.get(letter, letter) for letter in text)
    if len(escaped) <= limit:
        return escaped
    kept, size = [], 1  # for the ellipsis
    for letter in text:
        shown = _ENTITIES.get(letter, letter)
        size += len(shown)
        if size > limit:
            break
        kept.append(shown)
    return "".join(kept) + "…"


def code_block(lines: Iterable[str], limit: int, width: int = 120) -> str:
    """Lines as they are in a code block of at most `limit` characters; "" where there are none.

    What does not fit is counted in a last line. A backtick could end the block, so it becomes an apostrophe.
    """
    shown = [escape(line.replace("`", "'"), width) for line in lines]
    room, kept = limit - _FENCE - len("… and 999 more\n"), list[str]()
    for line in shown:
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    if not kept:
        return ""
    if left := len(shown) - len(kept):
        kept.append(f"… and {left} more")
    return "```\n" + "\n".join(kept) + "\n```"


def link(url: str, text: str) -> str:
    """`<url|text>`; "" where the address is no http one, or too long. `text` is ours."""
    escaped = url.replace("&", "&amp;")
    return f"<{escaped}|{text}>" if is_address(url) and len(escaped) <= 1000 else ""


def is_address(url: str) -> bool:
    """Nothing but http and https is ever linked."""
    return _URL.fullmatch(url) is not None


def moment(seconds: float) -> str:
    """A time that Slack shows in the reader's own zone, and anything else in UTC."""
    return f"<!date^{int(sane(seconds))}^{{date_short_pretty}} {{time_secs}}|{utc(seconds)}>"


def utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(sane(seconds)))


def mention(text: str) -> str:
    """From our own configuration: "@here", "@channel", "U…" and "S…" ids, or Slack's own writing `<…>`."""
    if not text or (text.startswith("<") and text.endswith(">")):
        return text
    name = text.removeprefix("@")
    if name in ("here", "channel", "everyone"):
        return f"<!{name}>"
    if re.fullmatch(r"[UW][A-Z0-9]{5,}", name):
        return f"<@{name}>"
    if re.fullmatch(r"S[A-Z0-9]{5,}", name):
        return f"<!subteam^{name}>"
    return escape(text, 80)


def sane(seconds: float) -> float:
    """A host may send any number for a time; what no calendar has is shown as its nearest end."""
    return min(max(seconds, 0.0), _LAST_DAY) if math.isfinite(seconds) else 0.0
