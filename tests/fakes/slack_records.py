"""What the stand-in keeps: calls, messages and channels, and how messages are handed out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.fakes.slack_arguments import truth
from tests.fakes.slack_rules import RefusalError, pings, texts


@dataclass
class Call:
    """One request. `at` is monotonic; `outcome` is "ok", the API's error, or the fault's kind."""

    method: str
    at: float
    arguments: dict[str, Any]
    outcome: str = ""


@dataclass
class Said:
    """One message as it stands. `shown` False: Slack answered 200 and dropped it, for it came too fast."""

    channel: str
    ts: str
    text: str
    blocks: list[dict[str, Any]]
    attachments: list[dict[str, Any]]
    metadata: dict[str, Any] | None
    thread_ts: str | None = None
    broadcast: bool = False
    shown: bool = True
    edits: int = 0
    reactions: list[str] = field(default_factory=list)
    history: list[str] = field(default_factory=list)

    @property
    def everything(self) -> str:
        """All text of the message, fallback first."""
        return "\n".join([self.text, *texts(self.blocks), *texts(self.attachments)])

    @property
    def colour(self) -> str:
        return str(self.attachments[0].get("color", "")) if self.attachments else ""

    @property
    def pings(self) -> list[str]:
        return pings(self.everything)


@dataclass
class Channel:
    id: str
    name: str
    archived: bool = False
    member: bool = True
    restricted: bool = False
    said: list[Said] = field(default_factory=list)
    last_post: float = float("-inf")


def public(said: Said, *, metadata: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"type": "message", "ts": said.ts, "text": said.text, "blocks": said.blocks}
    if said.attachments:
        shown["attachments"] = said.attachments
    if said.thread_ts is not None:
        shown["thread_ts"] = said.thread_ts
    if metadata and said.metadata is not None:
        shown["metadata"] = said.metadata
    return shown


def between(said: Said, arguments: dict[str, Any]) -> bool:
    """Whether it lies in the span that was asked for."""
    at, oldest, latest = float(said.ts), float(arguments.get("oldest") or 0), float(arguments.get("latest") or "inf")
    return oldest < at < latest or (truth(arguments.get("inclusive")) and at in (oldest, latest))


def page(found: list[Said], arguments: dict[str, Any], longest: int) -> dict[str, Any]:
    """`longest`: messages on a page at most, whatever is asked for."""
    limit = int(arguments.get("limit") or 100)
    if not 1 <= limit <= 999:
        raise RefusalError("invalid_limit")
    limit = min(limit, longest)
    start = int(arguments.get("cursor") or 0)
    metadata = truth(arguments.get("include_all_metadata"))
    more = start + limit < len(found)
    return {
        "messages": [public(said, metadata=metadata) for said in found[start : start + limit]],
        "has_more": more,
        "response_metadata": {"next_cursor": str(start + limit) if more else ""},
    }
