import asyncio
import errno
import gc
import threading

import pytest

from agent.plugin import Duration
from plugins.disk import Disk, DiskOptions
from plugins.disk.mounts import distinct, parse
from tests.plugins.recorded import collect_until, filled, values

BLOCK = 4096


def mounts(metrics):
    return {metric.labels["mount"] for metric in metrics}


async def test_which_mounts_are_reported(machine):
    """Each file system once: no pseudo ones, images, containers, bind mounts or mounts that another covers."""
    asked = []
    recorded = machine("disk")
    recorded.parts["statvfs"] = lambda path: asked.append(path) or filled()
    recorded.at("server")
    metrics = await recorded.probe().collect()
    assert mounts(metrics) == {"/", "/home", "/data", "/mnt/old disk", "/mnt/covered"}
    assert b"/mnt/old disk" in asked
    assert len(asked) == 5


async def test_space_as_df_counts_it(machine):
    """Blocks kept for root are neither used nor free."""
    recorded = machine("disk")
    recorded.at("server")
    assert values(await recorded.probe().collect(), mount="/", type="ext4") == pytest.approx({
        "disk.total_bytes": 1000 * BLOCK,
        "disk.used_bytes": 600 * BLOCK,
        "disk.free_bytes": 350 * BLOCK,
        "disk.used_percent": 100 * 600 / 950,
        "disk.inodes_used_percent": 75.0,
        "disk.read_only": 0.0,
        "disk.stalled": 0.0,
    })  # fmt: skip


async def test_read_only_without_inodes_and_full_to_the_brim(machine):
    """The flag is told, a file system without inodes has no share of them, and one without any room is full."""
    answers = {
        b"/": filled(read_only=True),
        b"/data": filled(files=0),
        b"/home": filled(blocks=0),
        b"/mnt/covered": filled(blocks=1000, free=1000, available=0),
    }
    recorded = machine("disk")
    recorded.parts["statvfs"] = lambda path: answers.get(path, filled())
    recorded.at("server")
    metrics = await recorded.probe().collect()
    assert values(metrics, mount="/", type="ext4")["disk.read_only"] == 1.0
    assert "disk.inodes_used_percent" not in values(metrics, mount="/data", type="btrfs")
    assert "/home" not in mounts(metrics)
    assert values(metrics, mount="/mnt/covered", type="ext4")["disk.used_percent"] == 100.0


async def test_exclusions_on_demand(machine):
    """Options leave out types by name and mounts by pattern."""
    recorded = machine("disk")
    recorded.at("server")
    options = DiskOptions(
        exclude_types=(*DiskOptions().exclude_types, "btrfs"), exclude_mounts=("/mnt/*", "/var/*", "/snap/*")
    )
    assert mounts(await recorded.probe(options).collect()) == {"/", "/home"}


async def test_mounts_that_come_and_go(machine):
    """A new mount is seen in the next run, and one that has gone is no longer asked."""
    recorded = machine("disk")
    recorded.at("server")
    probe = recorded.probe()
    before = mounts(await probe.collect())
    recorded.at("network")
    assert mounts(await probe.collect()) == before | {"/mnt/nfs", "/mnt/photos"}
    recorded.at("server")
    assert mounts(await probe.collect()) == before


@pytest.mark.parametrize(
    ("code", "stalled"), [(errno.ESTALE, 1.0), (errno.EIO, 1.0), (errno.EACCES, None), (errno.ENOENT, None)]
)
async def test_a_file_system_that_answers_with_an_error(machine, code, stalled):
    """A stale handle or an I/O error is told; what is not ours to see, or gone meanwhile, is left out; others go on."""

    def statvfs(path):
        if path in (b"/mnt/nfs", b"/home"):
            raise OSError(code, "as recorded")
        return filled()

    recorded = machine("disk")
    recorded.parts["statvfs"] = statvfs
    recorded.at("network")
    metrics = await recorded.probe().collect()
    expected = {} if stalled is None else {"disk.stalled": stalled}
    assert values(metrics, mount="/mnt/nfs", type="nfs4") == expected
    assert values(metrics, mount="/home", type="xfs") == expected
    assert values(metrics, mount="/mnt/photos", type="fuse.sshfs")["disk.stalled"] == 0.0


