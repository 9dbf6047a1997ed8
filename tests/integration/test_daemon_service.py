"""The daemon under a service manager: ready, watched, reloaded, stopped."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.integration.agents import RULE, Make, collecting, gone, heard, waiting
from tests.services import Mosquitto, eventually, free_port


async def test_it_tells_systemd_and_stops_with_the_spool_flushed(make: Make, manager: socket.socket) -> None:
    """READY once, WATCHDOG again and again, a status line, STOPPING; and what was measured last is on disk."""
    agent = make(f"mqtt://127.0.0.1:{free_port()}")
    agent.start(NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="600000")
    said: list[str] = []

    def enough() -> bool:
        said.extend(heard(manager))
        return said.count("WATCHDOG=1") >= 5 and any(line.startswith("STATUS=1 probe (0 failing)") for line in said)

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
