"""What each message looks like: the sample incidents through the very code that writes to Slack."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from agent.collector.web import query as q
from agent.collector.web.parts import PARTS, answer, refuse
from agent.slack import picture
from agent.slack.samples import Sample, rendered, samples

DASHBOARD: web.AppKey[str] = web.AppKey("dashboard", str)
"""Where the links in messages lead."""
DRAWN: web.AppKey[asyncio.Lock] = web.AppKey("drawn", asyncio.Lock)
_picture: web.AppKey[dict[str, bytes]] = web.AppKey("picture", dict)


def set_up(app: web.Application, dashboard_url: str) -> None:
    app[DASHBOARD], app[DRAWN], app[_picture] = dashboard_url, asyncio.Lock(), {}


async def gallery(request: web.Request) -> web.Response:
    q.known(request.query)
    found = samples(request.app[PARTS].clock.now())
    messages = [_entry(sample, request.app[DASHBOARD]) for sample in found]
    return answer({"messages": messages, "picture": picture.able()})


async def chart(request: web.Request) -> web.Response:
    """The picture in the thread; drawn once, because it is another process's work."""
    q.known(request.query)
    kept = request.app[_picture]
    async with request.app[DRAWN]:
        if "png" not in kept:
            drawn = await picture.draw(samples(request.app[PARTS].clock.now())[0].incident) if picture.able() else b""
            if not drawn:
                refuse(404, "no_picture", "pictures are drawn where Pillow is installed")
            kept["png"] = drawn
    return web.Response(body=kept["png"], content_type="image/png", headers={"Cache-Control": "no-store"})


def _entry(sample: Sample, dashboard_url: str) -> dict[str, Any]:
    made = rendered(sample, dashboard_url)
    return {
        "name": sample.name,
        "says": sample.says,
        "thread": sample.transition is not None,
        "text": made.text,
        "blocks": made.blocks,
        "attachments": made.attachments,
    }
