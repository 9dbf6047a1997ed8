"""From the engine into the spool: what may be forgotten, and when."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from agent.alerting.engine import Engine
from agent.config.schema import AgentConfig, Config, ThresholdConfig
from agent.config.units import Quantity
from agent.daemon.service import Daemon
from agent.daemon.setup import Setup
from agent.model import ProbeResult
from agent.plugin import gauge
from tests.fakes.clock import ManualClock, settle


class SlowSpool:
    """Commits when the test says so: `flush` returns with what was put before it was called."""

    def __init__(self) -> None:
        self.put_ids: list[str] = []
        self.waiting: list[asyncio.Future[None]] = []

    def put(self, topic: Any, build: Any, **keys: Any) -> int:
        self.put_ids.append(build(1).incident.id)
        return 1

    async def flush(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        await future

    def stats(self) -> SimpleNamespace:
        return SimpleNamespace(memory_only=False)


async def test_a_commit_vouches_only_for_what_it_held(clock: ManualClock, tmp_path: Path) -> None:
    """Two hand-overs at once, as at the end: the first commit does not let go of what the second has only queued."""
    config = Config(agent=AgentConfig(host="web-1", state_dir=tmp_path))
    daemon = Daemon(cast("Setup", SimpleNamespace(config=config)), clock=clock)
    rules = [ThresholdConfig(name="disk", metric="disk.used_percent", warning=Quantity(80))]
    engine, spool = await Engine.open(tmp_path / "alerts.db", rules, "web-1", clock), SlowSpool()
    daemon._parts = cast("Any", SimpleNamespace(engine=engine, spool=spool))

    async def handed(calls: int) -> None:
        while len(spool.waiting) < calls:
            await asyncio.to_thread(lambda: None)
            await settle()

    def breach(mount: str) -> None:
        engine.observe(ProbeResult("disk", clock.now(), "ok", 0.0, (gauge("disk.used_percent", 90.0, mount=mount),)))

    breach("/")
    tasks = [asyncio.create_task(daemon._put_incidents())]
    await handed(1)
    breach("/var")
    tasks.append(asyncio.create_task(daemon._put_incidents()))
    await handed(2)
    spool.waiting[0].set_result(None)
    await tasks[0]
    assert [incident.labels["mount"] for incident, _ in engine.unshipped()] == ["/var"]
    spool.waiting[1].set_result(None)
    await tasks[1]
    assert engine.unshipped() == []
    assert len(spool.put_ids) == 2
    await engine.aclose()
