"""The manifest of the Slack app: everything that its page would else be clicked together on. Pure."""

from __future__ import annotations

import json
from typing import Any, Literal

BOT_SCOPES = {
    "chat:write": "post and edit messages",
    "chat:write.public": "post into public channels without being invited",
    "channels:history": "find a message again whose posting was not answered",
    "groups:history": "find it again in a private channel",
    "metadata.message:read": "find it by its mark, not by its words alone",
    "channels:read": "find a channel by its name",
    "groups:read": "find a private channel by its name",
    "files:write": "send charts as pictures",
    "commands": "the slash command",
    "app_mentions:read": "be spoken to in threads",
    "usergroups:read": "grant commands to a user group",
    "users:read": "know that a user is there",
}
"""Each with what it is for."""
NAME_LENGTH, DESCRIPTION_LENGTH, HINT_LENGTH = 35, 140, 1000
HINT = "status [host] | top host | graph host metric [1h] | incidents | ack id | silence match 2h reason | help"


def manifest(mode: Literal["socket", "http"], url: str = "", name: str = "Tocsin") -> dict[str, Any]:
    """`url`: where Slack reaches the collector (https://tocsin.example.org); ValueError where HTTP mode has none."""
    if mode == "http" and not url.startswith("https://"):
        raise ValueError("HTTP mode needs --url, the https:// address under which Slack reaches the collector")
    if not 0 < len(name) <= NAME_LENGTH:
        raise ValueError(f"a name of 1 to {NAME_LENGTH} characters")
    base = url.rstrip("/")
    socket = mode == "socket"
    command = {
        "command": "/tocsin",
        "description": "Ask the hosts, and answer their alarms",
        "usage_hint": HINT,
        "should_escape": False,
    }
    interactivity: dict[str, Any] = {"is_enabled": True}
    events: dict[str, Any] = {"bot_events": ["app_mention"]}
    if not socket:  # with Socket Mode a command may have no address
        command["url"] = f"{base}/slack/commands"
        interactivity["request_url"] = f"{base}/slack/interactive"
        events["request_url"] = f"{base}/slack/events"
    return {
        "display_information": {
            "name": name,
            "description": "Alarms of your hosts, and what you can do about them",
            "background_color": "#5a1a1a",
        },
        "features": {
            "bot_user": {"display_name": name, "always_online": True},
            "slash_commands": [command],
        },
        "oauth_config": {"scopes": {"bot": list(BOT_SCOPES)}},
        "settings": {
            "event_subscriptions": events,
            "interactivity": interactivity,
            "org_deploy_enabled": False,
            "socket_mode_enabled": socket,
            "token_rotation_enabled": False,
        },
    }


def as_yaml(value: Any, indent: int = 0) -> str:
    """Of tables, lists and JSON's plain values, each of which is YAML as JSON writes it."""
    pad = "  " * indent
    if isinstance(value, dict):
        lines = []
        for key, item in value.items():
            nested = isinstance(item, dict | list) and item
            lines.append(f"{pad}{key}:" + (f"\n{as_yaml(item, indent + 1)}" if nested else f" {json.dumps(item)}"))
        return "\n".join(lines)
    if isinstance(value, list):
        return "\n".join(f"{pad}- {as_yaml(item, indent + 1).lstrip()}" for item in value)
    return f"{pad}{json.dumps(value)}"
