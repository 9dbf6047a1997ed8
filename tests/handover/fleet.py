"""The parts: whole daemons in this process, a collector as a process of its own, and who breaks what when."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from agent.clock import SystemClock
from agent.config.load import load
from agent.daemon.service import Daemon
from agent.daemon.setup import Setup
from agent.model import Incident, Metric, ProbeResult, Severity
from agent.probing.loader import discover
from tests.fakes.slack import FakeSlack
from tests.services import eventually, free_port

TOKEN = "TEST_HANDOVER_SLACK"
TAKEOVER_AFTER = 2.0
LEVELS = {Severity.OK: 10.0, Severity.WARNING: 60.0, Severity.CRITICAL: 95.0}


SHARE = 5
"""Hosts that write into one channel, so that of what they write at once some is taken and not shown."""


def channel(number: int) -> str:
    return f"#c-{number // SHARE}"


def slack_table(slack: FakeSlack, hosts: int) -> str:
    routes = "".join(
        f'[[slack.routes]]\nmatch = {{ host = "h-{number}" }}\nchannel = "{channel(number)}"\n'
        for number in range(hosts)
    )
    return (
        f'[slack]\nbot_token = {{ env = "{TOKEN}" }}\nbase_url = "{slack.url}"\ntimeout = "2s"\n'
        f'channel = "#alerts"\ntakeover_after = "{TAKEOVER_AFTER:g}s"\n{routes}'
    )


class Host:
    """A daemon without probes: what it measures is what the test says."""

    def __init__(self, directory: Path, number: int, broker: str, table: str) -> None:
        self.name = f"h-{number}"
        self.severity = Severity.OK
        place = directory / self.name
        place.mkdir()
        file = place / "agent.toml"
        file.write_text(
            f'[agent]\nhost = "{self.name}"\nstate_dir = "{place}/state"\n[mqtt]\nurl = "{broker}"\n'
            f'reconnect_spread = "500ms"\n[spool]\nresend_after = "2s"\n{table}'
            '[[thresholds]]\nname = "level"\nmetric = "switch.level"\nwarning = 50\ncritical = 90\nflapping = false\n'
        )
        self.daemon = Daemon(Setup(load(file), discover(()), []), clock=SystemClock())
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self.daemon.run(self._stop))

    async def started(self) -> None:
        await eventually(lambda: self.daemon._opened, f"{self.name} to have its files open")

    def turn(self, severity: Severity) -> None:
        self.severity = severity
        metric = Metric("switch.level", LEVELS[severity])
        self.daemon._take(ProbeResult("switch", time.time(), "ok", 0.0, (metric,)))

    @property
    def writer(self) -> str:
        return self.daemon._parts.handover.writer

    def unfinished(self) -> list[str]:
        rows = self.daemon._parts.outbox.shown()
        return [row.incident for row in rows if row.state != "delivered" or row.version < row.desired]

    def incidents(self) -> list[Incident]:
        """All there ever were, as they stand."""
        return [row.incident for row in self.daemon._parts.outbox._rows.values()]

    async def stop(self) -> None:
        self._stop.set()
        await self._task


class Collector:
    """`tocsin collect`, to be killed."""

    def __init__(self, directory: Path, broker: str, slack: FakeSlack, table: str) -> None:
        self.directory = directory
        self.kills = 0
        self.file = directory / "collector.toml"
        self.file.write_text(
            f'[agent]\nstate_dir = "{directory}/collector"\n[mqtt]\nurl = "{broker}"\nreconnect_spread = "200ms"\n'
            f'[collector]\nlisten = "127.0.0.1:{free_port()}"\n{table}'
        )
        self._environment = {**os.environ, TOKEN: slack.token}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.directory / "collector.log").open("ab") as log:
            command = [sys.executable, "-m", "agent", "collect", "-c", str(self.file)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.kills += 1

    @property
    def log(self) -> str:
        return (self.directory / "collector.log").read_text(errors="replace")


def next_severity(die: random.Random, present: Severity) -> Severity:
    return die.choice([severity for severity in LEVELS if severity is not present])
