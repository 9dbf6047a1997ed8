"""The other end of the control socket: ask the daemon of this machine."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from agent.commands.control import NAME, Request, reachable
from agent.commands.payload import MAX_REPLY, Args, Reply
from agent.errors import TocsinError, UnavailableError

PATIENCE = 3700.0
"""Seconds for the final answer: a job may take an hour."""
_UNANSWERED = "the daemon ended the connection without an answer; see its log"
FINAL = ("refused", "done", "interrupted")


def ask(state_dir: Path, verb: str, args: Args, tell: Callable[[Reply], None] = lambda _: None) -> Reply:
    """The final answer of the daemon whose state directory this is; `tell` has every answer before it.

    UnavailableError where no daemon listens, TocsinError where it does not answer us.
    """
    try:
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
            connection.settimeout(PATIENCE)
            with reachable(state_dir) as path:
                connection.connect(path)
            connection.sendall(msgspec.json.encode(Request(verb, args)) + b"\n")
            with connection.makefile("rb") as answers:
                return _final(answers.readline, tell)
    except PermissionError as error:
        raise TocsinError(f"{state_dir / NAME}: permission denied; run this as the daemon's user or as root") from error
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
        raise UnavailableError(
            f"no daemon listens at {state_dir / NAME}; start one, or name its directory with --state-dir"
        ) from error
    except (ConnectionResetError, BrokenPipeError) as error:
        raise TocsinError(_UNANSWERED) from error
    except OSError as error:
        raise TocsinError(f"{state_dir / NAME}: {error}") from error


def _final(readline: Callable[[int], bytes], tell: Callable[[Reply], None]) -> Reply:
    while line := readline(MAX_REPLY + 1):
        try:
            reply = msgspec.json.decode(line, type=Reply)
        except msgspec.DecodeError as error:
            raise TocsinError(f"the daemon's answer is none: {error}") from error
        if reply.state in FINAL:
            return reply
        tell(reply)
    raise TocsinError(_UNANSWERED)
