"""Have an incident's chart drawn by a process of its own, which takes the library's 15 MiB with it when it ends."""

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
    command = [sys.executable, "-P", "-m", "agent.slack.chart"]
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    except OSError as error:
        log.warning("no picture was drawn", extra={"incident": incident.id, "error": str(error)})
        return b""
    try:
        async with asyncio.timeout(DEADLINE):
            picture, complaint = await process.communicate(msgspec.json.encode(incident))
    except TimeoutError:
        log.warning("no picture was drawn", extra={"incident": incident.id, "error": f"not within {DEADLINE:g} s"})
        return b""
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        log.warning("no picture was drawn", extra={"incident": incident.id, "error": last[:500]})
        return b""
    return picture
