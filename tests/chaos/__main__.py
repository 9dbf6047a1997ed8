"""Kill, restart, drain, judge; progress on the way, the verdict at the end, exit 1 unless it is clean."""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from tests.chaos import judge, parts
from tests.services import MariaDB, Mosquitto, free_port

AGENTS = 5
PER_SECOND = 20
QUIET = 12.0
"""Seconds without an arrival, several times the time to resend, that count as drained."""


class Observer:
    """Subscribes past everybody and counts identities heard more than once: what was sent again."""

    def __init__(self, broker: Mosquitto) -> None:
        self.heard: Counter[judge.Identity] = Counter()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="observer")
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("tocsin/v1/+/metrics/#", 1)
        self._client.on_message = self._note
        self._client.connect_async(broker.host, broker.port, keepalive=5)
        self._client.loop_start()

    def _note(self, _client: Any, _data: Any, message: Any) -> None:
        envelope = json.loads(message.payload)
        self.heard[envelope["host"], envelope["epoch"], envelope["seq"]] += 1

    @property
    def resent(self) -> int:
        return sum(count - 1 for count in self.heard.values())

    def stop(self) -> None:
        self._client.loop_stop()
        self._client.disconnect()


class Run:
    """One store, one broker, one collector, five agents, and a die."""

    def __init__(self, directory: Path, store: str, rows: Callable[[str], list[Any]], seed: int) -> None:
        self.die = random.Random(seed)
        self.broker = Mosquitto(directory / "broker")
        self.collector = parts.collector(directory, self.broker.url, store, free_port())
        self.agents = [parts.agent(directory, f"host-{i}", self.broker.url, PER_SECOND) for i in range(AGENTS)]
        self.store = judge.StoreView(rows)
        self.kills: Counter[str] = Counter()

    def spool(self, agent: parts.Process) -> Path:
        return agent.directory / "state" / "spool.db"

    def start(self) -> None:
        for agent in self.agents:
            agent.start()
        _wait(lambda: all(self.spool(agent).exists() for agent in self.agents), "the spools", 30)
        for agent in self.agents:  # the journals are put in while nobody writes, and nothing was ever acknowledged
            agent.stop()
            parts.swear_in(self.spool(agent))
        self.broker.start()
        self.collector.start()
        for agent in self.agents:
            agent.start()

    def cycle(self) -> str:
        """Kill one part -9, leave it dead for a moment, start it again."""
        victim = self.die.choice([*self.agents, "broker", "broker", self.collector, self.collector])
        pause = self.die.uniform(0.1, 2.0)
        if victim == "broker":
            self.broker.kill()
            time.sleep(pause)
            self.broker.start()
            name = "broker"
        else:
            assert isinstance(victim, parts.Process)
            victim.kill()
            time.sleep(pause)
            victim.start()
            name = "agent" if victim in self.agents else "collector"
        self.kills[name] += 1
        time.sleep(self.die.uniform(0.3, 2.0))
        return name

    def drain(self, seconds: float) -> float:
        """Let the probes fall silent (agents start again with none) and wait until nothing more arrives.

        An agent keeps its spool to itself while it runs, so it is the store that is watched; what a spool still
        holds at the end is not excused as drained, but judged like the rest.
        """
        for agent in self.agents:
            agent.stop()
            config = agent.directory / "agent.toml"
            text = config.read_text()
            config.write_text(text[: text.index("[probes.")] + '[probes.uptime]\ncron = "0 0 1 1 *"\n')
            agent.start()
        begun = time.monotonic()
        arrived, quiet_since = 0, begun
        while time.monotonic() - quiet_since < QUIET:
            if time.monotonic() - begun > seconds:
                raise SystemExit(f"chaos: still not drained after {seconds:g} s")
            time.sleep(0.2)
            if (now := self.store.runs()) != arrived:
                arrived, quiet_since = now, time.monotonic()
        return quiet_since - begun

    def stop(self) -> None:
        for part in [*self.agents, self.collector]:
            part.stop()
        self.broker.stop()


def _wait(condition: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"chaos: gave up after {seconds:g} s waiting for {what}")
        time.sleep(0.1)


def rehearse(name: str, cycles: int, seed: int, directory: Path, database: MariaDB | None) -> bool:
    """One whole run on one kind of store; prints the verdict and says whether it is clean."""
    if database is not None:
        url = database.database()
        schema = url.rsplit("/", 1)[1]

        def rows(query: str) -> list[Any]:
            return [tuple(line.split("\t")) for line in database.execute(f"USE {schema}; {query}").splitlines()]

    else:
        path = directory / "store.db"
        url = f"sqlite:///{path}"

        def rows(query: str) -> list[Any]:
            connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
            try:
                return connection.execute(query).fetchall()
            finally:
                connection.close()

    run = Run(directory, url, rows, seed)
    try:
        run.start()
        observer = Observer(run.broker)
        for number in range(1, cycles + 1):
            killed = run.cycle()
            if number % 10 == 0 or number == cycles:
                print(
                    f"  {name}: {number}/{cycles} cycles, last killed: {killed}, resent so far: {observer.resent}",
                    flush=True,
                )
        if not run.collector.alive:
            run.collector.start()
        seconds = run.drain(300)
        for agent in run.agents:
            agent.stop()
        time.sleep(1)
        committed = set().union(*(judge.journal(run.spool(agent), agent.name) for agent in run.agents))
        left = set().union(*(judge.waiting(run.spool(agent), agent.name) for agent in run.agents))
        chaos = set().union(*(judge.chaotic(run.spool(agent), agent.name) for agent in run.agents))
        verdict = judge.judge(committed, chaos, left, run.store)
        resent = observer.resent
        observer.stop()
    finally:
        run.stop()
    kills = ", ".join(f"{count} {part}" for part, count in sorted(run.kills.items()))
    counts = {
        "committed": verdict.committed,
        "stored": verdict.stored,
        "in gaps": verdict.in_gaps,
        "still in spools": verdict.waiting,
        "lost": len(verdict.lost),
        "duplicated": len(verdict.duplicated) + len(verdict.both),
        "quarantined": verdict.conflicts,
        "samples missing": verdict.missing_samples,
        "resent": resent,
    }
    figures = ", ".join(f"{what} {count}" for what, count in counts.items())
    print(f"{name}: cycles {cycles} (killed: {kills}), {figures}, drained in {seconds:.1f} s")
    for one in verdict.lost[:5]:
        print(f"  lost: {one}")
    if resent == 0:
        print("  void: nothing was ever sent again, so nothing was put to the test")
    return verdict.clean and resent > 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--store", choices=["sqlite", "mariadb", "both"], default="both")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    print(f"chaos: {AGENTS} agents at {PER_SECOND} envelopes/s each, seed {options.seed}", flush=True)
    clean = True
    with tempfile.TemporaryDirectory(prefix="tocsin-chaos-") as top:
        for name in ["sqlite", "mariadb"] if options.store == "both" else [options.store]:
            directory = Path(top) / name
            directory.mkdir()
            database = MariaDB(directory / "server") if name == "mariadb" else None
            if database is not None:
                database.start()
            try:
                clean &= rehearse(name, options.cycles, options.seed, directory, database)
            finally:
                if database is not None:
                    database.stop()
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
