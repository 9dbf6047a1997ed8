"""The collector as a process of its own: killed in the middle of a stream, and stopped as asked."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_ingest import Host, host
from tests.services import Mosquitto, eventually, free_port, wait_until

pytestmark = pytest.mark.services

PROGRAM = """
import sys
from pathlib import Path
from agent import log
from agent.collector.service import collect
from agent.config.schema import AgentConfig, CollectorConfig, Config, MqttConfig
log.setup()
broker, listen, directory = sys.argv[1:]
collect(Config(
    agent=AgentConfig(state_dir=Path(directory)),
    mqtt=MqttConfig(url=broker),
    collector=CollectorConfig(listen=listen, name="test"),
))
"""


@contextlib.contextmanager
def collector(broker: Mosquitto, port: int, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", PROGRAM, broker.url, f"127.0.0.1:{port}", str(directory)]
    with (directory / "collector.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def resend(web: Host, wanted: set[int], seconds: float = 20.0) -> None:
    """As an agent does: whatever is not acknowledged is said again."""
    async with asyncio.timeout(seconds):
        while missing := wanted - web.acked:
            for seq in sorted(missing):
                await web.say("metrics/cpu", web.sample(seq, float(seq)))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    while wanted - web.acked:  # noqa: ASYNC110 - the other end is a real process
                        await asyncio.sleep(0.02)


async def test_kill_9_loses_and_doubles_nothing(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """Killed while envelopes stream in, twice: what was acknowledged is there, and in the end all is there once."""
    port = free_port()
    database = tmp_path / "collector.db"
    async with host(mosquitto) as web:
        for start in (1, 201):
            with collector(mosquitto, port, tmp_path) as process:
                await resend(web, {start})
                for seq in range(start, start + 200):
                    await web.say("metrics/cpu", web.sample(seq, float(seq)))
                await eventually(lambda start=start: len(web.acked) > start + 10, "acks in the middle")
                process.send_signal(signal.SIGKILL)
                process.wait()
            with sqlite3.connect(database) as connection:
                stored = {seq for (seq,) in connection.execute("SELECT seq FROM envelopes")}
            assert web.acked <= stored
        with collector(mosquitto, port, tmp_path):
            await resend(web, set(range(1, 401)))
    with sqlite3.connect(database) as connection:
        counts = connection.execute("SELECT COUNT(*), COUNT(DISTINCT seq), MAX(seq) FROM envelopes").fetchone()
        [samples] = connection.execute("SELECT COUNT(*) FROM samples").fetchone()
    assert counts == (400, 400, 400)
    assert samples == 800


async def test_sigterm_ends_it_cleanly(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """Exit status 0, no traceback, the database closed with nothing left in its log; SIGHUP ends nothing."""
    async with host(mosquitto) as web:
        with collector(mosquitto, free_port(), tmp_path) as process:
            await resend(web, {1, 2})
            process.send_signal(signal.SIGHUP)
            await resend(web, {1, 2, 3})
            process.terminate()
            await asyncio.to_thread(wait_until, lambda: process.poll() is not None, "the end", 10)
            assert process.returncode == 0
    text = (tmp_path / "collector.log").read_text()
    assert "collector stopped" in text
    assert "Traceback" not in text
    assert not (tmp_path / "collector.db-wal").exists()
