"""The control socket: for root and the daemon's own user, as the kernel knows them."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from agent.commands import control
from agent.commands.client import ask
from agent.commands.control import NAME, Control
from agent.commands.payload import Args, Reply, new_id
from agent.errors import TocsinError, UnavailableError


class Desk:
    def __init__(self) -> None:
        self.asked: list[tuple[str, Args, str]] = []

    async def ask(self, verb: str, args: Args, actor: str, tell) -> Reply:
        self.asked.append((verb, args, actor))
        replies = [Reply(new_id(), "web-1", 1.0, state) for state in ("accepted", "running")]
        final = Reply(new_id(), "web-1", 1.0, "refused" if verb == "nope" else "done", "here you are", {"ok": True})
        for reply in replies:
            tell(reply)
        if final.state == "done":
            tell(final)
        return final


def allow(directory: Path, mode: int) -> None:
    directory.chmod(mode)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def server(tmp_path: Path, desk: Desk):
    allow(tmp_path, 0o700)
    server = Control(tmp_path, desk.ask)
    await server.open()
    yield server
    await server.aclose()


async def test_asked_by_the_command_line(server: Control, desk: Desk, tmp_path: Path) -> None:
    told: list[str] = []
    reply = await asyncio.to_thread(ask, tmp_path, "probe", {"name": "disk"}, lambda reply: told.append(reply.state))
    assert (reply.state, reply.text, told) == ("done", "here you are", ["accepted", "running"])
    [(verb, args, actor)] = desk.asked
    assert (verb, args) == ("probe", {"name": "disk"})
    assert actor.startswith("cli:")
    assert (await asyncio.to_thread(ask, tmp_path, "nope", {})).state == "refused"
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


async def test_another_user_is_not_heard(server: Control, desk: Desk, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(control, "_peer", lambda writer: 4242)
    with pytest.raises(TocsinError, match="without an answer"):
        await asyncio.to_thread(ask, tmp_path, "status", {})
    assert desk.asked == []


@pytest.mark.parametrize(
    "line",
    [b"\n", b"{}\n", b"[]\n", b'{"verb":1}\n', b'{"verb":"status","uid":0}\n', b"\xff\n", b"x" * 100_000 + b"\n"],
)
async def test_what_is_no_request_is_not_answered(server: Control, desk: Desk, tmp_path: Path, line: bytes) -> None:
    def send() -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(tmp_path / NAME))
            try:
                connection.sendall(line)
                return connection.recv(1000)
            except (BrokenPipeError, ConnectionResetError):
                return b""

    assert await asyncio.to_thread(send) == b""
    assert desk.asked == []
    assert (await asyncio.to_thread(ask, tmp_path, "status", {})).state == "done"


async def test_without_a_daemon_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="no daemon listens"):
        ask(tmp_path, "status", {})
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / NAME))
    with pytest.raises(UnavailableError, match="no daemon listens"):
        ask(tmp_path, "status", {})


async def test_the_socket_of_a_killed_daemon_is_replaced(desk: Desk, tmp_path: Path) -> None:
    allow(tmp_path, 0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / NAME))
    server = Control(tmp_path, desk.ask)
    await server.open()
    assert (await asyncio.to_thread(ask, tmp_path, "status", {})).state == "done"
    await server.aclose()
    assert not (tmp_path / NAME).exists()


async def test_a_directory_that_others_can_write_to_has_no_socket(desk: Desk, tmp_path: Path, caplog) -> None:
    allow(tmp_path, 0o777)
    await Control(tmp_path, desk.ask).open()
    assert not (tmp_path / NAME).exists()
    assert "no control socket" in caplog.text


async def test_a_path_longer_than_an_address(desk: Desk, tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 100) / ("y" * 100)
    directory.mkdir(parents=True, mode=0o700)
    server = Control(directory, desk.ask)
    await server.open()
    assert (await asyncio.to_thread(ask, directory, "status", {})).state == "done"
    await server.aclose()
