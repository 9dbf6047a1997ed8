"""What the handlers work with, under one typed key of the application."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from agent.clock import Clock
from agent.collector.chatops.office import Office
from agent.collector.fleet import Fleet
from agent.collector.live import Hub
from agent.collector.stats import Stats
from agent.collector.store import Reader

READ_WITHIN = 10.0
"""Seconds in which a body must have come: whoever dribbles it keeps nothing of ours."""
LARGE = 2048
"""Bytes of JSON above which gzip pays."""


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    reader: Reader
    fleet: Fleet
    hub: Hub
    stats: Stats
    clock: Clock
    office: Office | None = None
    """None: nobody can be asked for anything, which is so in tests of what is shown."""


PARTS: web.AppKey[Parts] = web.AppKey("parts", Parts)


class ApiError(Exception):
    """A refusal with an answer: `code` is for programs, `message` for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.code = code
        self.message = message
        super().__init__(f"{code}: {message}")


def refuse(status: int, code: str, message: str) -> NoReturn:
    raise ApiError(status, code, message)


@contextlib.asynccontextmanager
async def reading() -> AsyncIterator[None]:
    """Around the reading of a request's body: what is broken or does not come is the sender's fault, and said so."""
    try:
        async with asyncio.timeout(READ_WITHIN):
            yield
    except TimeoutError:
        refuse(408, "too_slow", f"the body did not come within {READ_WITHIN:g} s")
    except (
        web.RequestPayloadError,
        BadHttpMessage,
        ValueError,
        LookupError,
    ):  # torn, unpacked badly, or no such letters
        refuse(400, "bad_body", "the body could not be read")


def answer(value: Any, *, status: int = 200) -> web.Response:
    """`value` as JSON that no cache keeps, compressed where that pays."""
    body = msgspec.json.encode(value)
    response = web.Response(body=body, status=status, content_type="application/json", charset="utf-8")
    response.headers["Cache-Control"] = "no-store"
    if len(body) > LARGE:
        response.headers["Vary"] = "Accept-Encoding"
        response.enable_compression()  # negotiated, as Accept-Encoding says
    return response


def error_answer(error: ApiError) -> web.Response:
    return answer({"error": {"code": error.code, "message": error.message}}, status=error.status)
