"""A sender that can be killed: the outbox, its state file and the SDK in a process of its own.

What stands is read from a journal, as an engine would say it again after a restart; how far Slack has been told goes
to standard output, a JSON line at each change: `{"read": lines, "waiting": rows, "generations": {incident: n}}`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from agent.alerting.outbox import Outbox
from agent.alerting.state import State
from agent.config.schema import SlackConfig, SlackRoute
from agent.config.secret import Secret
from agent.config.units import Duration
from agent.model import Incident
from agent.slack.sender import SlackMessenger

FACTOR = 20
"""How much faster than real its clock goes, for the sender and for Slack alike."""
CHANNELS = 10
TOKEN = "FAKE_SLACK_TOKEN"  # the name of the variable


class FastClock:
    """Real time, only more of it; `began` is where its monotonic time is 0, the same in each process."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._zero = time.time() - (time.monotonic() - began)

    def now(self) -> float:
        return self._zero + self.monotonic()

    def monotonic(self) -> float:
        return (time.monotonic() - self._began) * FACTOR

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / FACTOR)


async def main(directory: Path, url: str, began: float) -> None:
    clock = FastClock(began)
    state = await State.open(directory / "alerts.db")
    routes = [SlackRoute(match={"host": f"h-{number}"}, channel=f"#c-{number}") for number in range(CHANNELS)]
    messenger = SlackMessenger(SlackConfig(bot_token=Secret("env", TOKEN), base_url=url, timeout=Duration(1)))
    outbox = Outbox(state, messenger, clock, routes=routes, storm_after=10**6)
    async with asyncio.TaskGroup() as group:
        group.create_task(outbox.run())
        group.create_task(_follow(directory / "journal", outbox))


async def _follow(journal: Path, outbox: Outbox) -> None:
    read, said, rest = 0, "", b""
    with journal.open("rb") as lines:
        while True:
            *whole, rest = (rest + lines.read()).split(b"\n")
            for line in whole:
                outbox.desire(msgspec.json.decode(line, type=Incident))
            read += len(whole)
            generations = {row.incident: row.generation for row in outbox.shown()}
            now = json.dumps({"read": read, "waiting": len(outbox.waiting()), "generations": generations})
            if now != said:
                print(now, flush=True)
                said = now
            await asyncio.sleep(0.01)


def command(directory: Path, url: str, began: float) -> Sequence[str]:
    return (sys.executable, "-m", "tests.integration.hostile", str(directory), url, repr(began))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
