"""What takes longer: what a probe says itself of an incident."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from agent.daemon import inquiry as module
from agent.daemon.inquiry import Inquiry
from agent.model import Evidence, Incident, Labels, Severity, Transition, TransitionKind
from agent.slack.samples import samples
from tests.services import eventually

DISK = samples(1_790_000_000.0)[0].incident


class Rig:
    """The probe's answer, and what was told of it."""

    def __init__(self) -> None:
        self.answer: tuple[Evidence, ...] = (Evidence("Process list", ("SELECT 1",)),)
        self.asked: list[tuple[str, Labels]] = []
        self.told: list[tuple[str, tuple[Evidence, ...]]] = []
        self.inquiry = Inquiry(self.ask, lambda incident_id, found: self.told.append((incident_id, found)))

    async def ask(self, metric: str, labels: Labels) -> tuple[Evidence, ...]:
        self.asked.append((metric, labels))
        return self.answer

    async def hears(self, count: int) -> list[tuple[str, tuple[Evidence, ...]]]:
        await eventually(lambda: len(self.told) >= count, "evidence", 10)
        return self.told


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    task = asyncio.create_task(rig.inquiry.run())
    yield rig
    task.cancel()


def opened(incident: Incident, kind: TransitionKind = TransitionKind.OPENED) -> list[tuple[Incident, Transition]]:
    return [(incident, Transition(incident.id, incident.version, kind, Severity.WARNING, 0.0))]


async def test_the_probe_is_asked(rig: Rig) -> None:
    rig.inquiry.consider(opened(DISK))
    assert await rig.hears(1) == [(DISK.id, rig.answer)]
    assert rig.asked == [(DISK.metric, DISK.labels)]


async def test_what_it_does_not_know_is_not_told(rig: Rig) -> None:
    rig.answer = ()
    rig.inquiry.consider(opened(DISK))
    await eventually(lambda: rig.asked, "the question")
    rig.answer = (Evidence("x", ("y",)),)
    rig.inquiry.consider(opened(replace(DISK, id="inc_2")))
    assert [incident for incident, _ in await rig.hears(1)] == ["inc_2"]


async def test_only_a_rise_is_looked_into(rig: Rig) -> None:
    for kind in TransitionKind:
        rig.inquiry.consider(opened(replace(DISK, id=kind), kind))
    assert [incident for incident, _ in await rig.hears(2)] == ["opened", "escalated"]


async def test_a_storm_is_not_all_looked_into() -> None:
    rig = Rig()
    for index in range(50):
        rig.inquiry.consider(opened(replace(DISK, id=f"inc_{index}")))
    task = asyncio.create_task(rig.inquiry.run())
    await rig.hears(module.WAITING)
    await asyncio.sleep(0.02)
    task.cancel()
    assert len(rig.told) == module.WAITING