async def test_a_network_mount_that_hangs_harms_nobody(machine):
    """It is told as stalled, the others are reported as ever, it is asked once, costs one thread, and comes back."""
    answering = threading.Event()
    asked = []

    def statvfs(path):
        if path == b"/mnt/nfs":
            asked.append(path)
            assert answering.wait(60)
        return filled()

    recorded = machine("disk")
    recorded.parts["statvfs"] = statvfs
    recorded.at("network")
    probe = recorded.probe(DiskOptions(network_timeout=Duration(0.05)))
    try:
        counts = []
        for _ in range(5):
            metrics = await probe.collect()
            assert values(metrics, mount="/mnt/nfs", type="nfs4") == {"disk.stalled": 1.0}
            assert values(metrics, mount="/", type="ext4")["disk.used_percent"] > 0
            counts.append(threading.active_count())
        assert asked == [b"/mnt/nfs"]
        assert counts[-1] == counts[0]
    finally:
        answering.set()
    await collect_until(probe, lambda found: "disk.used_percent" in values(found, mount="/mnt/nfs", type="nfs4"))
    await probe.aclose()


async def test_an_earlier_hang_is_not_waited_for_again(machine):
    """While one mount hangs, only what was started anew is waited for, however long that may take."""
    answering = threading.Event()
    recorded = machine("disk")
    recorded.parts["statvfs"] = lambda path: answering.wait(60) and filled() if path == b"/mnt/nfs" else filled()
    recorded.at("network")
    probe = recorded.probe(DiskOptions(network_timeout=Duration(0.05)))
    await probe.collect()
    probe.options = DiskOptions(network_timeout=Duration(3600))
    try:
        async with asyncio.timeout(30):
            metrics = await probe.collect()
        assert values(metrics, mount="/mnt/photos", type="fuse.sshfs")["disk.stalled"] == 0.0
    finally:
        await probe.aclose()
        answering.set()


async def test_a_hanging_mount_that_is_unmounted_by_force(machine):
    """It is forgotten with its late error, and asyncio has nothing to complain of."""
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    answering = threading.Event()

    def statvfs(path):
        if path == b"/mnt/nfs":
            assert answering.wait(60)
            raise OSError(errno.EIO, "unmounted")
        return filled()

    recorded = machine("disk")
    recorded.parts["statvfs"] = statvfs
    recorded.at("network")
    probe = recorded.probe(DiskOptions(network_timeout=Duration(0.05)))
    await probe.collect()
    recorded.at("server")
    assert "/mnt/nfs" not in mounts(await probe.collect())
    answering.set()
    await collect_until(probe, lambda _found: not probe._calls)
    await probe.aclose()
    gc.collect()
    assert complaints == []


def test_a_line_with_and_without_optional_fields():
    """The type stands behind the dash, however many fields come before it; escapes are undone."""
    [plain, shared] = parse(
        b"36 35 98:0 / /a\\134b\\011c rw - ext4 /dev/a rw\n37 35 98:1 /x /d rw shared:1 master:2 - xfs /dev/b rw\n"
    )
    assert (plain.path, plain.type, plain.device, plain.whole) == (b"/a\\b\tc", "ext4", b"98:0", True)
    assert (shared.type, shared.whole) == ("xfs", False)
    assert plain.name == r"/a\\b\tc"


def test_the_whole_goes_before_a_part_of_it():
    """Of two mounts of one file system the whole is kept, even where its path is the longer one."""
    parsed = parse(b"1 0 8:1 /part /p rw - ext4 /dev/a rw\n2 0 8:1 / /the/whole rw - ext4 /dev/a rw\n")
    assert [mount.path for mount in distinct(parsed)] == [b"/the/whole"]


async def test_in_a_changed_root_the_root_is_watched_all_the_same(tmp_path):
    """There /proc/self/mountinfo tells nothing of what stands under the root: only of what is mounted below it."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self/mountinfo").write_text("30 20 0:21 / /proc rw,nosuid - proc proc rw\n")
    probe = Disk(DiskOptions(), proc=str(tmp_path), statvfs=lambda _path: filled())
    assert mounts(await probe.collect()) == {"/"}
