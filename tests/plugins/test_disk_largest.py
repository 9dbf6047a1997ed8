"""The action `largest`: which directories hold most of a mount, within bounds."""

import os
from pathlib import Path

import pytest

from plugins.disk import Disk, DiskOptions
from plugins.disk.largest import chosen, report
from plugins.disk.mounts import Mount


def mount(path: Path, kind: str = "ext4") -> Mount:
    return Mount(os.fsencode(path), kind, b"8:1", whole=True)


def put(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def names(lines: list[str], root: Path) -> list[str]:
    return [line.split(None, 2)[2].removeprefix(f"{root}/") for line in lines[:-1]]


def test_the_directory_that_says_most_comes_first(tmp_path):
    """A parent that is large for one child's sake alone is not told beside it; links are not followed."""
    put(tmp_path / "var/log/app/one.log", 3_000_000)
    put(tmp_path / "var/lib/db/data", 800_000)
    put(tmp_path / "home/ada/notes", 100_000)
    (tmp_path / "home/ada/loop").symlink_to(tmp_path)
    lines = report(mount(tmp_path))
    assert names(lines, tmp_path)[:2] == ["var/log/app", "var/lib/db"]
    assert "var" not in names(lines, tmp_path)
    assert lines[0].split()[1] == "MiB"
    assert lines[-1].endswith("11 files and directories seen")


def test_bounds_are_kept_and_told(tmp_path):
    for number in range(50):
        put(tmp_path / f"d{number}/file", 5000)
    for lines in (report(mount(tmp_path), entries=20), report(mount(tmp_path), seconds=0)):
        assert lines[-1].endswith("not all could be looked at")


def test_only_a_mount_that_is_there_is_walked(tmp_path):
    """What the caller names is looked up among the mounts, and never used as a path."""
    mounts = [mount(Path("/")), mount(Path("/data"))]
    full = {b"/": filled(90), b"/data": filled(10)}
    assert chosen(mounts, "/data", full.__getitem__).name == "/data"
    assert chosen(mounts, "", full.__getitem__).name == "/data"
    for about in ("/etc", "/data/../etc", "data"):
        with pytest.raises(ValueError, match="there are /, /data"):
            chosen(mounts, about, full.__getitem__)
    with pytest.raises(ValueError, match="no local mount"):
        chosen([], "", full.__getitem__)


async def test_as_an_action_of_the_plugin(tmp_path):
    put(tmp_path / "big/file", 200_000)
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    line = f"36 35 8:1 / {tmp_path} rw - ext4 /dev/sda1 rw\n37 35 0:50 / /mnt rw - nfs4 server:/x rw\n"
    (proc / "self/mountinfo").write_text(line)
    assert list(Disk.actions()) == ["largest"]
    probe = Disk(DiskOptions(), proc=str(proc))
    assert f"{tmp_path}/big" in (await probe.largest(str(tmp_path)))[0]
    with pytest.raises(ValueError, match="no local mount"):
        await probe.largest("/mnt")


def filled(available: int) -> os.statvfs_result:
    return os.statvfs_result((4096, 4096, 100, available, available, 10, 5, 5, 0, 255))
