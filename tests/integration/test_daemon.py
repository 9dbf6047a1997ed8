"""The daemon as a process: started by the command line, on real files, a real broker and the stand-in Slack."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.clock import SystemClock
from agent.collector.service import Collector, serve
from agent.config.load import load
from agent.daemon import watchdog
from agent.daemon.guard import guard
from agent.errors import EXIT_OK, EXIT_UNAVAILABLE, SpoolError
from tests.fakes.clock import ManualClock
from tests.fakes.slack import FakeSlack, html, rate_limited, silence
from tests.services import Mosquitto, eventually, free_port

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


Make = Callable[..., Agent]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    agents: list[Agent] = []

    def make(broker: str, **more: Any) -> Agent:
        home = tmp_path / f"agent{len(agents)}"
        home.mkdir()
        agents.append(Agent(home, broker, **more))
        return agents[-1]

    yield make
    for agent in agents:
        agent.end()


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


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """systemd's end of the notify socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


def heard(manager: socket.socket) -> list[str]:
    messages: list[str] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            messages.append(manager.recv(4096).decode())
    return messages


# -- everything absent


@pytest.mark.services
async def test_with_everything_absent_it_runs_and_all_arrives_later(make: Make, tmp_path: Path) -> None:
    """No broker, database or Slack at start: it spools and alerts in its log; when they come, nothing is missing."""
    broker = Mosquitto(tmp_path / "mosquitto")
    slack_port = free_port()
    slack = FakeSlack(port=slack_port)
    slack.url = f"http://127.0.0.1:{slack_port}/api/"
    agent = make(broker.url, slack=slack)
    agent.level.write_text("60")
    agent.start()
    await agent.says("incident changed")
    await agent.says("broker cannot be used")
    await agent.says("delivery failed")
    await eventually(lambda: len(waiting(agent)) > 10, "envelopes in the spool")
    before = waiting(agent)
    slack.add_channel("#alerts")
    broker.start()
    try:
        async with slack, collecting(tmp_path, broker.url) as collector:
            await slack.until(lambda: slack.messages("#alerts"))
            await eventually(lambda: gone(agent, before), "all of the outage acknowledged")
            [incident], _ = await collector.reader.incidents("t-1", "open", 10, "")
            assert msg(incident)["threshold"] == "level"
            assert collector.stats.conflicts == collector.stats.quarantined == 0
            assert await agent.stop() < 10
    finally:
        broker.stop()


def msg(row: Any) -> dict[str, Any]:
    """A row of the reader as a dict, whatever its type."""
    if isinstance(row, dict):
        return row
    return {name: getattr(row, name) for name in getattr(row, "__struct_fields__", None) or row.__dataclass_fields__}


# -- from breach to Slack


@pytest.mark.services
async def test_a_breach_is_one_message_through_kill_and_restart(make: Make) -> None:
    """No broker: one message ≤ 2 s after the breach; rise and recovery edit it, kill -9 in between doubles nothing."""
    async with FakeSlack() as slack:
        slack.add_channel("#alerts")
        agent = make(f"mqtt://127.0.0.1:{free_port()}", slack=slack)
        agent.start()
        await agent.says("agent started")
        agent.level.write_text("60")
        began = time.monotonic()
        await slack.until(lambda: slack.messages("#alerts"))
        assert slack.calls[0].at - began < 2.2  # two seconds after the sample, which comes every 0.2 s
        await agent.says("incident delivered")
        agent.kill()
        agent.start()
        await agent.says("agent started", 2)
        agent.level.write_text("95")
        [said] = slack.messages("#alerts")
        await slack.until(lambda: said.edits >= 1 and slack.replies("#alerts", said.ts))
        agent.kill()
        agent.level.write_text("10")
        agent.start()
        await slack.until(lambda: "RESOLVED" in said.everything.upper())
        assert slack.messages("#alerts") == [said]
        assert slack.violations == []
        await agent.stop()


@pytest.mark.services
async def test_slacks_troubles_deliver_once(make: Make) -> None:
    """429 with Retry-After 3, then 500, then a hang: one message, no call inside the window."""
    async with FakeSlack() as slack:
        slack.add_channel("#alerts")
        slack.fail(rate_limited(3, "chat.postMessage"), html(500, "chat.postMessage"), silence("chat.postMessage"))
        agent = make(f"mqtt://127.0.0.1:{free_port()}", slack=slack)
        agent.level.write_text("60")
        agent.start()
        await slack.until(lambda: slack.messages("#alerts"), timeout=40)
        await agent.says("incident delivered")
        assert len(slack.messages("#alerts")) == 1
        assert slack.violations == []
        assert slack.faults_left == 0
        await agent.stop()


