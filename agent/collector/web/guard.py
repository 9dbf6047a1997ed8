"""Who may read: nobody from elsewhere without the token, and no foreign page through a visitor's own browser."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import hmac
import ipaddress
import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from aiohttp import web

from agent.clock import Clock
from agent.collector.web.parts import ApiError

COOKIE = "tocsin_session"
SESSION_AGE = 30 * 86400
"""Seconds that a login lasts."""

MAX_WAITING = 20
"""Wrong tokens whose answer is being held back; more at once are refused unread."""

FAILURE_PAUSE = 0.5
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
OPEN_PATHS = frozenset({"/login", "/logout"})
"""What a visitor without the token may ask for, beside the static files, which are public anyway."""


async def set_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    response.headers.pop("Server", None)


def is_loopback(listen: str) -> bool:
    """Whether only this machine can reach `listen` (HOST:PORT). An empty host is every interface."""
    host = host_name(listen)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_name(address: str) -> str:
    """The host of "HOST:PORT", "[::1]:PORT" or a bare HOST, in lower case and without brackets; "" if it is none."""
    if not re.fullmatch(r"[A-Za-z0-9._:\[\]-]*", address):
        return ""
    try:
        return (urlsplit(f"//{address}").hostname or "").rstrip(".")
    except ValueError:
        return ""


@dataclasses.dataclass(slots=True)
class Guard:
    """`token` "" leaves the door open, which only a collector on loopback may do.

    Where a token is asked for, the browser's cookie is bound to this site; where none is, the Host header
    must name this machine, or a foreign page could read us under a name of its own (DNS rebinding).
    """

    token: str
    clock: Clock
    signed: frozenset[str] = frozenset()
    """Paths whose requests prove by a signature where they come from, under whatever name they reached us."""
    _waiting: int = 0
    _pause: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)

    async def check(self, request: web.Request) -> None:
        """Raises ApiError where this request may not go on."""
        if request.path in self.signed:
            return
        if not self.token:
            if not is_loopback(request.host):
                raise ApiError(421, "wrong_host", "this collector answers only under a loopback name such as localhost")
            return
        if request.path in OPEN_PATHS or request.path.startswith("/static/"):
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and given:
            await self.verify(given.strip())
        elif not self._session_holds(request.cookies.get(COOKIE, "")):
            raise ApiError(401, "unauthorized", "send the collector's token: Authorization: Bearer …")

    async def verify(self, given: str) -> None:
        """Returns for the right token; each wrong one is answered late, one after the other."""
        if same(given, self.token):
            return
        if self._waiting >= MAX_WAITING:
            raise ApiError(429, "too_many_attempts", "too many wrong tokens; try again in a few seconds")
        self._waiting += 1
        try:
            async with self._pause:
                await self.clock.sleep(FAILURE_PAUSE)
        finally:
            self._waiting -= 1
        raise ApiError(401, "unauthorized", "this is not the collector's token")

    def session(self) -> str:
        """A cookie's value: when it ends, and the proof that we said so. A new token ends every session."""
        end = str(int(self.clock.now()) + SESSION_AGE)
        return f"{end}.{self._proof(end)}"

    def _session_holds(self, value: str) -> bool:
        end, _, proof = value.partition(".")
        if not re.fullmatch(r"[0-9]{1,12}", end) or not same(proof, self._proof(end)):
            return False
        return int(end) > self.clock.now()

    def _proof(self, end: str) -> str:
        digest = hmac.new(self.token.encode(), b"tocsin-session-v1\0" + end.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def same(given: str, wanted: str) -> bool:
    """Equal, in a time that tells nothing of where they differ or how long they are."""
    one, other = (hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in (given, wanted))
    return hmac.compare_digest(one, other)


def wants_page(request: web.Request) -> bool:
    """A person's browser, not a program: it is led to the login page instead of told 401."""
    if request.path.startswith(("/api/", "/slack/")) or PurePosixPath(request.path).suffix:
        return False
    return "text/html" in request.headers.get("Accept", "")
