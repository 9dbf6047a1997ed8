"""A Slack of our own, as strict as the real one: an HTTP server on a free loopback port.

    async with FakeSlack() as slack:
        slack.add_channel("#alerts")
        ...                                   # base_url=slack.url, token=slack.token
        slack.fail(rate_limited(3), html(500), silence())
        assert slack.messages("#alerts")[0].text

It keeps channels, messages, threads and metadata, checks token, arguments, limits and escaping, and
records every call with its time. `python -m tests.fakes.slack` runs one to look at by hand.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Self

from aiohttp import web

from tests.fakes import slack_arguments as read
from tests.fakes.slack_faults import Fault, empty, html, rate_limited, refused, reset, silence, slow, unanswered
from tests.fakes.slack_records import Call, Channel, Said, between, page, public
from tests.fakes.slack_rules import RefusalError, check_message

__all__ = [
    "Call",
    "Channel",
    "FakeSlack",
    "Fault",
    "Said",
    "empty",
    "html",
    "rate_limited",
    "refused",
    "reset",
    "silence",
    "slow",
    "unanswered",
]


class FakeSlack:
    """See the module. `token` is what it accepts; `scopes` what that token may do; `clock` says its seconds."""

    def __init__(
        self, *, token: str = "xoxb-fake-token", port: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.token = token
        self.scopes = {"chat:write", "channels:history", "groups:history", "channels:read", "reactions:write"}
        self.calls: list[Call] = []
        self.violations: list[Call] = []
        self.longest_page = 999
        self._port = port
        self._clock = clock
        self._channels: dict[str, Channel] = {}
        self._faults: deque[Fault] = deque()
        self._limited: dict[str, float] = {}
        self._edits: deque[float] = deque()
        self._last_ts = 0
        self._made = 0
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.router.add_route("*", "/api/{method}", self._serve)
        self._add_routes(app)
        self._runner = web.AppRunner(app, shutdown_timeout=0.5, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        address = self._runner.addresses[0]
        self.url = f"http://127.0.0.1:{address[1]}/api/"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        assert self._runner is not None
        await self._runner.cleanup()

    # -- for tests

    def add_channel(self, name: str, **traits: Any) -> Channel:
        """A channel by its name with "#"; traits: archived, member, restricted."""
        self._made += 1
        channel = Channel(f"C{self._made:08d}", name, **traits)
        self._channels[channel.id] = channel
        return channel

    def remove_channel(self, name: str) -> None:
        del self._channels[self._find(name).id]

    def fail(self, *faults: Fault) -> None:
        """The next calls fail like this, one each, in order; a fault with a method waits for that one."""
        self._faults.extend(faults)

    def calm(self) -> None:
        """No fault from here on, and no window still open."""
        self._faults.clear()
        self._limited.clear()

    @property
    def faults_left(self) -> int:
        return len(self._faults)

    def messages(self, channel: str) -> list[Said]:
        """What people see in a channel, oldest first, without replies in threads."""
        return [said for said in self._find(channel).said if said.shown and said.thread_ts is None]

    def replies(self, channel: str, ts: str) -> list[Said]:
        return [said for said in self._find(channel).said if said.shown and said.thread_ts == ts]

    def delete(self, said: Said) -> None:
        """Somebody deletes a message."""
        self._channels[said.channel].said.remove(said)

    def called(self, method: str) -> list[Call]:
        return [call for call in self.calls if call.method == method]

    async def until(self, condition: Callable[[], Any], timeout: float = 20.0) -> None:
        """Wait for something to become true here; AssertionError with the calls so far if it does not."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout} s; calls: {[(c.method, c.outcome) for c in self.calls]}")
            await asyncio.sleep(0.01)

    # -- the server

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        call = Call(method, self._clock(), await read.arguments(request))
        self.calls.append(call)
        until = self._limited.get(method, float("-inf"))
        if call.at < until:
            self.violations.append(call)
            return self._limit(call, until - call.at)
        fault = self._take_fault(method)
        if fault is None:
            return self._answer(call, request)
        return await self._play(fault, call, request)

    async def _play(self, fault: Fault, call: Call, request: web.Request) -> web.StreamResponse:
        match fault.kind:
            case "rate_limited":
                self._limited[call.method] = self._clock() + fault.number
                return self._limit(call, fault.number)
            case "slow":
                await asyncio.sleep(fault.number)
                return self._answer(call, request)
            case "unanswered":
                self._answer(call, request)
        call.outcome = fault.code or fault.kind
        match fault.kind:
            case "html":
                page = "<html><body><h1>Something went wrong</h1></body></html>"
                return web.Response(status=int(fault.number), text=page, content_type="text/html")
            case "empty":
                return web.Response(status=200, content_type="application/json")
            case "error":
                return web.json_response({"ok": False, "error": fault.code})
            case "silence" | "unanswered":
                await self._stopping.wait()
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    def _limit(self, call: Call, seconds: float) -> web.Response:
        call.outcome = "rate_limited"
        headers = {"Retry-After": str(max(1, -int(-seconds // 1)))}
        return web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers=headers)

    def _answer(self, call: Call, request: web.Request) -> web.Response:
        try:
            self._authorise(call, request)
            answer = self._method(call.method)(call.arguments)
        except RefusalError as refusal:
            call.outcome = refusal.code
            if refusal.code == "ratelimited":
                return self._limit(call, 10)
            return web.json_response({"ok": False, "error": refusal.code, "detail": str(refusal)})
        call.outcome = "ok"
        return web.json_response({"ok": True, **answer}, headers={"x-oauth-scopes": ",".join(sorted(self.scopes))})

    def _add_routes(self, app: web.Application) -> None:
        """What a stand-in serves beside the methods."""

    def _method(self, name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        return partial(_METHODS.get(name, _unknown), self)

    def _authorise(self, call: Call, request: web.Request) -> None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ") or call.arguments.get("token", "")
        if not given:
            raise RefusalError("not_authed")
        if given != self.token:
            raise RefusalError("invalid_auth")
        if call.method in _SCOPES and not self.scopes & _SCOPES[call.method]:
            raise RefusalError("missing_scope")

    def _take_fault(self, method: str) -> Fault | None:
        for fault in self._faults:
            if fault.method in ("", method):
                self._faults.remove(fault)
                return fault
        return None

    # -- the methods

    def _post(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._writable(arguments)
        text, blocks, attachments = read.content(arguments)
        check_message(text, blocks, attachments)
        thread = arguments.get("thread_ts")
        if thread is not None and not any(said.ts == thread for said in channel.said):
            raise RefusalError("thread_not_found")
        now = self._clock()
        said = Said(
            channel.id,
            self._next_ts(),
            text[:40_000],
            blocks,
            attachments,
            read.metadata(arguments),
            thread,
            read.truth(arguments.get("reply_broadcast")),
            shown=now - channel.last_post >= 0.95,
            history=[text],
        )
        channel.last_post = now
        channel.said.append(said)
        return {"channel": channel.id, "ts": said.ts, "message": public(said, metadata=True)}

    def _update(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._by_id(arguments)
        if channel.archived:
            raise RefusalError("is_archived")
        said = next((said for said in channel.said if said.ts == arguments.get("ts")), None)
        if said is None:
            raise RefusalError("message_not_found")
        text, blocks, attachments = read.content(arguments)
        check_message(text, blocks, attachments, editing=True)
        self._count_edit()
        said.text, said.blocks, said.edits = text, blocks, said.edits + 1
        if "attachments" in arguments:
            said.attachments = attachments
        said.history.append(text)
        return {"channel": channel.id, "ts": said.ts, "text": text}

    def _count_edit(self) -> None:
        now = self._clock()
        while self._edits and now - self._edits[0] > 60:
            self._edits.popleft()
        if len(self._edits) >= 50:
            raise RefusalError("ratelimited")
        self._edits.append(now)

    def _ephemeral(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._writable(arguments)
        if not arguments.get("user"):
            raise RefusalError("user_not_in_channel")
        check_message(*read.content(arguments))
        return {"message_ts": self._next_ts()}

    def _history(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._readable(arguments)
        found = [
            said
            for said in reversed(channel.said)
            if said.shown and (said.thread_ts is None or said.broadcast) and between(said, arguments)
        ]
        return page(found, arguments, self.longest_page)

    def _replies(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._readable(arguments)
        parent = arguments.get("ts")
        found = [said for said in channel.said if said.shown and parent in (said.ts, said.thread_ts)]
        if not found:
            raise RefusalError("thread_not_found")
        found = [said for said in found if said.ts == parent or between(said, arguments)]
        return page(found, arguments, self.longest_page)

    def _list(self, arguments: dict[str, Any]) -> dict[str, Any]:
        hidden = read.truth(arguments.get("exclude_archived"))
        channels = [channel for channel in self._channels.values() if not (hidden and channel.archived)]
        return {
            "channels": [{"id": channel.id, "name": channel.name.removeprefix("#")} for channel in channels],
            "response_metadata": {"next_cursor": ""},
        }

    def _permalink(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel, ts = self._by_id(arguments), str(arguments.get("message_ts"))
        if not any(said.ts == ts for said in channel.said):
            raise RefusalError("message_not_found")
        return {"channel": channel.id, "permalink": f"https://fake.slack.com/archives/{channel.id}/p{ts}"}

    def _react(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel, name = self._readable(arguments), str(arguments.get("name", ""))
        said = next((said for said in channel.said if said.ts == arguments.get("timestamp")), None)
        if said is None:
            raise RefusalError("message_not_found")
        if not name or ":" in name:
            raise RefusalError("invalid_name")
        if name in said.reactions:
            raise RefusalError("already_reacted")
        said.reactions.append(name)
        return {}

    def _who(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"url": "https://fake.slack.com/", "team": "Fake", "user": "tocsin", "team_id": "T1", "user_id": "U1"}

    # -- parts

    def _find(self, name: str) -> Channel:
        named = [c for c in self._channels.values() if name in (c.id, c.name, c.name.removeprefix("#"))]
        if not named:
            raise RefusalError("channel_not_found", name)
        return named[0]

    def _by_id(self, arguments: dict[str, Any]) -> Channel:
        """These methods take no names."""
        channel = self._channels.get(str(arguments.get("channel")))
        if channel is None:
            raise RefusalError("channel_not_found", str(arguments.get("channel")))
        return channel

    def _writable(self, arguments: dict[str, Any]) -> Channel:
        channel = self._find(str(arguments.get("channel", "")))
        if channel.archived:
            raise RefusalError("is_archived")
        if channel.restricted:
            raise RefusalError("restricted_action")
        if not channel.member and "chat:write.public" not in self.scopes:
            raise RefusalError("not_in_channel")
        return channel

    def _readable(self, arguments: dict[str, Any]) -> Channel:
        channel = self._by_id(arguments)
        if not channel.member:
            raise RefusalError("not_in_channel")
        return channel

    def _next_ts(self) -> str:
        self._last_ts = max(self._last_ts + 1, int(time.time() * 1_000_000))
        seconds, micros = divmod(self._last_ts, 1_000_000)
        return f"{seconds}.{micros:06d}"


_SCOPES = {
    "chat.postMessage": {"chat:write"},
    "chat.update": {"chat:write"},
    "chat.postEphemeral": {"chat:write"},
    "conversations.history": {"channels:history", "groups:history"},
    "conversations.replies": {"channels:history", "groups:history"},
    "conversations.list": {"channels:read", "groups:read"},
    "conversations.info": {"channels:read", "groups:read"},
    "reactions.add": {"reactions:write"},
    "files.getUploadURLExternal": {"files:write"},
    "files.completeUploadExternal": {"files:write"},
    "usergroups.users.list": {"usergroups:read"},
    "users.info": {"users:read"},
}
_METHODS: dict[str, Callable[[FakeSlack, dict[str, Any]], dict[str, Any]]] = {
    "chat.postMessage": FakeSlack._post,
    "chat.update": FakeSlack._update,
    "chat.postEphemeral": FakeSlack._ephemeral,
    "chat.getPermalink": FakeSlack._permalink,
    "conversations.history": FakeSlack._history,
    "conversations.replies": FakeSlack._replies,
    "conversations.list": FakeSlack._list,
    "reactions.add": FakeSlack._react,
    "auth.test": FakeSlack._who,
}


def _unknown(*_: object) -> dict[str, Any]:
    raise RefusalError("unknown_method")


async def _main() -> None:
    async with FakeSlack() as slack:
        slack.add_channel("#alerts")
        print(f"base_url = {slack.url!r}, token {slack.token}", flush=True)
        shown = 0
        while True:
            await asyncio.sleep(0.2)
            for call in slack.calls[shown:]:
                print(f"{call.at:.3f} {call.method} {call.outcome} {json.dumps(call.arguments)[:300]}", flush=True)
            shown = len(slack.calls)


if __name__ == "__main__":
    asyncio.run(_main())
