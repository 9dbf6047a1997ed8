"""A slash command, a mention and a pressed button become one typed request. Pure.

Nothing that Slack sends is trusted to have the form it should: what has not is None, and nobody is answered.
"""

from __future__ import annotations

import hashlib
import html
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeGuard

import msgspec

from agent.slack.person import actor

Source = Literal["slash", "mention", "button"]
MAX_TEXT = 2000

_USER = re.compile(r"[UW][A-Z0-9]{1,30}")
_CHANNEL = re.compile(r"[CGD][A-Z0-9]{1,30}")
_TS = re.compile(r"[0-9]{1,12}\.[0-9]{1,9}")
_HOST_AND_INCIDENT = re.compile(r"([a-z0-9][a-z0-9.-]{0,62}) (inc_[0-9a-z]{1,40})")
_LABELLED = re.compile(r"<[^<>|]+\|([^<>]*)>")
_BARE = re.compile(r"<(?:mailto:|https?://)?([^<>|]+)>")
_QUOTES = str.maketrans({"\u201c": '"', "\u201d": '"', "\u201e": '"', "\u2018": "'", "\u2019": "'"})
"""What telephones make of quotes."""

CONFIRM, CANCEL = "tocsin_confirm", "tocsin_cancel"
_SILENCES = {"tocsin_silence_1h": "1h", "tocsin_silence_4h": "4h", "tocsin_silence_1d": "1d"}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants what, and where the answer goes.

    `name` is for readers, and rights go by `user`; mentions come without.
    `key` names this very payload, however often Slack sends it. `host` and `incident` are those of the message whose
    button was pressed, `message` is its ts; `token` is what a confirm button carries.
    """

    verb: str
    words: tuple[str, ...] = ()
    text: str = ""
    user: str
    name: str = ""
    channel: str
    thread: str = ""
    source: Source
    key: str
    response_url: str = ""
    host: str = ""
    incident: str = ""
    token: str = ""
    message: str = ""

    @property
    def id(self) -> str:
        """The same for every copy of the payload, in every collector."""
        return "req_" + hashlib.sha256(self.key.encode("utf-8", "replace")).hexdigest()[:24]

    @property
    def actor(self) -> str:
        return actor(self.user, self.name)


def of_slash(payload: Mapping[str, Any]) -> Request | None:
    user, channel, text = payload.get("user_id"), payload.get("channel_id"), payload.get("text") or ""
    key = payload.get("trigger_id")
    if not _is(user, _USER) or not _is(channel, _CHANNEL) or not isinstance(text, str) or not _is_key(key):
        return None
    verb, words = _words(text)
    return Request(
        verb=verb,
        words=words,
        text=text[:MAX_TEXT],
        user=user,
        name=_name(payload.get("user_name")),
        channel=channel,
        source="slash",
        key=f"slash {key}",
        response_url=_url(payload),
    )


def of_event(payload: Mapping[str, Any]) -> Request | None:
    """A mention of the bot, by a person; answered in its thread."""
    event = payload.get("event")
    if not isinstance(event, dict) or event.get("type") != "app_mention" or event.get("bot_id"):
        return None
    user, channel, ts, text = (event.get(name) for name in ("user", "channel", "ts", "text"))
    if not _is(user, _USER) or not _is(channel, _CHANNEL) or not _is(ts, _TS) or not isinstance(text, str):
        return None
    thread = event.get("thread_ts")
    asked = re.sub(r"<@[UW][A-Z0-9]+(?:\|[^<>]*)?>", " ", text, count=1).strip()
    verb, words = _words(asked)
    return Request(
        verb=verb,
        words=words,
        text=asked[:MAX_TEXT],
        user=user,
        channel=channel,
        thread=thread if _is(thread, _TS) else ts,
        source="mention",
        key=f"mention {channel} {ts}",
    )


def of_press(payload: Mapping[str, Any]) -> Request | None:
    """A button of ours; None for every other kind of interaction."""
    actions, container = payload.get("actions"), payload.get("container")
    action = actions[0] if isinstance(actions, list) and actions else None
    if payload.get("type") != "block_actions" or not isinstance(action, dict) or not isinstance(container, dict):
        return None
    user, channel = _of(payload.get("user"), "id"), _of(payload.get("channel"), "id")
    name, value, at = (action.get(field) for field in ("action_id", "value", "action_ts"))
    if not _is(user, _USER) or not _is(channel, _CHANNEL) or not isinstance(value, str) or not _is_key(at):
        return None
    meaning = _meaning(name, value)
    if meaning is None:
        return None
    thread, message = container.get("thread_ts"), container.get("message_ts")
    return Request(
        user=user,
        name=_name(_of(payload.get("user"), "username")),
        channel=channel,
        thread=thread if _is(thread, _TS) else "",
        message=message if _is(message, _TS) else "",
        source="button",
        key=f"button {at} {user} {name} {value}",
        response_url=_url(payload),
        **meaning,
    )


def _meaning(name: Any, value: str) -> dict[str, Any] | None:
    if name in (CONFIRM, CANCEL):
        return {"verb": "confirm" if name == CONFIRM else "cancel", "token": value}
    pair = _HOST_AND_INCIDENT.fullmatch(value)
    if pair is None:
        return None
    host, incident = pair.groups()
    where = {"host": host, "incident": incident}
    if name == "tocsin_ack":
        return {"verb": "ack", "words": (incident,), "text": f"ack {incident}", **where}
    if name == "tocsin_probe":
        return {"verb": "probe", "text": f"probe for {incident}", **where}
    if name in _SILENCES:
        words = (incident, _SILENCES[name], "pressed", "in", "Slack")
        return {"verb": "silence", "words": words, "text": " ".join(("silence", *words)), **where}
    return None


def _words(text: str) -> tuple[str, tuple[str, ...]]:
    """Verb and words: quotes hold words together, Slack's links and entities become what was typed."""
    plain = html.unescape(_BARE.sub(r"\1", _LABELLED.sub(r"\1", text[:MAX_TEXT]))).translate(_QUOTES)
    try:
        words: Sequence[str] = shlex.split(plain)
    except ValueError:  # a quote without its other half: an apostrophe in a reason
        words = plain.split()
    return (words[0].lower(), tuple(words[1:])) if words else ("help", ())


def _is(value: Any, pattern: re.Pattern[str]) -> TypeGuard[str]:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_key(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= 200


def _of(value: Any, field: str) -> Any:
    return value.get(field) if isinstance(value, dict) else None


def _name(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= 200 else ""


def _url(payload: Mapping[str, Any]) -> str:
    url = payload.get("response_url")
    return url if isinstance(url, str) and len(url) < 1000 else ""
