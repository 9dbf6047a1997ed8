"""What the disk probe says of a full disk: the walk over the mount, and what has grown since the last one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.plugin import Evidence
from plugins.disk import Disk, DiskOptions
from plugins.disk import walk as walking
from plugins.disk.growth import Growth, look
from plugins.disk.walk import Walk, walk

MIB = 1024 * 1024


def fill(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))


def sizes(path: Path) -> dict[str, int]:
    return {os.fsdecode(name): size for name, size in look(os.fsencode(path)).sizes.items()}


def test_a_walk_finds_where_the_space_is(tmp_path: Path) -> None:
    """The inner directory says more than one that holds nothing else; a directory with several stands for them."""
    fill(tmp_path / "var" / "log" / "app" / "one.log", 3 * MIB)
    fill(tmp_path / "srv" / "a" / "x", MIB)
    fill(tmp_path / "srv" / "b" / "x", MIB)
    found = sizes(tmp_path)
    assert list(found)[:2] == [f"{tmp_path}/var/log/app", f"{tmp_path}/srv"]
    assert found[f"{tmp_path}/var/log/app"] >= 3 * MIB
    assert f"{tmp_path}/var/log" not in found
    assert look(os.fsencode(tmp_path)).complete


def test_a_large_file_is_told_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "LARGE_FILE", MIB)
    fill(tmp_path / "dump.sql", 2 * MIB)
    assert list(sizes(tmp_path)) == [f"{tmp_path}/dump.sql"]


def test_a_walk_follows_no_link_and_stays_on_its_file_system(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    fill(outside / "big", MIB)
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    assert sizes(inside) == {}
    assert not [path for path in sizes(Path("/")) if path.startswith("/proc/")]


def test_a_walk_has_bounds_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries, seconds and the directories that are added up; deeper ones count for those above."""
    for index in range(30):
        fill(tmp_path / f"d{index}" / "x" / "file", 4096)
    root = os.fsencode(tmp_path)
    some = walk(root, most_entries=20, seconds=60)
    assert (some.entries, some.complete) == (20, False)
    times = iter([0.0, *[100.0] * 50])
    assert not walk(root, most_entries=1000, seconds=60, now=lambda: next(times)).complete
    monkeypatch.setattr(walking, "MOST_NODES", 5)
    few = walk(root, most_entries=1000, seconds=60)
    assert few.complete
    assert len(few.sizes) <= 4


def test_a_walk_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        look(os.fsencode(tmp_path / "none"))


class Looks:
    """What walks find, one after the other, twenty minutes apart."""

    def __init__(self, *found: dict[str, int], complete: bool = True) -> None:
        walks = iter([seen(sizes, complete=complete if index == 0 else True) for index, sizes in enumerate(found)])
        times = iter([1200.0 * index for index in range(len(found))])
        self.growth = Growth(lambda _: next(walks), lambda: next(times))

    def lines(self) -> tuple[str, ...]:
        [evidence] = self.growth.evidence(b"/srv", inodes=False)
        assert evidence.title == "Largest directories and files"
        return evidence.lines


def seen(sizes: dict[str, int], *, complete: bool = True) -> Walk:
    encoded = {os.fsencode(path): size for path, size in sizes.items()}
    return Walk(encoded, dict.fromkeys(encoded, 7), 100, complete)


def test_growth_is_told_from_the_second_walk_on() -> None:
    """First the largest, then what has grown most since."""
    looks = Looks({"/srv/big": 900 * MIB, "/srv/log": 100 * MIB}, {"/srv/big": 900 * MIB, "/srv/log": 400 * MIB})
    assert looks.lines() == ("/srv/big  900 MiB", "/srv/log  100 MiB")
    assert looks.lines() == ("/srv/log  400 MiB  +300 MiB in 20 min", "/srv/big  900 MiB")


def test_an_unfinished_walk_claims_no_growth() -> None:
    looks = Looks({"/srv/log": MIB}, {"/srv/log": 9 * MIB}, complete=False)
    assert looks.lines()[-1] == "(of 100 entries; not all could be looked at)"
    assert looks.lines() == ("/srv/log  9 MiB",)


def test_inodes_are_counted_in_files() -> None:
    growth = Growth(lambda _: seen({"/srv/mail": MIB}))
    assert growth.evidence(b"/srv", inodes=True) == [Evidence("Most files", ("/srv/mail  7 files",))]


def test_a_name_that_is_no_text_can_still_be_shipped() -> None:
    """A file system allows any bytes; JSON does not."""
    assert Looks({os.fsdecode(b"/srv/\xff"): MIB}).lines() == ("/srv/\\xff  1 MiB",)


def test_a_few_mounts_are_remembered() -> None:
    growth = Growth(lambda root: seen({os.fsdecode(root): MIB}))
    for number in range(30):
        growth.evidence(b"/mnt/%d" % number, inodes=False)
    assert len(growth._walks) == 8


async def test_as_evidence_of_the_probe(tmp_path: Path) -> None:
    """For space and inodes of a mount that it watches; a server's files are the server's to look at."""
    fill(tmp_path / "big" / "file", 200_000)
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    line = f"36 35 8:1 / {tmp_path} rw - ext4 /dev/sda1 rw\n37 35 0:50 / /mnt rw - nfs4 server:/x rw\n"
    (proc / "self/mountinfo").write_text(line)
    filled = os.statvfs_result((4096, 4096, 100, 10, 10, 10, 5, 5, 0, 255))
    probe = Disk(DiskOptions(), proc=str(proc), statvfs=lambda _: filled)
    await probe.collect()
    [evidence] = await probe.evidence("disk.used_percent", {"mount": str(tmp_path), "type": "ext4"})
    assert evidence.lines[0].startswith(f"{tmp_path}/big"[:20])
    [evidence] = await probe.evidence("disk.inodes_used_percent", {"mount": str(tmp_path), "type": "ext4"})
    assert evidence.title == "Most files"
    for metric, mount in (
        ("disk.used_percent", "/mnt"),
        ("disk.used_percent", "/etc"),
        ("disk.read_only", str(tmp_path)),
    ):
        assert await probe.evidence(metric, {"mount": mount}) == []
    await probe.aclose()
