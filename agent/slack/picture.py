"""Have a chart drawn by a process of its own, which takes the library's 15 MiB with it when it ends."""

from __future__ import annotations

import asyncio
import logging
import sys

import msgspec

from agent.config.schema import SlackConfig
from agent.model import Incident

log = logging.getLogger(__name__)

DEADLINE = 20.0
"""Seconds; on an idle machine it takes a third of one."""


def able() -> bool:
    """Whether the library is installed here; it is in the extra `collector`."""
    from importlib.util import find_spec  # noqa: PLC0415 - asked once

    return find_spec("PIL") is not None


def wanted(slack: SlackConfig) -> bool:
    """Whether messages get pictures."""
    return slack.picture and slack.bot_token is not None and able()


async def draw(incident: Incident) -> bytes:
    """A PNG; b"" where there is nothing to draw, or it could not be drawn, which is told in the log."""
    return await drawn("agent.slack.chart", msgspec.json.encode(incident), incident.id)


async def drawn(program: str, told: bytes, about: str) -> bytes:
    """What this module of ours writes when it is `told` this; b"" as above. `about` is for the log."""
    command = [sys.executable, "-P", "-m", program]
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    except OSError as error:
        return _none(about, str(error))
    try:
        async with asyncio.timeout(DEADLINE):
            picture, complaint = await process.communicate(told)
    except TimeoutError:
        return _none(about, f"not within {DEADLINE:g} s")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()  # at once, as it cannot refuse; else its pipes stayed open
    if process.returncode:
        return _none(about, complaint.decode(errors="replace").strip().rpartition("\n")[2][:500])
    return picture


def _none(about: str, error: str) -> bytes:
    log.warning("no picture was drawn", extra={"about": about, "error": error})
    return b""
