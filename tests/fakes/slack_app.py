"""The stand-in as an app sees it that is spoken to: Socket Mode, slash commands, buttons, mentions, response URLs.

    async with FakeApp() as slack:
        channel = slack.add_channel("#alerts")
        ...                                   # app_token=slack.app_token
        sent = await slack.slash("status web-1", user="U1", channel=channel)
        assert sent.in_time

In HTTP mode `posted` sends the same, signed, to a URL.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from tests.fakes import slack_payloads as payloads
from tests.fakes.slack import Call, Channel, FakeSlack, Said
from tests.fakes.slack_records import public
from tests.fakes.slack_rules import RefusalError, check_message
from tests.fakes.slack_socket import Sent, Sockets

MOST_ANSWERS = 5
ANSWERS_FOR = 30 * 60


@dataclass
class ResponseUrl:
    """Where one payload may be answered, at most five times in half an hour."""

    made: float = field(default_factory=time.monotonic)
    answers: list[dict[str, Any]] = field(default_factory=list)
    refused: int = 0


class FakeApp(FakeSlack):
    """`groups` are user groups and their members; `users` those whom users.info knows."""

    def __init__(self, *, app_token: str = "xapp-1-fake", ping_every: float = 0.5, **more: Any) -> None:
        super().__init__(**more)
        self.app_token = app_token
        self.app_scopes = {"connections:write"}
        self.signing_secret = "8f742231b10e8888abcd99yyyzzz85a5"
        self.scopes |= {"chat:write.public", "commands", "files:write", "users:read", "usergroups:read"}
        self.scopes |= {"app_mentions:read", "groups:read", "metadata.message:read"}
        self.sockets = Sockets(ping_every=ping_every)
        self.socket_enabled = True
        self.groups: dict[str, list[str]] = {}
        self.users: set[str] = set()
        self.urls: dict[str, ResponseUrl] = {}

    # -- for tests

    async def slash(self, text: str, *, user: str, channel: Channel) -> Sent:
        return await self.sockets.send("slash_commands", self.slash_payload(text, user=user, channel=channel))

    async def press(self, action_id: str, value: str, *, user: str, said: Said) -> Sent:
        return await self.sockets.send("interactive", self.press_payload(action_id, value, user=user, said=said))

    async def mention(self, text: str, *, user: str, channel: Channel, thread_ts: str = "") -> Sent:
        payload = payloads.mention(text, user=user, channel=channel.id, thread_ts=thread_ts)
        return await self.sockets.send("events_api", payload)

    async def again(self, sent: Sent) -> Sent:
        """Slack sends the same once more, to whichever connection."""
        return await self.sockets.send(sent.kind, sent.payload, envelope_id=sent.envelope_id)

    async def posted(self, url: str, payload: dict[str, Any]) -> tuple[int, str]:
        """HTTP mode: the status and text of the app's answer, which Slack waits 3 s for."""
        body = payloads.form(payload)
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        headers = kind | payloads.signed(self.signing_secret, body)
        timeout = aiohttp.ClientTimeout(total=3)
        async with aiohttp.ClientSession(timeout=timeout) as http, http.post(url, data=body, headers=headers) as answer:
            return answer.status, await answer.text()

    def slash_payload(self, text: str, *, user: str, channel: Channel) -> dict[str, str]:
        return payloads.slash(text, user=user, channel=channel.id, response_url=self._response_url())

    def press_payload(self, action_id: str, value: str, *, user: str, said: Said) -> dict[str, Any]:
        shown = public(said, metadata=False)
        return payloads.press(
            action_id, value, user=user, channel=said.channel, message=shown, response_url=self._response_url()
        )

    def whispers(self, user: str) -> list[dict[str, Any]]:
        """The ephemeral messages that `user` got, as they were sent."""
        return [
            c.arguments for c in self.called("chat.postEphemeral") if c.outcome == "ok" and c.arguments["user"] == user
        ]

    # -- the server

    def _add_routes(self, app: web.Application) -> None:
        app.router.add_get("/link", self.sockets.serve)
        app.router.add_post("/respond/{id}", self._respond)

    def _method(self, name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        own: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "apps.connections.open": self._open,
            "usergroups.users.list": self._members,
            "users.info": self._user,
            "conversations.info": self._channel,
        }
        return own.get(name) or super()._method(name)

    def _authorise(self, call: Call, request: web.Request) -> None:
        """Opening a connection takes the app's own token, and in the header alone."""
        if call.method != "apps.connections.open":
            super()._authorise(call, request)
            return
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if call.arguments.get("token") or not given:
            raise RefusalError("not_authed")
        if given == self.token:
            raise RefusalError("not_allowed_token_type")
        if given != self.app_token:
            raise RefusalError("invalid_auth")
        if "connections:write" not in self.app_scopes:
            raise RefusalError("missing_scope")

    def _open(self, _: dict[str, Any]) -> dict[str, Any]:
        if not self.socket_enabled:
            raise RefusalError("socket_mode_not_enabled")
        return {"url": self.sockets.ticket(self.url.replace("http:", "ws:").replace("/api/", "/link"))}

    def _members(self, arguments: dict[str, Any]) -> dict[str, Any]:
        group = str(arguments.get("usergroup"))
        if group not in self.groups:
            raise RefusalError("no_such_subteam")
        return {"users": list(self.groups[group])}

    def _user(self, arguments: dict[str, Any]) -> dict[str, Any]:
        user = str(arguments.get("user"))
        if user not in self.users:
            raise RefusalError("user_not_found")
        return {"user": {"id": user, "team_id": payloads.TEAM, "name": "admin", "deleted": False}}

    def _channel(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._by_id(arguments)
        name = channel.name.removeprefix("#")
        shown = {"id": channel.id, "name": name, "is_member": channel.member, "is_archived": channel.archived}
        return {"channel": shown}

    def _response_url(self) -> str:
        number = secrets.token_hex(8)
        self.urls[number] = ResponseUrl()
        return self.url.replace("/api/", f"/respond/{number}")

    async def _respond(self, request: web.Request) -> web.Response:
        """POST of JSON: `text` or `blocks`, ephemeral unless `response_type` says in_channel."""
        url = self.urls.get(request.match_info["id"])
        if url is None or time.monotonic() - url.made > ANSWERS_FOR or len(url.answers) >= MOST_ANSWERS:
            if url is not None:
                url.refused += 1
            return web.Response(status=404, text="used_url" if url else "no_such_url")
        if request.content_type != "application/json":
            return web.Response(status=400, text="invalid_payload")
        message = await request.json()
        if message.keys() - {"text", "blocks", "response_type", "replace_original", "delete_original", "thread_ts"}:
            return web.Response(status=400, text="invalid_payload")
        try:
            check_message(message.get("text", ""), message.get("blocks"), None)
        except RefusalError as refusal:
            return web.Response(status=400, text=refusal.code)
        url.answers.append(message)
        return web.Response(text="ok")