# -- as a service


async def test_it_tells_systemd_and_stops_with_the_spool_flushed(make: Make, manager: socket.socket) -> None:
    """READY once, WATCHDOG again and again, a status line, STOPPING; and what was measured last is on disk."""
    agent = make(f"mqtt://127.0.0.1:{free_port()}")
    agent.start(NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="600000")
    said: list[str] = []

    def enough() -> bool:
        said.extend(heard(manager))
        return said.count("WATCHDOG=1") >= 5 and any(line.startswith("STATUS=1 probes (0 failing)") for line in said)

    await eventually(enough, "watchdog and status")
    assert said.count("READY=1") == 1
    assert await agent.stop() < 5
    assert "STOPPING=1" in heard(manager)
    [epoch] = {epoch for epoch, _ in waiting(agent)}
    numbers = {seq for _, seq in waiting(agent)}
    assert numbers == set(range(1, len(numbers) + 1)), f"a hole in the spool of {epoch}"


async def test_a_blocked_loop_starves_the_watchdog(make: Make, manager: socket.socket) -> None:
    """systemd hears nothing while the loop stands still, and hears us again when it turns."""
    agent = make(f"mqtt://127.0.0.1:{free_port()}", more="")
    gate = agent.directory / "gate"
    agent.config.write_text(f'{agent.text}[probes.block]\npath = "{gate}"\ninterval = "100ms"\n')
    agent.start(NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="600000")
    await eventually(lambda: "WATCHDOG=1" in heard(manager), "the watchdog fed")
    gate.touch()
    await asyncio.sleep(0.5)  # a feeding that was under way
    heard(manager)
    await asyncio.sleep(1.5)
    assert heard(manager) == []
    gate.unlink()
    await eventually(lambda: "WATCHDOG=1" in heard(manager), "the watchdog fed again")


async def test_a_reload_at_once_is_not_lost(make: Make) -> None:
    """SIGHUP as early as a signal can come: the daemon goes on, with the file as it is."""
    agent = make(f"mqtt://127.0.0.1:{free_port()}")
    agent.start()
    status = Path(f"/proc/{agent.process.pid}/status") if agent.process else Path()

    def caught() -> bool:
        """The daemon has a handler for SIGHUP by now."""
        found = re.search(r"SigCgt:\s+([0-9a-f]+)", status.read_text())
        return bool(found and int(found[1], 16) >> (signal.SIGHUP - 1) & 1)

    await eventually(caught, "a handler for SIGHUP")
    agent.signal(signal.SIGHUP)
    await agent.says("configuration reloaded")
    await agent.says("agent started")
    assert "Traceback" not in agent.log
    await agent.stop()


async def test_a_good_reload_takes_hold_and_a_bad_one_does_not(make: Make) -> None:
    """SIGHUP: new rule in the same process; a faulty file is told line by line and the last good one stays."""
    agent = make(f"mqtt://127.0.0.1:{free_port()}")
    agent.level.write_text("60")
    agent.start()
    await agent.says("threshold=level")
    agent.config.write_text(agent.text + RULE + RULE.replace('"level"', '"second"'))
    agent.signal(signal.SIGHUP)
    await agent.says("threshold=second")
    agent.config.write_text(agent.text + RULE + "[agentt]\n[probes.swich]\n")
    agent.signal(signal.SIGHUP)
    await agent.says("keeping the last good one", 2)
    assert re.search(r'fault=".*agent\.toml:\d+: agentt: unknown key, did you mean', agent.log)
    assert "unknown probe 'swich'" in agent.log
    agent.level.write_text("10")
    await eventually(lambda: agent.log.count("transition=resolved") == 2, "both rules still judging")
    assert agent.log.count("transition=opened") == 2
    await agent.stop()


@pytest.mark.services
async def test_a_reload_may_change_the_broker(make: Make, mosquitto: Mosquitto, tmp_path: Path) -> None:
    """The connection moves, and what was spooled arrives at the new one."""
    agent = make(f"mqtt://127.0.0.1:{free_port()}")
    agent.start()
    await agent.says("broker cannot be used")
    await eventually(lambda: len(waiting(agent)) > 3, "envelopes in the spool")
    before = waiting(agent)
    agent.config.write_text(re.sub(r'url = "mqtt://[^"]*"', f'url = "{mosquitto.url}"', agent.text) + RULE)
    async with collecting(tmp_path, mosquitto.url):
        agent.signal(signal.SIGHUP)
        await agent.says("broker connected")
        await eventually(lambda: gone(agent, before), "the backlog acknowledged")
    await agent.stop()


