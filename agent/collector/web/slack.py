"""What Slack sends by HTTP: slash commands, buttons and events, each signed; nothing unsigned is even read.

These paths are there in HTTP mode only. They ask for no token of the dashboard's, as Slack has none, and answer
under any name, as they stand behind a proxy.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from agent.collector.chatops.desk import Desk
from agent.collector.chatops.office import Office
from agent.collector.web.parts import PARTS, answer, reading, refuse
from agent.slack.signature import signed

MAX_BODY = 256 * 1024
"""Bytes; a pressed button brings the whole message it is in."""
_SSL_CHECK = re.compile(rb"(?:^|&)ssl_check=1(?:&|$)")


def routes(office: Office | None) -> list[web.RouteDef]:
    if office is None or not office.signing_secret:
        return []
    return [
        web.post("/slack/commands", commands),
        web.post("/slack/interactive", interactive),
        web.post("/slack/events", events),
    ]


async def commands(request: web.Request) -> web.Response:
    body = await read(request)
    if len(body) < 1000 and _SSL_CHECK.search(body):  # Slack looks whether our certificate is good, and no more
        return web.Response()
    desk = verified(request, body)
    return said(desk.take("slash_commands", form(body)))


async def interactive(request: web.Request) -> web.Response:
    body = await read(request)
    desk = verified(request, body)
    return said(desk.take("interactive", table(form(body).get("payload", ""))))


async def events(request: web.Request) -> web.Response:
    body = await read(request)
    desk = verified(request, body)
    payload = table(body.decode("utf-8", "replace"))
    if payload.get("type") == "url_verification":
        return answer({"challenge": str(payload.get("challenge", ""))[:500]})
    desk.take("events_api", payload)
    return web.Response()


async def read(request: web.Request) -> bytes:
    """The body as it was signed; 413 as soon as it is known to be too large."""
    if (request.content_length or 0) > MAX_BODY:
        refuse(413, "too_large", f"at most {MAX_BODY} bytes")
    body = bytearray()
    async with reading():
        async for chunk in request.content.iter_chunked(64 * 1024):
            body += chunk
            if len(body) > MAX_BODY:
                refuse(413, "too_large", f"at most {MAX_BODY} bytes")
    return bytes(body)


def verified(request: web.Request, body: bytes) -> Desk:
    """Where it may go; 401 where Slack did not sign it just now."""
    parts = request.app[PARTS]
    office = parts.office
    headers = request.headers
    timestamp, signature = headers.get("X-Slack-Request-Timestamp"), headers.get("X-Slack-Signature")
    if office is None or office.desk is None:
        refuse(404, "not_found", "Slack is not configured here")
    if not signed(office.signing_secret, timestamp, signature, body, parts.clock.now()):
        refuse(401, "bad_signature", "this was not signed by Slack, or not just now")
    return office.desk


def form(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=200))
    except ValueError:
        refuse(400, "bad_form", "expected a form")


def table(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        refuse(400, "bad_payload", "expected a JSON object")
    return value


def said(words: dict[str, Any] | None) -> web.Response:
    return web.json_response(words) if words else web.Response()
