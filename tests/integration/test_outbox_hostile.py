"""A Slack that does whatever it has ever been seen to do, and a sender that is killed again and again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.model import Incident, Severity
from tests.fakes import slack as fake
from tests.fakes.slack import Call, FakeSlack
from tests.integration.hostile import CHANNELS, FACTOR, TOKEN, FastClock, command

INCIDENTS, STEPS, KILLS = 100, 5, 50
LIFE = (Severity.WARNING, Severity.CRITICAL, Severity.WARNING, Severity.CRITICAL, None)
FAULTS = (
    *(lambda: fake.rate_limited(3), lambda: fake.rate_limited(5, "chat.update"), lambda: fake.html(500)),
    *(lambda: fake.html(503), fake.empty, fake.reset, lambda: fake.unanswered("chat.postMessage")),
    *(lambda: fake.silence("chat.postMessage"), lambda: fake.refused("internal_error"), lambda: fake.slow(0.05)),
    *(
        lambda: fake.refused("edit_window_closed", "chat.update"),
        lambda: fake.refused("message_not_found", "chat.update"),
    ),
)


class Sender:
    """An outbox in a process of its own over one state file, killed with SIGKILL and started again."""

    def __init__(self, directory: Path, slack: FakeSlack, began: float) -> None:
        self._directory = directory
        self._command = command(directory, slack.url, began)
        self._clock = FastClock(began)
        self._env = {**os.environ, TOKEN: slack.token}
        self._journal = (directory / "journal").open("ab")
        self._said = 0
        self.lives = 0
        self.killed: list[float] = []

    async def start(self) -> None:
        self.lives += 1
        self.says: dict[str, Any] = {}
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdout=asyncio.subprocess.PIPE, env=self._env, cwd=Path(__file__).parents[2]
        )
        self._listener = asyncio.create_task(self._listen(self._process))

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.says = json.loads(line)

    def desire(self, incident: Incident) -> None:
        self._journal.write(msgspec.json.encode(incident) + b"\n")
        self._journal.flush()
        self._said += 1

    @property
    def done(self) -> bool:
        """Whether Slack knows all that was said."""
        return self.says.get("read") == self._said and self.says["waiting"] == 0

    async def kill(self) -> None:
        """What is in the wires still arrives; what was only in memory is gone."""
        self.killed.append(self._clock.monotonic())
        assert self._process.returncode is None, "it has died by itself"
        self._process.kill()
        assert await self._process.wait() == -signal.SIGKILL
        await self._listener


def step(incident: Incident, severity: Severity | None, now: float) -> Incident:
    changes: dict[str, object] = {"version": incident.version + 1, "updated_at": now}
    changes |= {"state": "resolved", "resolved_at": now} if severity is None else {"severity": severity}
    return msgspec.structs.replace(incident, **changes)


def opened(number: int, now: float) -> Incident:
    severity, host = LIFE[0] or Severity.WARNING, f"h-{number % CHANNELS}"
    return Incident(f"inc_{number:04}", host, "cpu", "cpu.used_percent", severity, Severity.CRITICAL, now, now, now, 1)


@pytest.mark.timeout(240)
async def test_500_transitions_through_a_hostile_slack_with_50_kills(tmp_path: Path) -> None:
    """Every incident's final state is the real one, told once; no limit of Slack's is overstepped on the way."""
    die, began = random.Random(4), time.monotonic()
    clock = FastClock(began)
    async with FakeSlack(clock=clock.monotonic) as slack:
        channels = {name: slack.add_channel(name) for name in ("#alerts", *(f"#c-{n}" for n in range(CHANNELS)))}
        sender = Sender(tmp_path, slack, began)
        await sender.start()
        stands: dict[int, Incident] = {}
        todo = [number for number in range(INCIDENTS) for _ in range(STEPS)]
        die.shuffle(todo)
        kills = set(die.sample(range(len(todo)), KILLS))
        for index, number in enumerate(todo):
            before = stands.get(number)
            now = clock.now()
            stands[number] = opened(number, now) if before is None else step(before, LIFE[before.version], now)
            sender.desire(stands[number])
            if die.random() < 0.3:
                slack.fail(die.choice(FAULTS)())
            if index == 200:
                slack.token, revoked = "another", slack.token
            if index == 215:
                slack.token = revoked
            if index == 300:
                channels["#c-3"].archived = True
            await asyncio.sleep(die.uniform(0, 0.1))
            if index in kills:
                calls = len(slack.calls)
                await slack.until(lambda before=calls: len(slack.calls) > before or sender.done, 60)  # in mid-work
                await sender.kill()
                await sender.start()
        slack.calm()
        await slack.until(lambda: sender.done, 150)
        generations = sender.says["generations"]
        await sender.kill()
        judge(slack, stands, generations, sender.killed)


def unheard(slack: FakeSlack, call: Call, killed: list[float]) -> bool:
    """The sender was killed around the 429, before it can have had it on its disk."""
    refusals = (
        other.at for other in slack.called(call.method) if other.outcome == "rate_limited" and other.at < call.at
    )
    last = max(refusals, default=0.0)
    return any(abs(moment - last) <= 0.1 * FACTOR for moment in killed)


def judge(slack: FakeSlack, stands: dict[int, Incident], generations: dict[str, int], killed: list[float]) -> None:
    said = [message for channel in slack._channels.values() for message in channel.said]
    roots: Counter[str] = Counter()
    last = {}
    for message in sorted(said, key=lambda message: float(message.ts)):
        nonce = (message.metadata or {}).get("event_payload", {}).get("nonce", "")
        if re.fullmatch(r"inc_\d+\.\d+", nonce):
            roots[nonce.split(".")[0]] += 1
            last[nonce.split(".")[0]] = message
    assert set(roots) == {incident.id for incident in stands.values()}, "an incident that was never told"
    for incident in stands.values():
        assert incident.state == "resolved"
        assert last[incident.id].text.startswith("RESOLVED"), "the final state is the real one"
    posts = slack.called("chat.postMessage")
    ambiguous = sum(call.outcome in ("html", "empty", "reset", "silence", "unanswered") for call in posts)
    gone = sum(generations.values()) - len(generations)
    extra = sum(roots.values()) - len(roots)
    hidden = sum(not message.shown for message in said)
    transitions = sum(incident.version for incident in stands.values())
    print(
        f"{transitions} transitions of {len(stands)} incidents, {KILLS} kills, {len(slack.calls)} calls: 0 lost, "
        f"{sum(roots.values())} root messages, {extra} beyond one each, where {gone} were gone and "
        f"{ambiguous} sends ambiguous; {hidden} posts faster than one a second, {len(slack.violations)} calls inside a "
        f"Retry-After that no sender lived to hear of"
    )
    assert extra <= gone + ambiguous
    assert all(unheard(slack, call, killed) for call in slack.violations)
    assert not hidden
