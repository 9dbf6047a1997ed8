"""Agents as processes in directories of their own, and what can be seen of them from outside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.clock import SystemClock
from agent.collector.service import serve
from agent.config.load import load
from agent.errors import EXIT_OK
from tests.fakes.slack import FakeSlack
from tests.services import eventually, free_port

SWITCH = '''\
"""Reads a number from a file: what a test sets, the probe measures."""

from pathlib import Path

from agent.plugin import Metric, Options, Probe, gauge


class SwitchOptions(Options, frozen=True):
    path: str


class Switch(Probe):
    options: SwitchOptions

    async def collect(self) -> list[Metric]:
        return [gauge("switch.level", float(Path(self.options.path).read_text()))]
'''
BLOCK = '''\
"""Holds up the whole event loop, which a plugin must not do, once its file is there."""

import time
from pathlib import Path

from agent.plugin import Metric, Options, Probe


class BlockOptions(Options, frozen=True):
    path: str


class Block(Probe):
    options: BlockOptions

    async def collect(self) -> list[Metric]:
        while Path(self.options.path).exists():
            time.sleep(0.05)
        return []
'''
FLOOD = '''\
"""Prints far too much."""

from agent.plugin import Metric, Probe


class Flood(Probe):
    async def collect(self) -> list[Metric]:
        for _ in range(200):
            print("z" * 524288)
        return []
'''
RULE = '[[thresholds]]\nname = "level"\nmetric = "switch.level"\nwarning = 50\ncritical = 90\n'


class Agent:
    """`tocsin run` in a directory of its own."""

    def __init__(self, directory: Path, broker: str, *, more: str = "", slack: FakeSlack | None = None) -> None:
        self.directory = directory
        self.level = directory / "level"
        self.level.write_text("10")
        self.config = directory / "agent.toml"
        plugins = directory / "plugins"
        plugins.mkdir(mode=0o755)
        for name, text in (("switch", SWITCH), ("block", BLOCK), ("flood", FLOOD)):
            (plugins / f"{name}.py").write_text(text)
            (plugins / f"{name}.py").chmod(0o644)
        tell = ""
        if slack is not None:
            tell = f'[slack]\nbot_token = {{ env = "TEST_SLACK" }}\nbase_url = "{slack.url}"\ntimeout = "2s"\n'
        self.text = (
            f'[agent]\nhost = "t-1"\nstate_dir = "{directory}/state"\ninterval = "500ms"\nplugin_dirs = ["{plugins}"]\n'
            f'[mqtt]\nurl = "{broker}"\nreconnect_spread = "200ms"\nconnect_timeout = "2s"\n'
            '[spool]\nresend_after = "1s"\n'  # what is sent before a collector listens must not be waited for
            f'[probes.switch]\ninterval = "200ms"\npath = "{self.level}"\n{tell}{more}\n'
        )
        self.config.write_text(self.text + RULE)
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {**os.environ, "TEST_SLACK": slack.token if slack else ""}

    def start(self, **environment: str) -> None:
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agent", "run", "-c", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment | environment,
            )

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    @property
    def spool(self) -> Path:
        return self.directory / "state" / "spool.db"

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    async def stop(self) -> float:
        """SIGTERM; the seconds it took. Fails unless it ended well within 10."""
        assert self.process is not None
        began = time.monotonic()
        self.process.terminate()
        code = await asyncio.to_thread(self.process.wait, 10)
        assert code == EXIT_OK, self.log
        return time.monotonic() - began

    async def says(self, text: str, times: int = 1) -> None:
        await eventually(lambda: self.log.count(text) >= times, f"{text!r} in the log")

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


@contextlib.asynccontextmanager
async def collecting(directory: Path, broker: str) -> Any:
    """A collector in this process; gives what runs, once it listens."""
    path = directory / "collector.toml"
    path.write_text(
        f'[agent]\nstate_dir = "{directory}/collector"\n[mqtt]\nurl = "{broker}"\nreconnect_spread = "200ms"\n'
        f'[collector]\nlisten = "127.0.0.1:{free_port()}"\n'
    )
    stop, there = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(load(path), clock=SystemClock(), ready=there.set_result, stop=stop))
    try:
        yield await asyncio.wait_for(there, 20)
    finally:
        stop.set()
        await task


def spooled(path: Path) -> set[tuple[str, int]] | None:
    """(epoch, seq) of every envelope on disk, from a copy, as a daemon locks its spool; None if that is torn."""
    with tempfile.TemporaryDirectory() as directory:
        for file in path.parent.glob(path.name + "*"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(file, directory)
        with contextlib.closing(sqlite3.connect(Path(directory, path.name))) as database:
            try:
                return set(database.execute("SELECT epoch, seq FROM envelopes"))
            except sqlite3.DatabaseError:
                return None


def waiting(agent: Agent) -> set[tuple[str, int]]:
    return spooled(agent.spool) or set()


def gone(agent: Agent, before: set[tuple[str, int]]) -> bool:
    """None of these is in the spool any more: the collector has acknowledged them."""
    now = spooled(agent.spool)
    return now is not None and not before & now


def heard(manager: socket.socket) -> list[str]:
    messages: list[str] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            messages.append(manager.recv(4096).decode())
    return messages


Make = Callable[..., Agent]
