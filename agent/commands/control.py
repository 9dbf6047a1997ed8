"""The control socket: the command line's mouth on this host, for root and for the daemon's own user.

One request a connection, one JSON line: `{"verb": "silence", "args": {…}}`; answers are replies, one a line, the last
one final. Who asks is what the kernel says of the other end, never what the other end says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec

from agent.commands.payload import MAX_PAYLOAD, Args, Reply, encode_reply

log = logging.getLogger(__name__)

NAME = "agent.sock"
PATIENCE = 10.0
"""Seconds in which a request must have been written."""
_PEER = struct.Struct("3i")

Ask = Callable[[str, Args, str, Callable[[Reply], None]], Awaitable[Reply]]


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    verb: str
    args: Args = {}


class Control:
    """`ask` is the desk's: (verb, args, actor, tell) -> the final reply."""

    def __init__(self, directory: Path, ask: Ask) -> None:
        self._directory = directory
        self._ask = ask
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen; where that cannot be, the daemon does without, and says so."""
        try:
            _check_directory(self._directory)
            with contextlib.suppress(FileNotFoundError):
                (self._directory / NAME).unlink()  # of a daemon that was killed: the spool is locked, it is ours now
            with reachable(self._directory) as path:
                listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                try:
                    listener.bind(path)
                    (self._directory / NAME).chmod(0o600)
                except BaseException:
                    listener.close()
                    raise
            self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_PAYLOAD)
        except (OSError, ValueError) as error:
            log.warning("no control socket", extra={"directory": str(self._directory), "error": str(error)})

    async def aclose(self) -> None:
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(FileNotFoundError):
                (self._directory / NAME).unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (OSError, TimeoutError, ValueError) as error:  # gone, too slow, or a line too long
            log.info("control socket: a request was not answered", extra={"error": str(error)})
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def tell(reply: Reply) -> None:
            if not writer.is_closing():
                writer.write(encode_reply(reply) + b"\n")

        user = _peer(writer)
        if user not in (0, os.geteuid()):
            log.warning("control socket: refused", extra={"uid": user})
            return
        async with asyncio.timeout(PATIENCE):
            line = await reader.readline()
        try:
            request = msgspec.json.decode(line, type=Request)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"no request: {error}") from error
        final = await self._ask(request.verb, request.args, f"cli:{user} {_name(user)}".strip(), tell)
        if final.state == "refused":  # the others were told on their way
            tell(final)
        await writer.drain()


@contextlib.contextmanager
def reachable(directory: Path) -> Iterator[str]:
    """A name for the socket that fits into an address: these hold 107 bytes, and a directory's path may be longer."""
    path = str(directory / NAME)
    if len(os.fsencode(path)) < 108:
        yield path
        return
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{NAME}"
    finally:
        os.close(handle)


def _check_directory(directory: Path) -> None:
    """Who can write to it could put a socket of their own in the place of ours."""
    status = directory.stat()
    if status.st_uid not in (0, os.geteuid()) or (status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX):
        raise ValueError("the state directory can be written by others; expected chmod go-w")


def _peer(writer: asyncio.StreamWriter) -> int:
    """The user id of the process at the other end."""
    raw = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _, user, _ = _PEER.unpack(raw)
    return int(user)


def _name(user: int) -> str:
    import pwd  # noqa: PLC0415 - only who is asked needs names

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return ""
