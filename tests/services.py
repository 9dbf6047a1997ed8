"""Real servers for tests: started on free loopback ports in temporary directories, and stopped.

A missing one skips on a laptop, with its Debian package in the reason, and fails where CI is set.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")
CI = os.environ.get("CI", "") not in ("", "0", "false")
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]
_ports = itertools.count()


def program(name: str, package: str) -> str:
    """The path of a server's program; see the module for what happens without it."""
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    path = shutil.which(name, path=search)
    if path is None:
        reason = f"{name} is not installed: apt-get install {package}"
        if CI:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return path


def free_port() -> int:
    """A loopback port that nobody holds now; never the same twice in one run, whichever worker asks."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    while True:
        port = 20000 + worker * 3000 + (os.getpid() % 50 * 60 + next(_ports)) % 3000
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Poll `condition`; fails the test when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"timed out after {seconds:g} s waiting for {what}")
        time.sleep(0.02)


async def eventually(condition: Callable[[], T], what: str, seconds: float = 20.0) -> T:
    """Poll `condition` on the loop until it returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"timed out after {seconds:g} s waiting for {what}")
        await asyncio.sleep(0.02)
    return value


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """A child process of ours with a port; ended by its own process, never by name."""

    host = "127.0.0.1"

    def __init__(self, directory: Path, port: int | None = None) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(self._ready, f"{type(self).__name__} on port {self.port}", 40)

    def _ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            log = (self.directory / "server.log").read_text(errors="replace")
            pytest.fail(f"{type(self).__name__} ended at start:\n{log[-2000:]}")
        return listens(self.port)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


class Mosquitto(Server):
    """A broker that keeps nothing on disk, so that kill and start is a broker with its state wiped."""

    def __init__(self, directory: Path, port: int | None = None, settings: str = "allow_anonymous true") -> None:
        super().__init__(directory, port)
        self.settings = settings
        self.program = program("mosquitto", "mosquitto")

    @property
    def url(self) -> str:
        return f"mqtt://{self.host}:{self.port}"

    def command(self) -> list[str]:
        config = self.directory / "mosquitto.conf"
        config.write_text(
            f"listener {self.port} {self.host}\npersistence false\nmax_queued_messages 0\n"
            f"user root\nlog_type error\nlog_type warning\n{self.settings}\n"
        )
        return [self.program, "-c", str(config)]


class MariaDB(Server):
    """A server with a private data directory; `database()` gives the URL of a fresh, empty one."""

    def __init__(self, directory: Path, port: int | None = None) -> None:
        super().__init__(directory, port)
        self.program = program("mariadbd", "mariadb-server")
        self.data = directory / "data"
        self.socket = directory / "sock"
        self._names = itertools.count(1)
        if not self.data.exists():
            installer = program("mariadb-install-db", "mariadb-server")
            subprocess.run(
                [
                    installer,
                    "--no-defaults",
                    f"--datadir={self.data}",
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                    "--force",  # a bare root may not even resolve its own name
                    *self._user(),
                ],
                check=True,
                capture_output=True,
            )

    def command(self) -> list[str]:
        return [
            self.program,
            "--no-defaults",
            f"--datadir={self.data}",
            f"--socket={self.socket}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=128M",
            *self._user(),
        ]

    @staticmethod
    def _user() -> list[str]:
        return ["--user=root"] if os.geteuid() == 0 else []

    def execute(self, statement: str) -> str:
        client = program("mariadb", "mariadb-client")
        done = subprocess.run(
            [client, "--no-defaults", f"--socket={self.socket}", "-uroot", "-N", "-e", statement],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def database(self) -> str:
        name = f"tocsin_{next(self._names)}"
        self.execute(f"DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name} CHARACTER SET utf8mb4")
        return f"mysql://root@{self.host}:{self.port}/{name}"


class Redis(Server):
    def __init__(self, directory: Path, port: int | None = None) -> None:
        super().__init__(directory, port)
        self.program = program("redis-server", "redis-server")

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    def command(self) -> list[str]:
        return [self.program, "--port", str(self.port), "--bind", self.host, "--save", "", "--appendonly", "no"]


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.stop()
