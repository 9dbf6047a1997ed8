"""What Slack sends to an app: slash commands, pressed buttons and mentions, field for field."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import secrets
import time
from typing import Any
from urllib.parse import urlencode

TEAM, APP, BOT = "T00000001", "A00000001", "UTOCSIN01"
_numbers = itertools.count(1)


def trigger_id() -> str:
    return f"{next(_numbers)}.{secrets.randbits(40)}.{secrets.token_hex(16)}"


def slash(text: str, *, user: str, channel: str, response_url: str, command: str = "/tocsin") -> dict[str, str]:
    """`user_name` is what a person may choose, and is the same for everybody here."""
    return {
        "token": "deprecated",
        "team_id": TEAM,
        "team_domain": "fake",
        "channel_id": channel,
        "channel_name": "somewhere",
        "user_id": user,
        "user_name": "admin",
        "command": command,
        "text": text,
        "api_app_id": APP,
        "is_enterprise_install": "false",
        "response_url": response_url,
        "trigger_id": trigger_id(),
    }


def press(
    action_id: str, value: str, *, user: str, channel: str, message: dict[str, Any], response_url: str
) -> dict[str, Any]:
    """A button of `message` (as it stands in the channel) is pressed."""
    at = f"{time.time():.6f}"
    container = {
        "type": "message",
        "message_ts": message["ts"],
        "channel_id": channel,
        "is_ephemeral": bool(message.get("is_ephemeral")),
    }
    if message.get("thread_ts"):
        container["thread_ts"] = message["thread_ts"]
    return {
        "type": "block_actions",
        "user": {"id": user, "username": "admin", "name": "admin", "team_id": TEAM},
        "api_app_id": APP,
        "token": "deprecated",
        "container": container,
        "trigger_id": trigger_id(),
        "team": {"id": TEAM, "domain": "fake"},
        "channel": {"id": channel, "name": "somewhere"},
        "message": message,
        "response_url": response_url,
        "actions": [
            {
                "action_id": action_id,
                "block_id": "tocsin_actions",
                "type": "button",
                "text": {"type": "plain_text", "text": "x"},
                "value": value,
                "action_ts": at,
            }
        ],
    }


def mention(text: str, *, user: str, channel: str, thread_ts: str = "") -> dict[str, Any]:
    """The bot is spoken to: `text` as a person types it after its name."""
    ts = f"{time.time():.6f}"
    event = {
        "type": "app_mention",
        "user": user,
        "text": f"<@{BOT}> {text}",
        "ts": ts,
        "channel": channel,
        "event_ts": ts,
        "client_msg_id": secrets.token_hex(16),
    }
    if thread_ts:
        event["thread_ts"] = thread_ts
    return {
        "token": "deprecated",
        "team_id": TEAM,
        "api_app_id": APP,
        "event": event,
        "type": "event_callback",
        "event_id": f"Ev{secrets.token_hex(5).upper()}",
        "event_time": int(time.time()),
        "authorizations": [{"team_id": TEAM, "user_id": BOT, "is_bot": True}],
    }


def form(payload: dict[str, Any]) -> bytes:
    """As HTTP mode sends a slash command, and a button press (in the field `payload`)."""
    if payload.get("type") == "block_actions":
        payload = {"payload": json.dumps(payload)}
    return urlencode(payload).encode()


def signed(secret: str, body: bytes, at: float | None = None) -> dict[str, str]:
    """The headers that prove who sends `body`, as of `at` (now, where it is not given)."""
    timestamp = str(int(time.time() if at is None else at))
    digest = hmac.new(secret.encode(), b"v0:%b:%b" % (timestamp.encode(), body), hashlib.sha256).hexdigest()
    return {"X-Slack-Request-Timestamp": timestamp, "X-Slack-Signature": f"v0={digest}"}
