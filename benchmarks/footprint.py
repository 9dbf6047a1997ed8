"""What an idle-looking agent costs: memory, cpu and start-up, beside the floor and beside peers.

All run at once against one broker for the same time, each measuring about the same eight things.
collectd comes from Debian (collectd-core), glances and psmqtt from a virtual environment of their own,
so that no agent is measured with another's packages.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
import psutil

HERE = Path(__file__).parent
PROBES = ("cpu", "memory", "load", "disk", "diskio", "network", "processes", "uptime")
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Contender:
    """One agent: how it is started, and the topic prefix by which its first message is known."""

    name: str
    command: list[str]
    prefix: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    first_message: float | None = None
    pss: float = 0.0
    rss: float = 0.0
    cpu_per_minute: float = 0.0


def tocsin(directory: Path, port: int, interval: float, host: Path) -> Contender:
    config = directory / "agent.toml"
    probes = "\n".join(f"[probes.{name}]" for name in PROBES)
    shipped = (HERE.parent / "agent.toml").read_text()
    thresholds = shipped[shipped.index("[[thresholds]]") :].split("\n[health]")[0].split("\n[slack]")[0]
    config.write_text(
        f'[agent]\nhost = "bench"\nstate_dir = "{directory}/state"\ninterval = "{interval:g}s"\n'
        f'timeout = "{interval * 0.8:g}s"\n[mqtt]\nurl = "mqtt://127.0.0.1:{port}"\n{probes}\n{thresholds}'
    )
    command = [str(host / "bin" / "tocsin"), "run", "-c", str(config)]
    return Contender("tocsin", command, "tocsin/v1/bench/", unit_environment())


def unit_environment() -> dict[str, str]:
    """What the agent's unit sets: it is measured as hosts run it."""
    unit = (HERE.parent / "systemd" / "tocsin-agent.service").read_text()
    return dict(re.findall(r"^Environment=(\w+)=(.*)$", unit, re.MULTILINE))


def floor(port: int, interval: float) -> Contender:
    return Contender("floor", [sys.executable, str(HERE / "floor_agent.py"), str(port), str(interval)], "floor/", {})


