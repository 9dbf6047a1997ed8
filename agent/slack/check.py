"""Is everything there that Slack needs: tokens, scopes, channels? Each finding says what to do about it.

With the SDK's sync client, so that a host can look as well as a collector.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agent.config.schema import SlackConfig
from agent.config.secret import Secret
from agent.slack.manifest import BOT_SCOPES

NEEDED = ("chat:write", "channels:history")
"""Without these incidents are not told, or told twice."""
FOR_COMMANDS = ("commands", "app_mentions:read")
APPS = "https://api.slack.com/apps"
_quiet = logging.getLogger("agent.slack.sdk")
_quiet.setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Finding:
    """`state`: "ok", "note" (works, but less), or "fault"; `hint` is what to do."""

    state: str
    text: str
    hint: str = ""


class Refused(Exception):  # noqa: N818 - it is an answer, not an error of ours
    """Slack's word for why not."""


def findings(config: SlackConfig, commands: bool) -> Iterator[Finding]:
    """All of them, in the order in which one would put things right. `commands`: whether grants are configured."""
    if config.bot_token is None:
        yield Finding("fault", "no bot token", 'put it into agent.toml: [slack] bot_token = { file = "/path" }')
        return
    bot = _Caller(config, config.bot_token)
    try:
        who, headers = bot("auth.test")
    except Refused as refusal:
        yield Finding("fault", f"bot token: {refusal}", _token_hint(str(refusal)))
        return
    yield Finding("ok", f"bot token: {who.get('user')} in {who.get('team')}")
    scopes = frozenset(filter(None, (part.strip() for part in headers.get("x-oauth-scopes", "").split(","))))
    yield from _scopes(scopes, commands)
    yield from _mode(config, commands)
    yield from _channels(config, bot, scopes)


def _scopes(scopes: frozenset[str], commands: bool) -> Iterator[Finding]:
    hint = f"{APPS} -> the app -> OAuth & Permissions -> Scopes; then Reinstall to Workspace"
    needed = (*NEEDED, *FOR_COMMANDS) if commands else NEEDED
    missing = [scope for scope in BOT_SCOPES if scope not in scopes]
    for scope in missing:
        state = "fault" if scope in needed else "note"
        yield Finding(state, f"scope {scope} is missing: {BOT_SCOPES[scope]}", hint)
    if not missing:
        yield Finding("ok", f"scopes: all {len(BOT_SCOPES)}")


def _mode(config: SlackConfig, commands: bool) -> Iterator[Finding]:
    """How Slack reaches the collector."""
    if config.mode == "http":
        yield Finding("ok", "HTTP mode: Slack sends to /slack/commands, /slack/interactive and /slack/events")
        return
    if config.app_token is None:
        state = "fault" if commands else "note"
        hint = f"{APPS} -> the app -> Basic Information -> App-Level Tokens, with the scope connections:write"
        yield Finding(state, "no app token: nobody can ask for anything from Slack", hint)
        return
    try:
        _Caller(config, config.app_token)("apps.connections.open")
    except Refused as refusal:
        hint = f"{APPS} -> the app -> Socket Mode -> Enable; the token needs connections:write and starts with xapp-"
        yield Finding("fault", f"app token: {refusal}", hint)
    else:
        yield Finding("ok", "app token: a connection can be opened")


def _channels(config: SlackConfig, bot: _Caller, scopes: frozenset[str]) -> Iterator[Finding]:
    names = dict.fromkeys([config.channel, *(route.channel for route in config.routes if route.channel)])
    try:
        known = _listed(bot) if scopes & {"channels:read", "groups:read"} else {}
    except Refused as refusal:
        yield Finding("note", f"channels cannot be listed: {refusal}")
        known = {}
    for name in names:
        yield _channel(name, bot, known, scopes)


def _channel(name: str, bot: _Caller, known: dict[str, str], scopes: frozenset[str]) -> Finding:
    number = known.get(name.removeprefix("#"), name if name[:1] in "CG" and name.isalnum() and name.isupper() else "")
    if not number:
        if not known:
            return Finding("note", f"channel {name}: not looked at without channels:read; its id would do")
        return Finding("fault", f"channel {name}: not found", "create it; a private one: /invite the bot there")
    try:
        channel = bot("conversations.info", channel=number)[0]["channel"]
    except Refused as refusal:
        state = "note" if str(refusal) == "missing_scope" else "fault"
        hint = "a private channel: /invite the bot there" if str(refusal) == "channel_not_found" else ""
        return Finding(state, f"channel {name}: {refusal}", hint)
    return _membership(f"channel {name}: {number}", channel, scopes)


def _membership(what: str, channel: dict[str, Any], scopes: frozenset[str]) -> Finding:
    if channel.get("is_archived"):
        return Finding("fault", f"{what}, is archived", "un-archive it, or name another in agent.toml")
    if channel.get("is_member"):
        return Finding("ok", f"{what}, the bot is a member")
    if "chat:write.public" in scopes:
        hint = "/invite the bot there, so that it can find a message again whose posting was not answered"
        return Finding("note", f"{what}, can be posted to; the bot is no member", hint)
    return Finding("fault", f"{what}, the bot is no member", "there: /invite the bot")


def _listed(bot: _Caller) -> dict[str, str]:
    """Names to ids."""
    found: dict[str, str] = {}
    cursor = ""
    for _ in range(20):
        page, _headers = bot(
            "conversations.list", exclude_archived="false", limit="200", types="public_channel,private_channel",
            **({"cursor": cursor} if cursor else {}),
        )  # fmt: skip
        found.update({str(channel["name"]): str(channel["id"]) for channel in page.get("channels", [])})
        cursor = (page.get("response_metadata") or {}).get("next_cursor") or ""
        if not cursor:
            break
    return found


class _Caller:
    """Calls with one token; Refused with Slack's word, or with what kept us from asking."""

    def __init__(self, config: SlackConfig, token: Secret) -> None:
        self._config = config
        self._token = token

    def __call__(self, method: str, **arguments: str) -> tuple[dict[str, Any], dict[str, str]]:
        from http.client import HTTPException  # noqa: PLC0415 - with the SDK, when it is needed

        from slack_sdk import WebClient  # noqa: PLC0415 - see above
        from slack_sdk.errors import SlackApiError, SlackClientError  # noqa: PLC0415 - see above

        base, timeout = self._config.base_url.rstrip("/") + "/", max(1, round(self._config.timeout))
        try:
            client = WebClient(self._token.reveal(), base, timeout=timeout, retry_handlers=[], logger=_quiet)
            answer = client.api_call(method, params=arguments)
        except SlackApiError as error:
            data = error.response.data
            raise Refused(
                str(data.get("error", "no answer of the API")) if isinstance(data, dict) else "no JSON"
            ) from None
        except (OSError, HTTPException, SlackClientError, ValueError) as error:
            raise Refused(f"cannot be asked: {getattr(error, 'reason', None) or error}") from None
        data = answer.data
        headers = {str(name).lower(): str(value) for name, value in answer.headers.items()}
        return (data if isinstance(data, dict) else {}), headers


def _token_hint(word: str) -> str:
    if word.startswith("cannot be asked"):
        return "can this machine reach Slack? HTTPS_PROXY is honoured"
    return f"{APPS} -> the app -> OAuth & Permissions -> Bot User OAuth Token (xoxb-…)"
