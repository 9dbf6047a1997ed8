"""Incidents to Slack over slack-sdk's WebClient, each call in a thread of its own under one deadline.

The SDK is imported in such a thread, by `warm` or at the first call. It retries nothing by itself: after a dropped
connection it would post twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import re
import threading
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from agent.alerting.messenger import Posted
from agent.aside import aside
from agent.config.schema import SlackConfig
from agent.errors import AmbiguousError, AnewError, ChannelError, DeliveryError, RetryError, TokenError
from agent.model import Incident, Transition, TransitionKind
from agent.slack.blocks import Message, message, reply
from agent.slack.errors import answer_error
from agent.slack.text import plain
from agent.slack.upload import upload

if TYPE_CHECKING:
    import ssl

    from slack_sdk import WebClient

EVENT_TYPE = "tocsin_incident"
"""The metadata event type under which a message's nonce is kept."""
_LOOK_BACK = 6 * 3600.0
"""Seconds before the first attempt from which history is read, newest first: our clock may be wrong by as much."""
_PAGES = 10
_BROKEN_OFF = 100
_TS = re.compile(r"\d+\.\d+")
_TOKEN = re.compile(r"[\x21-\x7e]+")
_quiet = logging.getLogger("agent.slack.sdk")
_quiet.setLevel(logging.CRITICAL)  # the outbox tells what failed, once


