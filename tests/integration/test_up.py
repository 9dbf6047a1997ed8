"""`tocsin up` as a process: everything on a bare laptop from one command; and the broker inside it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.broker import EmbeddedBroker
from agent.clock import SystemClock
from agent.config.schema import MqttConfig
from agent.config.units import Duration
from agent.errors import EXIT_OK, EXIT_UNAVAILABLE, UnavailableError
from agent.transport.mqtt import Backoff, Link, Message, Session
from tests.services import eventually, free_port, wait_until

TOCSIN = [sys.executable, "-m", "agent"]


class Up:
    """`tocsin up` in an empty directory, with nothing configured."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.web, self.mqtt = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.web}"
        self.starts = 0
        self.environment = {k: v for k, v in os.environ.items() if k not in ("XDG_STATE_HOME", "TOCSIN_CONFIG")}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        listen = ["--listen", f"127.0.0.1:{self.web}", "--mqtt", f"127.0.0.1:{self.mqtt}", "--interval", "500ms"]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*TOCSIN, "up", *listen, *more],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.starts += 1
        wait_until(lambda: self.log.count("tocsin is up") == self.starts, "the welcome", 40)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*TOCSIN, *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Exit code, and the seconds that it took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(20), time.monotonic() - began


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path)
    yield up
    if up.process is not None and up.process.poll() is None:
        up.process.kill()
        up.process.wait()


def online(up: Up) -> dict[str, Any] | None:
    hosts: list[dict[str, Any]] = up.get("hosts")["hosts"]
    return next((host for host in hosts if host["state"] == "online" and host["health"]), None)


def test_one_command_shows_this_machine(up: Up) -> None:
    """No file, no option that matters: dashboard, moving figures, the stream; SIGTERM ends it with 0 within 10 s."""
    up.start()
    assert up.url in up.log
    assert f"mosquitto_sub -h 127.0.0.1 -p {up.mqtt}" in up.log
    assert "no token: alerts are printed here" in up.log
    with urllib.request.urlopen(up.url, timeout=10) as page:
        assert "text/html" in page.headers["Content-Type"]
    wait_until(lambda: online(up) is not None, "the host online")
    host = online(up)
    assert host is not None

    def points() -> int:
        found = up.get(f"series?host={host['host']}&metric=memory.used_percent")["series"]
        return len(found[0]["points"]) if found else 0

    wait_until(lambda: points() >= 1, "a point")
    first = points()
    wait_until(lambda: points() > first, "another point")
    state = up.directory / ".tocsin"
    assert (state / "collector.db").exists()
    assert [path.name for path in (state, *state.iterdir()) if path.stat().st_mode & 0o077] == [], "others can read it"
    code, seconds = up.stop()
    assert code == EXIT_OK, up.log
    assert seconds < 10
    assert "Traceback" not in up.log


def test_ctrl_c_is_an_end_and_a_new_start_goes_on(up: Up) -> None:
    """SIGINT ends it as well, and what was measured is still there after it."""
    up.start()
    wait_until(lambda: online(up) is not None, "the host online")
    assert up.stop(signal.SIGINT)[0] == EXIT_OK
    up.start()
    wait_until(lambda: bool(up.get("hosts")["hosts"]), "the host known from before")
    assert up.stop()[0] == EXIT_OK


def test_the_commands_see_it(up: Up) -> None:
    """`top` draws it, `alert test` arrives at every station, `incidents` lists it."""
    up.start()
    wait_until(lambda: online(up) is not None, "the host online")
    name = (online(up) or {})["host"]
    broker = f"mqtt://127.0.0.1:{up.mqtt}"
    fleet = up.run("top", "--once", "--mqtt", broker)
    assert (fleet.returncode, fleet.stderr) == (EXIT_OK, "")
    assert name in fleet.stdout
    one = up.run("top", name, "--once", "--mqtt", broker)
    assert "memory" in one.stdout
    assert "no open incident" in one.stdout
    test = up.run("alert", "test", "--state-dir", ".tocsin", "--url", up.url)
    assert test.returncode == EXIT_OK, test.stdout + test.stderr
    for station in ("taken up", "incident opened", "on the terminal", "incident resolved", "committed by"):
        assert station in test.stdout
    times = [float(line.split()[0]) for line in test.stdout.splitlines()]
    assert times == sorted(times)
    assert "[RESOLVED: test-alert" in up.log
    listed = up.run("incidents", "--all", "--url", up.url)
    assert "test-alert" in listed.stdout
    assert "no open incident" in up.run("incidents", "--url", up.url).stdout
    assert up.stop()[0] == EXIT_OK