async def test_a_plugin_that_prints_costs_little(make: Make) -> None:
    """100 MB printed in each run: the log stays small, memory flat, the other probe on schedule."""
    agent = make(f"mqtt://127.0.0.1:{free_port()}")
    agent.config.write_text(f'{agent.text}[probes.flood]\ninterval = "300ms"\n')
    agent.start()
    await agent.says("prints too much")
    process = agent.process
    assert process is not None
    await asyncio.sleep(1)
    first = resident(process.pid)
    await asyncio.sleep(2)
    assert resident(process.pid) - first < 8 * 1024
    assert len(agent.log) < 64 * 1024
    await agent.stop()
    assert len(waiting(agent)) > 10


def resident(pid: int) -> int:
    """KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]


async def test_two_daemons_do_not_share_a_spool(make: Make) -> None:
    """The second one ends at once, says why, and harms nothing."""
    agent = make(f"mqtt://127.0.0.1:{free_port()}")
    agent.start()
    await agent.says("agent started")
    second = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "agent", "run", "-c", str(agent.config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode not in (0, -9)
    assert "Traceback" not in second.stderr
    assert re.search(rf"^tocsin: .*{agent.spool.parent}", second.stderr, re.MULTILINE)
    await agent.stop()


def test_a_state_directory_that_cannot_be(tmp_path: Path) -> None:
    """Exit 69, and the key to change."""
    (tmp_path / "file").touch()
    (tmp_path / "agent.toml").write_text(f'[agent]\nstate_dir = "{tmp_path}/file/state"\n')
    done = subprocess.run(
        [sys.executable, "-m", "agent", "run", "-c", str(tmp_path / "agent.toml")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == EXIT_UNAVAILABLE
    assert "agent.state_dir" in done.stderr


@pytest.mark.services
async def test_it_reports_about_itself(make: Make, mosquitto: Mosquitto, tmp_path: Path) -> None:
    """Its own figures travel as a probe named agent; health, deliveries and a will that is kept are retained."""
    agent = make(mosquitto.url)
    async with collecting(tmp_path, mosquitto.url) as found:
        collector = check(found)
        agent.start()

        def own() -> list[dict[str, Any]]:
            return [run for run in collector.fleet.latest("t-1") if run["probe"] == "agent"]

        runs = await eventually(own, "the daemon's own figures")
        names = {metric["name"] for metric in msg_metrics(runs[-1])}
        assert {"agent.spool_pending", "agent.unacked_age_seconds", "agent.memory_bytes"} <= names
        state = lambda: (collector.fleet.host("t-1") or {}).get("state")  # noqa: E731
        await eventually(lambda: state() == "online", "online")
        await eventually(lambda: (collector.fleet.host("t-1") or {}).get("health"), "health")
        await agent.stop()
        await eventually(lambda: state() == "offline", "offline")


def check(collector: Any) -> Collector:
    assert isinstance(collector, Collector)
    return collector


def msg_metrics(run: dict[str, Any]) -> list[dict[str, Any]]:
    return [metric if isinstance(metric, dict) else msg(metric) for metric in run["metrics"]]


# -- the guard and the watchdog's judgement


async def test_a_fallen_task_is_started_again(clock: ManualClock) -> None:
    """With growing pauses; a return is an end, and what no restart mends goes up."""
    falls: list[float] = []

    async def work() -> None:
        falls.append(clock.monotonic())
        if len(falls) < 5:
            raise RuntimeError("odd")

    task = asyncio.create_task(guard("work", work, clock))
    await clock.advance(20)
    assert falls == [0.0, 1.0, 3.0, 7.0, 15.0]
    await task

    async def fatal() -> None:
        raise SpoolError("gone")

    with pytest.raises(SpoolError):
        await guard("fatal", fatal, clock)


class Planned:
    def __init__(self, interval: float | None) -> None:
        self.interval = interval


def test_the_watchdog_is_fed_only_while_things_move() -> None:
    """Stuck probes and a stuck spool are told apart; slow probes, cron lines and back-off are no reason."""
    fair = watchdog.fair_time([Planned(10.0), Planned(None)], all_failing=False)
    assert fair == 80.0
    assert watchdog.stuck(100.0, 30.0, 95.0, fair, 10.0) == ""
    assert "no probe has finished for 81 s" in watchdog.stuck(100.0, 19.0, 95.0, fair, 10.0)
    assert "the spool has not committed for 71 s" in watchdog.stuck(100.0, 99.0, 29.0, fair, 10.0)
    assert watchdog.fair_time([Planned(None)], all_failing=False) is None
    assert watchdog.stuck(1e6, 0.0, 1e6, None, 10.0) == ""
    assert (watchdog.fair_time([Planned(10.0)], all_failing=True) or 0) > 1200
