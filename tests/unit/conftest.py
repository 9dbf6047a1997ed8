"""Fixtures of the tests of spool, shipper and desk."""

from __future__ import annotations

import pytest

from agent.config.schema import SpoolConfig
from tests.unit.desks import Office
from tests.unit.rigs import Rig
from tests.unit.spools import Bench, config


@pytest.fixture
async def bench(tmp_path, clock):
    bench = Bench(tmp_path / "spool", clock, config())
    await bench.open()
    yield bench
    await bench.spool.aclose()


@pytest.fixture
async def make(tmp_path, clock):
    rigs = []

    async def make(settings: SpoolConfig | None = None, **more) -> Rig:
        rig = Rig(tmp_path / "spool", clock, settings or config())
        rigs.append(rig)
        await rig.start(**more)
        return rig

    yield make
    for rig in rigs:
        await rig.stop()


@pytest.fixture
async def office(tmp_path, clock):
    office = Office(tmp_path, clock)
    await office.start()
    yield office
    await office.stop()