def test_a_taken_state_directory_names_the_option(up: Up) -> None:
    up.start()
    ports = ["--listen", f"127.0.0.1:{free_port()}", "--mqtt", f"127.0.0.1:{free_port()}"]
    done = up.run("up", *ports)
    assert done.returncode == EXIT_UNAVAILABLE
    assert done.stderr.splitlines()[-1].endswith(
        "in use by another process; choose another directory with --state-dir DIR"
    )
    assert "Traceback" not in done.stderr
    assert up.stop()[0] == EXIT_OK


@pytest.mark.parametrize("option", ["--listen", "--mqtt"])
def test_a_taken_port_names_the_option(option: str, tmp_path: Path) -> None:
    """Exit 69, one line, which option to use; nothing is left behind."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen(1)
        taken = f"127.0.0.1:{holder.getsockname()[1]}"
        other = "--mqtt" if option == "--listen" else "--listen"
        arguments = [option, taken, other, f"127.0.0.1:{free_port()}", "--state-dir", str(tmp_path / "state")]
        done = subprocess.run(
            [*TOCSIN, "up", *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
        )
    assert done.returncode == EXIT_UNAVAILABLE
    assert done.stderr == (
        f"tocsin: cannot listen on {taken}: Address already in use; choose another address with {option} HOST:PORT\n"
    )
    assert not (tmp_path / "state").exists()


# -- the broker


class Client:
    """A link of ours, and what it has heard."""

    def __init__(self, port: int, name: str, *topics: str, will: bytes | None = None) -> None:
        self.heard: list[Message] = []
        config = MqttConfig(
            url=f"mqtt://127.0.0.1:{port}",
            keepalive=Duration(5),
            connect_timeout=Duration(5),
            reconnect_spread=Duration(1),
        )
        self.link = Link(
            config,
            identifier=name,
            subscriptions=topics,
            clock=SystemClock(),
            will=None if will is None else lambda _: (f"t/{name}/status", will),
            backoff=Backoff(0.1, 0.2),
        )
        self.session: Session | None = None
        self._task = asyncio.create_task(self.link.run(self._on_session))

    async def _on_session(self, session: Session) -> None:
        self.session = session
        try:
            async for message in session.messages():
                self.heard.append(message)
        finally:
            self.session = None

    def on(self, topic: str) -> list[Message]:
        """amqtt hands a new client what is kept on the subscriptions of others, too, and so some of it twice."""
        return [message for message in self.heard if message.topic == topic]

    async def ready(self) -> Session:
        return await eventually(lambda: self.session, "a session")

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


async def test_the_broker_keeps_its_word() -> None:
    """QoS 1 both ways, in order and complete; retained for who comes later; the will of who vanishes, retained too."""
    port = free_port()
    async with EmbeddedBroker("127.0.0.1", port):
        reader = Client(port, "reader", "t/#")
        await reader.ready()
        writer = Client(port, "writer", will=b"gone")
        session = await writer.ready()
        await session.publish("t/kept", b"old", retain=True)
        await session.publish("t/kept", b"new", retain=True)
        await asyncio.gather(*(session.post("t/many", str(number).encode()) for number in range(500)))
        many = lambda: [int(message.payload) for message in reader.heard if message.topic == "t/many"]  # noqa: E731
        await eventually(lambda: len(many()) >= 500, "all of them")
        assert sorted(many()) == list(range(500))
        late = Client(port, "late", "t/kept")
        await eventually(lambda: late.on("t/kept"), "the retained one")
        assert {(message.payload, message.retain) for message in late.on("t/kept")} == {(b"new", True)}
        client = writer.link._client
        assert client is not None
        client._socket.shutdown(socket.SHUT_RDWR)  # no DISCONNECT: as if it had died
        will = lambda: [m.payload for m in reader.heard if m.topic == "t/writer/status"]  # noqa: E731
        await eventually(lambda: will() == [b"gone"], "the will")
        later = Client(port, "later", "t/writer/status")
        await eventually(lambda: {m.payload for m in later.on("t/writer/status")} == {b"gone"}, "the will kept")
        for each in (reader, writer, late, later):
            await each.end()


async def test_a_taken_port_is_told() -> None:
    """As an error of ours, not amqtt's traceback."""
    port = free_port()
    async with EmbeddedBroker("127.0.0.1", port):
        with pytest.raises(UnavailableError, match="cannot listen on"):
            async with EmbeddedBroker("127.0.0.1", port):
                pass


async def test_it_listens_on_an_address_with_colons() -> None:
    """`--mqtt [::1]:PORT`."""
    port = free_port()
    async with EmbeddedBroker("::1", port):
        _, writer = await asyncio.open_connection("::1", port)
        writer.close()
