"""What takes longer: the walk over a mount, and what a probe says itself."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.daemon import inquiry as module
from agent.daemon import walk as walking
from agent.daemon.inquiry import Inquiry
from agent.daemon.walk import Walk, walk
from agent.model import Evidence, Incident, Labels, Severity, Transition, TransitionKind
from agent.slack.samples import samples
from tests.fakes.clock import ManualClock
from tests.services import eventually

DISK = samples(1_790_000_000.0)[0].incident
CPU = replace(DISK, id="inc_cpu", metric="cpu.used_percent", labels={})
MIB = 1024 * 1024


class FakeSources:
    """The probe's answer, and what was told of it."""

    def __init__(self) -> None:
        self.answer: tuple[Evidence, ...] = ()
        self.told: list[tuple[str, tuple[Evidence, ...]]] = []
        self.hang = False

    async def ask(self, metric: str, labels: Labels) -> tuple[Evidence, ...]:
        if self.hang:
            await asyncio.Event().wait()
        return self.answer

    def tell(self, incident_id: str, evidence: tuple[Evidence, ...]) -> None:
        self.told.append((incident_id, evidence))


def opened(incident: Incident, kind: TransitionKind = TransitionKind.OPENED) -> list[tuple[Incident, Transition]]:
    return [(incident, Transition(incident.id, incident.version, kind, Severity.WARNING, 0.0))]


def seen(sizes: dict[str, int], *, complete: bool = True) -> Walk:
    return Walk(sizes, dict.fromkeys(sizes, 7), 100, complete)


class Rig:
    def __init__(self, clock: ManualClock) -> None:
        self.sources = FakeSources()
        self.walk: Callable[[str], Walk] = lambda _: seen({})
        self.inquiry = Inquiry(self.sources.ask, self.sources.tell, clock, look=self.look)

    def look(self, path: str) -> Walk:
        return self.walk(path)

    async def told(self, count: int) -> list[tuple[str, tuple[Evidence, ...]]]:
        await eventually(lambda: len(self.sources.told) >= count, "evidence", 10)
        return self.sources.told


@pytest.fixture
async def rig(clock: ManualClock) -> AsyncIterator[Rig]:
    rig = Rig(clock)
    task = asyncio.create_task(rig.inquiry.run())
    yield rig
    task.cancel()


def fill(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))


def test_a_walk_finds_where_the_space_is(tmp_path: Path) -> None:
    """The inner directory says more than one that holds nothing else; a directory with several stands for them."""
    fill(tmp_path / "var" / "log" / "app" / "one.log", 3 * MIB)
    fill(tmp_path / "srv" / "a" / "x", MIB)
    fill(tmp_path / "srv" / "b" / "x", MIB)
    found = walk(str(tmp_path))
    assert list(found.sizes)[:2] == [f"{tmp_path}/var/log/app", f"{tmp_path}/srv"]
    assert found.sizes[f"{tmp_path}/var/log/app"] >= 3 * MIB
    assert f"{tmp_path}/var/log" not in found.sizes
    assert found.complete


def test_a_large_file_is_told_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "LARGE_FILE", MIB)
    fill(tmp_path / "dump.sql", 2 * MIB)
    assert list(walk(str(tmp_path)).sizes) == [f"{tmp_path}/dump.sql"]