def collectd(directory: Path, port: int, interval: float) -> Contender | None:
    program = shutil.which("collectd", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        return None
    plugins = ("cpu", "memory", "load", "df", "disk", "interface", "processes", "uptime", "mqtt")
    config = directory / "collectd.conf"
    config.write_text(
        f'BaseDir "{directory}"\nPIDFile "{directory}/collectd.pid"\nTypesDB "/usr/share/collectd/types.db"\n'
        f'Interval {interval}\nHostname "bench"\n'
        + "".join(f"LoadPlugin {name}\n" for name in plugins)
        + f'<Plugin mqtt>\n<Publish "bench">\nHost "127.0.0.1"\nPort {port}\nQoS 1\n'
        + 'Prefix "collectd"\n</Publish>\n</Plugin>\n'
    )
    return Contender("collectd", [program, "-f", "-C", str(config)], "collectd/", {})


def glances(directory: Path, port: int, interval: float, peers: Path) -> Contender | None:
    program = peers / "bin" / "glances"
    if not program.exists():
        return None
    config = directory / "glances.conf"
    config.write_text(
        f"[mqtt]\nhost=127.0.0.1\nport={port}\ntls=false\nuser=\npassword=\ntopic=glances\ntopic_structure=per-plugin\n"
        "[outputs]\n[global]\ncheck_update=false\n"
    )
    command = [
        str(program),
        "--config",
        str(config),
        "--quiet",
        "--export",
        "mqtt",
        "--time",
        str(max(2, int(interval))),
        "--disable-check-update",
        "--enable-plugin",
        "cpu,mem,load,fs,diskio,network,processlist,processcount,uptime",
    ]
    return Contender("glances", command, "glances/", {"HOME": str(directory)})


def psmqtt(directory: Path, port: int, interval: float, peers: Path) -> Contender | None:
    program = peers / "bin" / "psmqtt"
    if not program.exists():
        return None
    config = directory / "psmqtt.yaml"
    tasks = {
        "cpu_times_percent": '["*"]',
        "virtual_memory": '["*"]',
        "getloadavg": '["*"]',
        "disk_usage": '["percent", "|"]',
        "disk_io_counters": '["*"]',
        "net_io_counters": '["*"]',
        "processes": '["top_cpu", "name"]',
        "boot_time": "[]",
    }
    config.write_text(
        "logging:\n  level: WARNING\n  report_status_period_sec: 3600\n"
        f"mqtt:\n  broker:\n    host: 127.0.0.1\n    port: {port}\n  clientid: psmqtt\n"
        "  clean_session: true\n  qos: 1\n  retain: false\n  reconnect_period_sec: 5\n"
        "  publish_topic_prefix: psmqtt/bench/\n  request_topic: request\n"
        f'schedule:\n  - cron: "every {int(interval)} seconds"\n    tasks:\n'
        + "".join(f"      - task: {task}\n        params: {params}\n" for task, params in tasks.items())
    )
    return Contender("psmqtt", [str(program)], "psmqtt/", {"PSMQTTCONFIG": str(config)})


def contenders(directory: Path, port: int, interval: float, peers: Path, host: Path) -> list[Contender]:
    made = [floor(port, interval), tocsin(directory, port, interval, host), collectd(directory, port, interval)]
    made += [glances(directory, port, interval, peers), psmqtt(directory, port, interval, peers)]
    return [contender for contender in made if contender is not None]


def start(contender: Contender, log: Path) -> None:
    with log.open("wb") as output:
        contender.started = time.time()
        contender.process = subprocess.Popen(
            contender.command,
            env={**os.environ, **contender.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children so far."""
    total = 0.0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        times = process.cpu_times()
        total += times.user + times.system
    return total


def memory(pid: int) -> tuple[float, float]:
    """PSS and RSS in MiB."""
    values = {"Pss:": 0.0, "Rss:": 0.0}
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            key, *rest = line.split()
            if key in values:
                values[key] += int(rest[0]) / 1024
    return values["Pss:"], values["Rss:"]


class Listener:
    """Notes when each prefix is first heard."""

    def __init__(self, port: int, made: list[Contender]) -> None:
        self.made = made
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="listener")
        self.client.on_message = self._heard
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("#")
        self.client.loop_start()

    def _heard(self, _client: object, _data: object, message: object) -> None:
        topic: str = message.topic  # type: ignore[attr-defined]
        for contender in self.made:
            if contender.first_message is None and topic.startswith(contender.prefix):
                contender.first_message = time.time()

    def stop(self) -> None:
        self.client.loop_stop()
        self.client.disconnect()


def measure(
    directory: Path, port: int, interval: float, *, settle: float, seconds: float, peers: Path, host: Path
) -> list[Contender]:
    """Run all contenders together; the first `settle` seconds are start-up and not counted."""
    made = contenders(directory, port, interval, peers, host)
    listener = Listener(port, made)
    try:
        for contender in made:
            start(contender, directory / f"{contender.name}.log")
            time.sleep(2)  # one start-up at a time: two at once would measure each other
        time.sleep(settle)
        before = {contender.name: cpu_seconds(_pid(contender)) for contender in made}
        begun = time.monotonic()
        time.sleep(seconds)
        minutes = (time.monotonic() - begun) / 60
        for contender in made:
            contender.cpu_per_minute = (cpu_seconds(_pid(contender)) - before[contender.name]) / minutes
            contender.pss, contender.rss = memory(_pid(contender))
    finally:
        for contender in made:
            if contender.process is not None:
                contender.process.terminate()
        for contender in made:
            if contender.process is not None:
                contender.process.wait(20)
        listener.stop()
    return made


def _pid(contender: Contender) -> int:
    assert contender.process is not None
    if contender.process.poll() is not None:
        raise SystemExit(f"{contender.name} ended: {' '.join(contender.command)}")
    return contender.process.pid


def table(made: list[Contender], interval: float) -> str:
    base = next(contender for contender in made if contender.name == "floor")
    lines = [
        f"eight probes every {interval:g} s, connected",
        (
            f"{'':10} {'PSS MiB':>8} {'x floor':>8} {'RSS MiB':>8} {'x floor':>8} "
            f"{'cpu s/min':>10} {'x floor':>8} {'start s':>8}"
        ),
    ]
    for one in made:
        start_up = f"{one.first_message - one.started:8.2f}" if one.first_message else "   never"
        lines.append(
            f"{one.name:10} {one.pss:8.1f} {one.pss / base.pss:8.2f} {one.rss:8.1f} {one.rss / base.rss:8.2f} "
            f"{one.cpu_per_minute:10.3f} {one.cpu_per_minute / max(base.cpu_per_minute, 1e-9):8.2f} {start_up}"
        )
    return "\n".join(lines)
