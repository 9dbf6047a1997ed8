"""Break it, let it settle, judge."""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.model import Severity
from tests.fakes.slack import FakeSlack, Said
from tests.handover.fleet import TAKEOVER_AFTER, TOKEN, Collector, Host, channel, next_severity, slack_table
from tests.services import Mosquitto, eventually

SETTLE = 420.0
"""Seconds within which all must be told; Slack takes 50 edits a minute."""

_ROOT = re.compile(r"(inc_[0-9a-z]+)\.\d+")
"""The nonce of an incident's own message; a reply's has the version behind it, a bulletin's another name."""


@dataclass
class Verdict:
    incidents: int = 0
    transitions: int = 0
    kills: int = 0
    changes: int = 0
    """How often a host took the pen or gave it away."""
    roots: int = 0
    gathered: int = 0
    """Of them in the thread of a storm."""
    vanished: int = 0
    """Posts that Slack took and did not show, since others were too close."""
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    violations: int = 0

    def __str__(self) -> str:
        return (
            f"{self.incidents} incidents, {self.transitions} transitions, collector killed {self.kills} times, "
            f"writer changed {self.changes} times: {self.roots} root messages ({self.gathered} in a storm's thread), "
            f"{self.vanished} posts taken and not shown, lost {len(self.lost)}, "
            f"doubled {len(self.doubled)}, stale {len(self.stale)}, calls inside a Retry-After {self.violations}"
        )

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.stale or self.violations) and self.changes > 0


async def run(
    directory: Path,
    broker: Mosquitto,
    *,
    hosts: int,
    kills: int,
    transitions: int,
    seed: int,
    say: Callable[[str], None],
) -> Verdict:
    """`transitions` spread over `hosts` while the collector is killed and revived `kills` times, each at random."""
    die = random.Random(seed)
    async with FakeSlack() as slack:
        os.environ[TOKEN] = slack.token
        channels = sorted({channel(number) for number in range(hosts)})
        for name in ("#alerts", *channels):
            slack.add_channel(name)
        table = slack_table(slack, hosts)
        collector = Collector(directory, broker.url, slack, table)
        fleet = [Host(directory, number, broker.url, table) for number in range(hosts)]
        await asyncio.gather(*(host.started() for host in fleet))
        verdict = Verdict()
        watching = asyncio.create_task(_watch(fleet, verdict))
        collector.start()
        breaking = asyncio.create_task(_break(collector, fleet, kills, die, say))
        try:
            for number in range(transitions):
                host = die.choice(fleet)
                host.turn(next_severity(die, host.severity))
                await asyncio.sleep(die.uniform(0, 0.5))
                if number % 50 == 49:
                    say(f"{number + 1}/{transitions} transitions")
            await breaking
            await _settle(fleet, say)
        finally:
            breaking.cancel()
            watching.cancel()
            collector.kill()
        verdict.kills = kills
        verdict.violations = len(slack.violations)
        _judge(fleet, slack, channels, verdict)
        await asyncio.gather(*(host.stop() for host in fleet))
    return verdict


async def _break(
    collector: Collector, fleet: list[Host], kills: int, die: random.Random, say: Callable[[str], None]
) -> None:
    """From when it first writes for somebody: on a busy machine all its lives could be over before."""
    await eventually(lambda: any(host.writer for host in fleet), "a host that hands over", 60)
    for number in range(kills):
        await asyncio.sleep(die.uniform(1.0, 4.0))
        collector.kill()
        await asyncio.sleep(die.choice([0.2, 1.0, TAKEOVER_AFTER, 2 * TAKEOVER_AFTER]))
        collector.start()
        say(f"collector killed {number + 1}/{kills} times")


async def _watch(fleet: list[Host], verdict: Verdict) -> None:
    before = {host.name: host.writer for host in fleet}
    while True:
        for host in fleet:
            verdict.changes += host.writer != before[host.name]
            before[host.name] = host.writer
        await asyncio.sleep(0.1)


async def _settle(fleet: list[Host], say: Callable[[str], None]) -> None:
    async with asyncio.timeout(SETTLE):
        while left := sum(len(host.unfinished()) for host in fleet):
            say(f"{left} messages not yet as they should be")
            await asyncio.sleep(2)


def _judge(fleet: list[Host], slack: FakeSlack, channels: list[str], verdict: Verdict) -> None:
    roots: Counter[str] = Counter()
    shown: dict[str, Said] = {}
    gathered: set[str] = set()
    for name in channels:
        for said in slack._find(name).said:
            verdict.vanished += not said.shown
            if not said.shown:
                continue
            nonce = (said.metadata or {}).get("event_payload", {}).get("nonce", "")
            if root := _ROOT.fullmatch(nonce):
                roots[root[1]] += 1
                shown[root[1]] = said
                gathered.update({root[1]} if said.thread_ts else ())
    for host in fleet:
        for incident in host.incidents():
            verdict.incidents += 1
            verdict.transitions += incident.version
            verdict.roots += roots[incident.id]
            verdict.gathered += incident.id in gathered
            if not roots[incident.id]:
                verdict.lost.append(incident.id)
            elif roots[incident.id] > 1:
                verdict.doubled.append(incident.id)
            word = "RESOLVED" if incident.state == "resolved" else incident.severity.upper()
            if incident.id in shown and word not in shown[incident.id].text:
                verdict.stale.append(f"{incident.id}: {word}, but Slack says {shown[incident.id].text[:60]}")
    assert all(host.severity is Severity.OK or host.incidents() for host in fleet)
