"""The processes that are killed: agents and the collector, run as users run them, by the command line."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

TOCSIN = str(Path(sys.executable).parent / "tocsin")
JOURNAL = """
CREATE TABLE journal (epoch TEXT, seq INTEGER, topic TEXT);
CREATE TRIGGER journal_insert AFTER INSERT ON envelopes
BEGIN INSERT INTO journal VALUES (NEW.epoch, NEW.seq, NEW.topic); END;
INSERT INTO journal SELECT epoch, seq, topic FROM envelopes;
"""


class Process:
    """One command in a directory of its own; `kill` is kill -9."""

    def __init__(self, name: str, directory: Path, arguments: list[str]) -> None:
        self.name = name
        self.directory = directory
        self.arguments = arguments
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        self.starts += 1
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [TOCSIN, *self.arguments],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self, seconds: float = 20) -> int:
        """SIGTERM; the exit code. Killed when it does not end in time, which then shows as -9."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def agent(directory: Path, host: str, broker: str, per_second: int) -> Process:
    """An agent at `per_second` envelopes a second, its spool under oath."""
    home = directory / host
    plugins = home / "plugins"
    plugins.mkdir(parents=True)
    plugins.chmod(0o755)
    shutil.copy(Path(__file__).with_name("probe.py"), plugins / "chaos.py")
    (plugins / "chaos.py").chmod(0o644)
    interval = 4 / per_second
    probes = "\n".join(
        f'[probes.chaos{i}]\nplugin = "chaos"\ninterval = "{interval * 1000:g}ms"\ntimeout = "{interval * 1000:g}ms"'
        for i in range(4)
    )
    (home / "agent.toml").write_text(
        f'[agent]\nhost = "{host}"\nstate_dir = "{home}/state"\nplugin_dirs = ["{plugins}"]\n'
        f'[mqtt]\nurl = "{broker}"\nreconnect_spread = "2s"\nconnect_timeout = "3s"\nkeepalive = "5s"\n'
        f'[spool]\nresend_after = "3s"\nmin_free_disk = "0%"\n{probes}\n'
    )
    return Process(host, home, ["run", "-c", str(home / "agent.toml")])


def swear_in(spool: Path) -> None:
    """Add the journal and its trigger to a spool database that nobody has open."""
    connection = sqlite3.connect(spool)
    connection.executescript(JOURNAL)
    connection.close()


def collector(directory: Path, broker: str, store: str, port: int) -> Process:
    home = directory / "collector"
    home.mkdir(parents=True)
    (home / "agent.toml").write_text(
        f'[agent]\nstate_dir = "{home}/state"\n'
        f'[mqtt]\nurl = "{broker}"\nreconnect_spread = "1s"\nconnect_timeout = "3s"\nkeepalive = "5s"\n'
        f'[collector]\nstore = "{store}"\nlisten = "127.0.0.1:{port}"\n'
    )
    return Process("collector", home, ["collect", "-c", str(home / "agent.toml")])