class SlackMessenger:
    """A `Messenger`. The token is read when the client is built, and anew after it was refused."""

    def __init__(self, config: SlackConfig) -> None:
        if config.bot_token is None:
            raise ValueError("a SlackMessenger needs a bot_token")
        self._token = config.bot_token
        self._base_url = config.base_url.rstrip("/") + "/"
        self._timeout = float(config.timeout)
        self._dashboard_url = config.dashboard_url
        self._actions = config.app_token is not None or config.signing_secret is not None
        self._client: WebClient | None = None
        self._channels: dict[str, str] = {}
        self._broken_off: dict[str, tuple[int, str | None]] = {}
        """Question -> the page, and its cursor, that Slack had no time for."""

    def warm(self) -> None:
        """Import the SDK and build the client beside everything else, so that the first alert need not wait for it."""
        threading.Thread(target=self._warm, name="slack-warm", daemon=True).start()

    def _warm(self) -> None:
        """Whatever is wrong here the first call will meet again, and tell."""
        with contextlib.suppress(Exception):
            self._connect()

    async def post(
        self,
        incident: Incident,
        transition: Transition | None,
        channel: str,
        thread_ts: str | None,
        nonce: str,
        *,
        mention: str = "",
        small: bool = False,
    ) -> Posted:
        if thread_ts is not None:
            _check(thread_ts)
        if transition is None:
            content = self._message(incident, mention, small=small)
        else:
            content = reply(incident, transition, mention=mention, small=small)
        answer = await self._call(
            "chat.postMessage",
            {
                "channel": channel,
                **_body(content),
                "thread_ts": thread_ts,
                "reply_broadcast": True if thread_ts and _loud(transition) else None,
                "metadata": {"event_type": EVENT_TYPE, "event_payload": {"nonce": nonce}},
                "unfurl_links": False,
                "unfurl_media": False,
            },
        )
        self._channels[channel] = answer["channel"]
        return Posted(answer["channel"], answer["ts"])

    async def edit(self, incident: Incident, channel: str, ts: str, *, mention: str = "", small: bool = False) -> None:
        _check(ts)
        content = self._message(incident, mention, small=small)
        await self._call("chat.update", {"channel": channel, "ts": ts, **_body(content, clear=True)})

    async def find(
        self, channel: str, nonce: str, since: float, thread_ts: str | None = None, *, at: str = ""
    ) -> Posted | None:
        channel_id = await self._channel_id(channel)
        arguments = {"channel": channel_id, "ts": thread_ts, "include_all_metadata": True, "limit": 100}
        arguments |= (
            {"oldest": f"{since - _LOOK_BACK:.6f}"} if not at else {"oldest": at, "latest": at, "inclusive": True}
        )
        method = "conversations.history" if thread_ts is None else "conversations.replies"
        async for answer in self._pages(method, arguments):
            for found in answer.get("messages", []):
                metadata = found.get("metadata") or {}
                if metadata.get("event_type") == EVENT_TYPE and metadata.get("event_payload", {}).get("nonce") == nonce:
                    return Posted(channel_id, found["ts"])
        return None

    async def picture(self, png: bytes, title: str, channel: str, thread_ts: str, nonce: str) -> None:
        """Into a thread, as a file; AmbiguousError where it may be there already."""
        _check(thread_ts)
        name, title = f"{nonce}.png", plain(title, 200)
        place = {"channel": channel, "thread_ts": thread_ts}
        await upload(self._call, png, name=name, title=title, timeout=self._timeout, **place)

    def _message(self, incident: Incident, mention: str, *, small: bool) -> Message:
        """With buttons where somebody is there to hear them: over a socket, or by signed requests."""
        url, actions = self._dashboard_url, self._actions
        return message(incident, dashboard_url=url, mention=mention, actions=actions, small=small)

    async def _channel_id(self, channel: str) -> str:
        """History wants an id; the id of a name is known from a post, or looked up."""
        if channel[:1] in "CGD" and channel.isalnum() and channel.isupper():
            return channel
        if channel not in self._channels:
            arguments = {"exclude_archived": True, "limit": 200, "types": "public_channel,private_channel"}
            async for answer in self._pages("conversations.list", arguments):
                self._channels.update({f"#{found['name']}": found["id"] for found in answer.get("channels", [])})
        known = self._channels.get(channel) or self._channels.get(f"#{channel}")
        if known is None:
            raise ChannelError("channel_not_found", f"no id is known for {channel}")
        return known

    async def _pages(self, method: str, arguments: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """What Slack has broken off by a rate limit goes on there: it may give a single page a minute."""
        asked = f"{method} {sorted(arguments.items())}"
        page, cursor = self._broken_off.pop(asked, (0, None))
        for number in range(page, _PAGES):
            try:
                answer = await self._call(method, {**arguments, "cursor": cursor}, json=False)
            except RetryError:
                if len(self._broken_off) >= _BROKEN_OFF:  # nobody may ask for these again
                    self._broken_off.clear()
                self._broken_off[asked] = number, cursor
                raise
            yield answer
            cursor = (answer.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return

    async def _call(self, method: str, arguments: dict[str, Any], *, json: bool = True) -> dict[str, Any]:
        """One request; the DeliveryError tree on anything but an answer that is ok."""
        given = {name: value for name, value in arguments.items() if value is not None}
        try:
            async with asyncio.timeout(self._timeout + 2):
                return await aside("slack", lambda: self._request(method, given, json=json))
        except TimeoutError:
            raise AmbiguousError("timeout", f"no answer within {self._timeout:g} s") from None
        except TokenError:
            self._client = None
            raise

    def _request(self, method: str, arguments: dict[str, Any], *, json: bool) -> dict[str, Any]:
        """Thread side."""
        import http.client  # noqa: PLC0415
        import urllib.error  # noqa: PLC0415

        from slack_sdk.errors import SlackApiError, SlackRequestError  # noqa: PLC0415

        try:
            client = self._connect()
            kind: dict[str, Any] = {"json": arguments} if json else {"params": arguments}
            answer = client.api_call(method, **kind)
        except SlackApiError as error:
            raise _refusal(error.response) from None
        except urllib.error.URLError as error:
            raise _unreachable(error.reason) from None
        except (OSError, http.client.HTTPException) as error:  # reset, closed or silent after we had spoken
            raise AmbiguousError("connection", repr(error)) from None
        except (SlackRequestError, ValueError) as error:
            raise RetryError("request", str(error)) from None
        data = answer.data
        if not isinstance(data, dict):
            raise AmbiguousError("no_json", "no answer of the API")
        return data

    def _connect(self) -> WebClient:
        from slack_sdk import WebClient  # noqa: PLC0415

        if self._client is None:
            try:
                token = self._token.reveal()
            except ValueError as error:
                raise TokenError("not_authed", str(error)) from None
            if not _TOKEN.fullmatch(token):  # a header would refuse it, and say it
                raise TokenError("invalid_auth", "the token holds characters that no token has")
            timeout, tls = max(1, round(self._timeout)), _tls() if self._base_url.startswith("https:") else None
            self._client = WebClient(
                token, base_url=self._base_url, timeout=timeout, ssl=tls, retry_handlers=[], logger=_quiet
            )
        return self._client


def _loud(transition: Transition | None) -> bool:
    """Whether the whole channel is to see it: it got worse, is no longer muted, or nobody has taken it."""
    if transition is None:
        return False
    called = transition.kind is TransitionKind.REMINDED and transition.note != ""
    return called or transition.kind in (TransitionKind.ESCALATED, TransitionKind.UNMUTED)


def _tls() -> ssl.SSLContext:
    """Made once: reading the authorities that the system trusts takes longer than a whole call."""
    import ssl  # noqa: PLC0415

    return ssl.create_default_context()


def _check(ts: str) -> None:
    """What was told elsewhere before there was a token is not there to be edited."""
    if not _TS.fullmatch(ts):
        raise AnewError("message_not_found", f"{ts} is no message of Slack's")


def _body(content: Message, *, clear: bool = False) -> dict[str, Any]:
    """`clear`: an edit must say that there are none, or the old ones stay."""
    return {
        "text": content.text,
        "blocks": content.blocks or ([] if clear else None),
        "attachments": content.attachments or ([] if clear else None),
    }


def _refusal(response: Any) -> DeliveryError:
    data = response.data if isinstance(response.data, dict) else {}
    headers = {name.lower(): value for name, value in response.headers.items()}
    code = data.get("error", "")
    # Where the body was no JSON, the SDK writes a sentence of its own into "error".
    code = code if isinstance(code, str) and code.replace("_", "").isalnum() else ""
    return answer_error(response.status_code, headers.get("retry-after"), code)


def _unreachable(reason: object) -> DeliveryError:
    """A connection that was never made carried nothing; one that broke may have."""
    import socket  # noqa: PLC0415
    import ssl  # noqa: PLC0415

    never = (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError)
    if isinstance(reason, never) or getattr(reason, "errno", None) in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return RetryError("unreachable", str(reason))
    return AmbiguousError("connection", str(reason))
