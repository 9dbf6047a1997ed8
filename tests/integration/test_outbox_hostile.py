"""A Slack that does whatever it has ever been seen to do, and a sender that is killed again and again."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from agent.alerting.outbox import Outbox
from agent.alerting.state import State
from agent.config.schema import SlackConfig, SlackRoute
from agent.config.secret import Secret
from agent.config.units import Duration
from agent.model import Incident, Severity
from agent.slack.sender import SlackMessenger
from tests.fakes import slack as fake
from tests.fakes.slack import Call, FakeSlack

FACTOR = 20
"""How much faster than real its clock goes, for the sender and for Slack alike."""
INCIDENTS, STEPS, KILLS, CHANNELS = 100, 5, 50, 10
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


class FastClock:
    """Real time, only more of it."""

    def __init__(self) -> None:
        self._zero, self._began = time.time(), time.monotonic()

    def now(self) -> float:
        return self._zero + self.monotonic()

    def monotonic(self) -> float:
        return (time.monotonic() - self._began) * FACTOR

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / FACTOR)


class Sender:
    """An outbox over its state file; a kill leaves what was on the disk at that moment, and nothing else."""

    def __init__(self, directory: Path, slack: FakeSlack, clock: FastClock) -> None:
        self._directory = directory
        self._clock = clock
        token = Secret("env", "FAKE_SLACK_TOKEN")
        self._config = SlackConfig(bot_token=token, base_url=slack.url, timeout=Duration(1))
        self.lives = 0
        self.killed: list[float] = []
        self.outbox: Outbox

    async def start(self) -> None:
        self.lives += 1
        self._path = self._directory / f"life-{self.lives}" / "alerts.db"
        self._path.parent.mkdir(exist_ok=True)
        routes = [SlackRoute(match={"host": f"h-{number}"}, channel=f"#c-{number}") for number in range(CHANNELS)]
        self._state = await State.open(self._path)
        messenger = SlackMessenger(self._config)
        self.outbox = Outbox(self._state, messenger, self._clock, routes=routes, storm_after=10**6)
        self._worker = asyncio.create_task(self.outbox.run())

    async def kill(self) -> None:
        """What is in the wires still arrives; what was only in memory is gone."""
        self.killed.append(self._clock.monotonic())
        after = self._directory / f"life-{self.lives + 1}"
        shutil.copytree(self._path.parent, after)
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)
        await self._state.aclose()
        await self.start()

    async def stop(self) -> None:
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)
        await self._state.aclose()


def step(incident: Incident, severity: Severity | None, now: float) -> Incident:
    changes: dict[str, object] = {"version": incident.version + 1, "updated_at": now}
    changes |= {"state": "resolved", "resolved_at": now} if severity is None else {"severity": severity}
    return msgspec.structs.replace(incident, **changes)


def opened(number: int, now: float) -> Incident:
    severity, host = LIFE[0] or Severity.WARNING, f"h-{number % CHANNELS}"
    return Incident(f"inc_{number:04}", host, "cpu", "cpu.used_percent", severity, Severity.CRITICAL, now, now, now, 1)


@pytest.mark.timeout(240)
async def test_500_transitions_through_a_hostile_slack_with_50_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every incident's final state is the real one, told once; no limit of Slack's is overstepped on the way."""
    die, clock = random.Random(4), FastClock()
    async with FakeSlack(clock=clock.monotonic) as slack:
        monkeypatch.setenv("FAKE_SLACK_TOKEN", slack.token)
        channels = {name: slack.add_channel(name) for name in ("#alerts", *(f"#c-{n}" for n in range(CHANNELS)))}
        sender = Sender(tmp_path, slack, clock)
        await sender.start()
        stands: dict[int, Incident] = {}
        todo = [number for number in range(INCIDENTS) for _ in range(STEPS)]
        die.shuffle(todo)
        kills = set(die.sample(range(len(todo)), KILLS))
        for index, number in enumerate(todo):
            before = stands.get(number)
            now = clock.now()
            stands[number] = opened(number, now) if before is None else step(before, LIFE[before.version], now)
            sender.outbox.desire(stands[number])
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
                await sender.kill()
                for incident in stands.values():
                    sender.outbox.desire(incident)
        slack.calm()
        await slack.until(lambda: not sender.outbox.waiting(), 150)
        rows = sender.outbox.shown()
        await sender.stop()
        judge(slack, stands, {row.incident: row.generation for row in rows}, sender.killed)


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
