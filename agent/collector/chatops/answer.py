"""The one message that answers a request: posted once, then edited; and words for one person's eyes.

Posted once means: a post whose fate is unknown is looked for by its nonce before another is tried, and where it
cannot be looked for, none is.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from agent.alerting.pace import Method, Pace
from agent.clock import Clock
from agent.collector.chatops.request import Request
from agent.errors import AmbiguousError, AnewError, DeliveryError, RetryError
from agent.slack.blocks import Block, Message
from agent.slack.text import escape
from agent.slack.web import Web

log = logging.getLogger(__name__)

EVENT_TYPE = "tocsin_answer"
EDIT_GAP = 1.0
TRIES = 8
LOOK_BACK = 120.0
WHISPER_WITHIN = 10.0


class Mouth:
    """Speaks for all requests, within one pace."""

    def __init__(self, web: Web, clock: Clock, base_url: str, pace: Pace | None = None) -> None:
        self.web = web
        self.clock = clock
        self.pace = pace or Pace()
        self._api = urlsplit(base_url)

    async def turn(self, kind: Method, channel: str) -> None:
        """Wait until it is our turn, and take it."""
        while (wait := self.pace.ready(kind, channel, self.clock.monotonic()) - self.clock.monotonic()) > 0:
            await self.clock.sleep(wait)
        self.pace.spend(kind, channel, self.clock.monotonic())

    async def whisper(self, request: Request, text: str, blocks: list[Block] | None = None) -> None:
        """For the asker alone; what cannot be said is in the log. `text` is plain."""
        said = {"text": escape(text, 2000), "blocks": blocks}
        try:
            if not await self._respond(request.response_url, {**said, "replace_original": False}):
                where = {"channel": request.channel, "user": request.user, "thread_ts": request.thread or None}
                await self.web.call("chat.postEphemeral", {**where, **said})
        except DeliveryError as error:
            log.warning("asker not told", extra={"request": request.id, "error": str(error)[:200]})

    async def take_back(self, request: Request) -> None:
        """The words for one person alone whose button was pressed."""
        await self._respond(request.response_url, {"delete_original": True, "text": "done"})

    async def _respond(self, url: str, body: dict[str, Any]) -> bool:
        """By the payload's own URL, which works also where the bot is no member; whether it did."""
        where = urlsplit(url)
        own = self._api.hostname or ""
        slack = where.hostname == "hooks.slack.com" if own.endswith("slack.com") else where.netloc == self._api.netloc
        if not url or not slack:
            return False
        body = {name: value for name, value in body.items() if value is not None} | {"response_type": "ephemeral"}
        timeout = aiohttp.ClientTimeout(total=WHISPER_WITHIN)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as http, http.post(url, json=body) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False


class Answer:
    """Show as often as you like; what goes out is the newest. `finish` waits until it is there, or given up.

    `ts`: the message of ours in the request's channel that becomes the answer; "": a new one.
    """

    def __init__(self, mouth: Mouth, request: Request, ts: str = "") -> None:
        self._mouth = mouth
        self._request = request
        self._wanted: Message | None = None
        self._shown: Message | None = None
        self._changed = asyncio.Event()
        self._over = False
        self._worker: asyncio.Task[None] | None = None
        self.channel = request.channel
        self.ts = ts

    def show(self, message: Message) -> None:
        self._wanted = message
        self._changed.set()
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())

    async def finish(self, message: Message) -> None:
        self.show(message)
        self._over = True
        self._changed.set()
        assert self._worker is not None  # noqa: S101 - `show` has made it
        await self._worker

    def stop(self) -> None:
        if self._worker is not None:
            self._worker.cancel()

    async def _work(self) -> None:
        """Make what is shown equal to what is wanted, until it is over."""
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                wanted = self._wanted
                if wanted is not None and wanted != self._shown:
                    await (self._edit(wanted) if self.ts else self._post(wanted))
                    self._shown = wanted
                if self._over and self._wanted == self._shown:
                    return
                if not self._over:
                    await self._mouth.clock.sleep(EDIT_GAP)
        except DeliveryError as error:
            log.warning("answer not shown", extra={"request": self._request.id, "error": str(error)[:200]})
            if not self.ts:
                text = self._wanted.text if self._wanted else ""
                await self._mouth.whisper(self._request, f"The answer cannot be posted here ({error.code}). {text}")

    async def _post(self, message: Message) -> None:
        mouth, request = self._mouth, self._request
        since = mouth.clock.now()
        for attempt in range(TRIES):
            await mouth.turn("post", request.channel)
            try:
                answer = await mouth.web.call(
                    "chat.postMessage",
                    {
                        "channel": request.channel,
                        "thread_ts": request.thread or None,
                        "text": message.text,
                        "blocks": message.blocks,
                        "metadata": {"event_type": EVENT_TYPE, "event_payload": {"nonce": request.id}},
                        "unfurl_links": False,
                        "unfurl_media": False,
                    },
                )
            except RetryError as error:
                await self._pause(error, attempt)
            except AmbiguousError:
                if await self._found(since, attempt):
                    return
            else:
                self.channel, self.ts = str(answer["channel"]), str(answer["ts"])
                return
        raise RetryError("gave_up", f"{TRIES} tries")

    async def _found(self, since: float, attempt: int) -> bool:
        """Whether a post of unknown fate is there after all. A DeliveryError where nobody may look."""
        mouth, request = self._mouth, self._request
        await mouth.clock.sleep(1.0 + attempt)
        arguments = {"channel": request.channel, "include_all_metadata": True, "limit": 100}
        method = "conversations.replies" if request.thread else "conversations.history"
        arguments |= {"ts": request.thread} if request.thread else {"oldest": f"{since - LOOK_BACK:.6f}"}
        answer = await mouth.web.call(method, arguments, json=False)
        for said in answer.get("messages", []):
            metadata = said.get("metadata") or {}
            if metadata.get("event_type") == EVENT_TYPE and metadata["event_payload"].get("nonce") == request.id:
                self.channel, self.ts = request.channel, str(said["ts"])
                return True
        return False

    async def _edit(self, message: Message) -> None:
        """As often as it takes: an edit that is made twice is the same edit."""
        for attempt in range(TRIES):
            await self._mouth.turn("edit", self.channel)
            try:
                arguments = {"channel": self.channel, "ts": self.ts, "text": message.text, "blocks": message.blocks}
                await self._mouth.web.call("chat.update", arguments)
            except AnewError:
                return  # somebody has deleted it: nobody wants to know
            except (RetryError, AmbiguousError) as error:
                await self._pause(error, attempt)
            else:
                return
        raise RetryError("gave_up", f"{TRIES} tries")

    async def _pause(self, error: DeliveryError, attempt: int) -> None:
        after = error.after if isinstance(error, RetryError) and error.after is not None else min(30.0, 2.0**attempt)
        await self._mouth.clock.sleep(after)


def member_list(answer: dict[str, object]) -> frozenset[str]:
    """Of usergroups.users.list."""
    users = answer.get("users")
    return (
        frozenset(user for user in users if re.fullmatch(r"[UW][A-Z0-9]+", str(user)))
        if isinstance(users, list)
        else frozenset()
    )
