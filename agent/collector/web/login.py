"""The login page: a token typed by a person becomes a cookie that scripts and other sites never see."""

from __future__ import annotations

from aiohttp import web

from agent.collector.web.guard import COOKIE, SESSION_AGE, Guard
from agent.collector.web.pages import Files
from agent.collector.web.parts import ApiError, reading

GUARD: web.AppKey[Guard] = web.AppKey("guard", Guard)
FILES: web.AppKey[Files] = web.AppKey("files", Files)
PLACE = b"<!-- message -->"


async def form(request: web.Request) -> web.Response:
    return page(request, "", 200)


async def login(request: web.Request) -> web.Response:
    guard = request.app[GUARD]
    try:
        async with reading():
            fields = await request.post()
    except ApiError as error:
        return page(request, error.message, error.status)
    given = fields.get("token", "")
    try:
        if guard.token:
            await guard.verify(given.strip() if isinstance(given, str) else "")
    except ApiError as error:
        return page(request, error.message, error.status)
    response = web.Response(status=303, headers={"Location": "/", "Cache-Control": "no-store"})
    if guard.token:
        response.set_cookie(
            COOKIE,
            guard.session(),
            max_age=SESSION_AGE,
            httponly=True,
            samesite="Strict",
            secure=is_https(request),
        )
    return response


async def logout(_: web.Request) -> web.Response:
    response = web.Response(status=303, headers={"Location": "/login", "Cache-Control": "no-store"})
    response.del_cookie(COOKIE, httponly=True, samesite="Strict")
    return response


def page(request: web.Request, message: str, status: int) -> web.Response:
    """`message` is one of our own sentences, never what was sent to us."""
    text = f'<p class="form-error" role="alert">{message[:1].upper()}{message[1:]}.</p>' if message else ""
    body = request.app[FILES].named("login.html").body.replace(PLACE, text.encode())
    return web.Response(
        body=body, status=status, content_type="text/html", charset="utf-8", headers={"Cache-Control": "no-store"}
    )


def is_https(request: web.Request) -> bool:
    """Directly or through a proxy: the header can only make the cookie stricter."""
    return request.secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"
