"""Envelopes and metrics a second from a real broker into a real database, beside the hand-written floor.

mosquitto_pub floods the broker faster than either can read, so that the consumer sets the pace; what is
timed is the database's own count growing from a tenth of the flood to all of it. The flood is smaller than what
the collector takes into memory (agents keep to a window; mosquitto_pub does not, and what is dropped comes not again).
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.services import MariaDB, Mosquitto, free_port, listens, program

HERE = Path(__file__).parent
HOSTS = 5
METRICS = 10


@dataclass(frozen=True)
class Rate:
    name: str
    store: str
    envelopes: float

    @property
    def metrics(self) -> float:
        return self.envelopes * METRICS


def envelopes(directory: Path, per_host: int) -> list[tuple[str, Path]]:
    """One file of payload lines per host, as an agent would send them."""
    made = []
    for index in range(HOSTS):
        host = f"web-{index}"
        path = directory / f"{host}.lines"
        with path.open("w") as lines:
            for seq in range(1, per_host + 1):
                values = [
                    {
                        "name": f"cpu.value_{metric}",
                        "value": seq * 0.25 + metric,
                        "unit": "percent",
                        "labels": {"core": str(metric)},
                    }
                    for metric in range(METRICS)
                ]
                envelope = {
                    "schema": 1,
                    "host": host,
                    "epoch": f"{index:032x}",
                    "seq": seq,
                    "time": 1_790_000_000 + seq * 0.5,
                    "probe": "cpu",
                    "status": "ok",
                    "duration": 0.001,
                    "metrics": values,
                }
                lines.write(json.dumps(envelope, separators=(",", ":")) + "\n")
        made.append((host, path))
    return made


def flood(port: int, files: list[tuple[str, Path]]) -> list[subprocess.Popen[bytes]]:
    command = [program("mosquitto_pub", "mosquitto-clients"), "-p", str(port), "-q", "1", "-l"]
    started = []
    for host, path in files:
        with path.open("rb") as lines:
            started.append(subprocess.Popen([*command, "-t", f"tocsin/v1/{host}/metrics/cpu"], stdin=lines))
    return started


def timed(count: Callable[[], int], total: int, seconds: float = 300) -> float:
    """Rows a second between a tenth and all of `total`; stops with an error when it does not arrive."""
    deadline = time.monotonic() + seconds
    begun: tuple[float, int] | None = None
    while (now := count()) < total:
        if begun is None and now >= total / 10:
            begun = (time.monotonic(), now)
        if time.monotonic() > deadline:
            raise SystemExit(f"ingest: only {now} of {total} arrived in {seconds:g} s")
        time.sleep(0.05)
    if begun is None:
        raise SystemExit("ingest: too fast to be timed; ask for more envelopes")
    return (total - begun[1]) / (time.monotonic() - begun[0])


def run(name: str, directory: Path, database: MariaDB | None, files: list[tuple[str, Path]], total: int) -> Rate:
    """One consumer, one store, one flood."""
    directory.mkdir()
    broker = Mosquitto(directory / "broker")
    broker.start()
    path = directory / "store.db"
    url = database.database() if database else f"sqlite:///{path}"
    schema = url.rsplit("/", 1)[1]
    query = "SELECT envelopes FROM progress" if name == "floor" else "SELECT COUNT(*) FROM envelopes"

    def count() -> int:
        if database:
            return int(database.execute(f"USE {schema}; {query}"))
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return int(connection.execute(query).fetchone()[0])
        finally:
            connection.close()

    process = _consumer(name, directory, broker.port, url)
    try:
        flooding = flood(broker.port, files)
        rate = timed(count, total)
        for one in flooding:
            one.wait(60)
    finally:
        process.terminate()
        process.wait(30)
        broker.stop()
    return Rate(name, "MariaDB" if database else "SQLite", rate)


def _consumer(name: str, directory: Path, port: int, url: str) -> subprocess.Popen[bytes]:
    log = (directory / "consumer.log").open("wb")
    if name == "floor":
        command = [sys.executable, str(HERE / "floor_collector.py"), str(port), url]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        _until(lambda: b"ready" in (directory / "consumer.log").read_bytes(), process)
        return process
    listen = free_port()
    config = directory / "agent.toml"
    config.write_text(
        f'[agent]\nstate_dir = "{directory}/state"\n[mqtt]\nurl = "mqtt://127.0.0.1:{port}"\n'
        f'[collector]\nstore = "{url}"\nlisten = "127.0.0.1:{listen}"\n'
    )
    command = [str(Path(sys.executable).parent / "tocsin"), "collect", "-c", str(config)]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    _until(lambda: listens(listen), process)
    time.sleep(2)  # its subscription follows its listening
    return process


def _until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("ingest: the consumer did not start; see its log")
        time.sleep(0.05)


def measure(directory: Path, per_host: int) -> list[Rate]:
    """Floor and collector, turn about, on both stores."""
    files = envelopes(directory, per_host)
    total = per_host * HOSTS
    database = MariaDB(directory / "mariadb")
    database.start()
    rates = []
    try:
        for store in (None, database):
            kind = "mariadb" if store else "sqlite"
            rates += [run(name, directory / f"{name}-{kind}", store, files, total) for name in ("floor", "tocsin")]
    finally:
        database.stop()
    return rates


def table(rates: list[Rate]) -> str:
    floors = {rate.store: rate.envelopes for rate in rates if rate.name == "floor"}
    lines = [
        f"collector, {METRICS} metrics an envelope",
        f"{'':8} {'store':8} {'envelopes/s':>12} {'metrics/s':>12} {'x floor':>8}",
    ]
    lines += [
        f"{rate.name:8} {rate.store:8} {rate.envelopes:12,.0f} {rate.metrics:12,.0f} "
        f"{rate.envelopes / floors[rate.store]:8.2f}"
        for rate in rates
    ]
    return "\n".join(lines)