def test_a_walk_follows_no_link_and_stays_on_its_file_system(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    fill(outside / "big", MIB)
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    assert walk(str(inside)).sizes == {}
    assert not [path for path in walk("/").sizes if path.startswith("/proc/")]


def test_a_walk_has_bounds_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries, seconds and the directories that are added up; deeper ones count for those above."""
    for index in range(30):
        fill(tmp_path / f"d{index}" / "x" / "file", 4096)
    some = walk(str(tmp_path), most_entries=20)
    assert (some.entries, some.complete) == (20, False)
    times = iter([0.0, *[100.0] * 50])
    assert not walk(str(tmp_path), now=lambda: next(times)).complete
    monkeypatch.setattr(walking, "MOST_NODES", 5)
    few = walk(str(tmp_path))
    assert few.complete
    assert len(few.sizes) <= 4


def test_a_walk_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        walk(str(tmp_path / "none"))


async def test_growth_is_told_from_the_second_walk_on(rig: Rig, clock: ManualClock) -> None:
    """First the largest, then what has grown most since."""
    rig.walk = lambda _: seen({"/srv/big": 900 * MIB, "/srv/log": 100 * MIB})
    rig.inquiry.consider(opened(DISK))
    first = await rig.told(1)
    assert first[0] == (
        DISK.id,
        (Evidence("Largest directories and files", ("/srv/big  900 MiB", "/srv/log  100 MiB")),),
    )
    clock.tick(1200)
    rig.walk = lambda _: seen({"/srv/big": 900 * MIB, "/srv/log": 400 * MIB})
    rig.inquiry.consider(opened(DISK, TransitionKind.ESCALATED))
    second = await rig.told(2)
    assert second[1][1][0].lines == ("/srv/log  400 MiB  +300 MiB in 20 min", "/srv/big  900 MiB")


async def test_an_unfinished_walk_claims_no_growth(rig: Rig) -> None:
    rig.walk = lambda _: seen({"/srv/log": MIB}, complete=False)
    rig.inquiry.consider(opened(DISK))
    await rig.told(1)
    rig.walk = lambda _: seen({"/srv/log": 9 * MIB})
    rig.inquiry.consider(opened(DISK))
    told = await rig.told(2)
    assert told[0][1][0].lines[-1] == "(of 100 entries; not all could be looked at)"
    assert told[1][1][0].lines == ("/srv/log  9 MiB",)


async def test_inodes_are_counted_in_files(rig: Rig) -> None:
    rig.walk = lambda _: seen({"/srv/mail": MIB})
    rig.inquiry.consider(opened(replace(DISK, metric="disk.inodes_used_percent")))
    assert (await rig.told(1))[0][1] == (Evidence("Most files", ("/srv/mail  7 files",)),)


async def test_a_name_that_is_no_text_can_still_be_shipped(rig: Rig) -> None:
    """A file system allows any bytes; JSON does not."""
    rig.walk = lambda _: seen({os.fsdecode(b"/srv/\xff"): MIB})
    rig.inquiry.consider(opened(DISK))
    assert (await rig.told(1))[0][1][0].lines == ("/srv/\\xff  1 MiB",)


@pytest.mark.parametrize(
    "labels", [{"mount": "/srv", "type": "nfs4"}, {"mount": "relative", "type": "ext4"}, {"type": "ext4"}]
)
async def test_what_is_not_ours_is_not_walked(rig: Rig, labels: Labels) -> None:
    """A server's files are the server's to look at."""
    rig.walk = lambda path: pytest.fail(f"walked {path}")
    rig.sources.answer = (Evidence("from the probe", ("x",)),)
    rig.inquiry.consider(opened(replace(DISK, labels=labels)))
    assert (await rig.told(1))[0][1] == rig.sources.answer


async def test_the_probe_is_asked_too(rig: Rig) -> None:
    rig.sources.answer = (Evidence("Process list", ("SELECT 1",)),)
    rig.inquiry.consider(opened(CPU))
    assert await rig.told(1) == [("inc_cpu", rig.sources.answer)]


async def test_only_a_rise_is_looked_into(rig: Rig) -> None:
    rig.sources.answer = (Evidence("x", ("y",)),)
    for kind in TransitionKind:
        rig.inquiry.consider(opened(replace(CPU, id=kind), kind))
    assert [incident for incident, _ in await rig.told(2)] == ["opened", "escalated"]


async def test_a_walk_that_hangs_costs_one_thread_and_holds_up_nobody(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later incidents get what their probe says; no second walk is begun."""
    monkeypatch.setattr(module, "DEADLINE", 0.05)
    release, walks = threading.Event(), list[str]()

    def hang(path: str) -> Walk:
        walks.append(path)
        release.wait(10)
        return seen({})

    rig.walk = hang
    rig.sources.answer = (Evidence("x", ("y",)),)
    rig.inquiry.consider([*opened(DISK), *opened(replace(DISK, id="inc_2")), *opened(CPU)])
    told = await rig.told(3)
    release.set()
    assert [incident for incident, _ in told] == [DISK.id, "inc_2", "inc_cpu"]
    assert walks == ["/srv"]


async def test_a_probe_that_hangs_holds_up_nobody(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEADLINE", 0.3)
    rig.sources.hang = True
    rig.walk = lambda _: seen({"/srv/log": MIB})
    rig.inquiry.consider(opened(DISK))
    assert (await rig.told(1))[0][1][0].lines == ("/srv/log  1 MiB",)


async def test_a_storm_is_not_all_looked_into(clock: ManualClock) -> None:
    rig = Rig(clock)
    rig.sources.answer = (Evidence("x", ("y",)),)
    for index in range(50):
        rig.inquiry.consider(opened(replace(CPU, id=f"inc_{index}")))
    task = asyncio.create_task(rig.inquiry.run())
    await rig.told(module.WAITING)
    await asyncio.sleep(0.02)
    task.cancel()
    assert len(rig.sources.told) == module.WAITING
