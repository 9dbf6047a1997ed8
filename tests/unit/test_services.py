"""The servers that other tests stand on."""

from __future__ import annotations

import asyncio

from tests.conftest import Database
from tests.fakes.clock import ManualClock
from tests.services import Mosquitto, listens


def test_broker_starts_again_on_its_port(mosquitto: Mosquitto) -> None:
    """kill is kill -9, and start brings the same address back."""
    port = mosquitto.port
    mosquitto.kill()
    assert not listens(port)
    mosquitto.start()
    assert listens(port)


def test_database_is_fresh(mariadb: Database) -> None:
    """Every test gets an empty database of its own."""
    name = mariadb.url.rsplit("/", 1)[1]
    assert (
        mariadb.server.execute(f"SELECT COUNT(*) FROM information_schema.tables WHERE table_schema='{name}'") == "0\n"
    )


async def test_clock_wakes_sleepers_in_order(clock: ManualClock) -> None:
    """Virtual time passes only when it is turned, and in order."""
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    tasks = [asyncio.create_task(sleeper("late", 5)), asyncio.create_task(sleeper("early", 1))]
    await clock.advance(0.5)
    assert woken == []
    await clock.advance(10)
    assert woken == [("early", 1.0), ("late", 5.0)]
    await asyncio.gather(*tasks)
