"""Space and inodes of every mounted file system, and whether it still answers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from agent.plugin import Duration, Evidence, Labels, Metric, Options, Probe, Thread, action, read_file
from plugins.disk.mounts import Mount, distinct, mounted
from plugins.disk.space import INODES, judged, stalled

if TYPE_CHECKING:
    from plugins.disk.growth import Growth

_PSEUDO = (
    *("autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs"),
    *("erofs", "fuse.gvfsd-fuse", "fuse.lxcfs", "fuse.portal", "fusectl", "hugetlbfs", "iso9660", "mqueue", "nsfs"),
    *("proc", "pstore", "ramfs", "rpc_pipefs", "securityfs", "selinuxfs", "squashfs", "sysfs", "tmpfs", "tracefs"),
)
_CONTAINERS = ("/var/lib/docker/*", "/var/lib/containers/*", "/var/lib/kubelet/*", "/run/*", "/snap/*")
_SPACE = ("disk.used_percent", "disk.used_bytes", "disk.free_bytes")


class DiskOptions(Options, frozen=True):
    exclude_types: tuple[str, ...] = _PSEUDO
    exclude_mounts: tuple[str, ...] = _CONTAINERS
    network_timeout: Duration = Duration(2)


class Disk(Probe):
    """Reads /proc/self/mountinfo and asks every file system; one that may hang is asked in a thread of its own."""

    options: DiskOptions

    def __init__(
        self,
        options: DiskOptions,
        *,
        proc: str = "/proc",
        statvfs: Callable[[bytes], os.statvfs_result] = os.statvfs,
    ) -> None:
        super().__init__(options)
        self._path = f"{proc}/self/mountinfo"
        self._statvfs = statvfs
        self._mountinfo = b""
        self._mounts: list[Mount] = []
        self._idle: list[Thread] = []
        self._calls: dict[bytes, asyncio.Task[os.statvfs_result]] = {}
        self._growth: Growth | None = None

    async def collect(self) -> list[Metric]:
        mountinfo = read_file(self._path)
        if mountinfo != self._mountinfo:
            self._mountinfo, self._mounts = mountinfo, self._watched(mountinfo)
        started = [
            self._start(mount.path) for mount in self._mounts if mount.may_hang and mount.path not in self._calls
        ]
        metrics: list[Metric] = []
        for mount in self._mounts:
            if not mount.may_hang:
                metrics += judged(mount, self._statvfs, mount.path)
        if started:  # those that hang since an earlier run are not waited for again
            await asyncio.wait(started, timeout=self.options.network_timeout)
        for mount in self._mounts:
            if mount.may_hang:
                metrics += self._answer(mount)
        self._forget()
        return metrics

    async def evidence(self, metric: str, labels: Labels) -> list[Evidence]:
        """What has grown. A network mount is its server's to walk."""
        mounts = [mount for mount in self._mounts if mount.name == labels.get("mount") and not mount.may_hang]
        if metric not in (*_SPACE, INODES) or not mounts:
            return []
        if self._growth is None:
            from plugins.disk.growth import Growth  # noqa: PLC0415 - only who needs it has it in memory

            self._growth = Growth()
        return await self.in_thread(self._growth.evidence, mounts[0].path, inodes=metric == INODES)

    @action("the largest directories and files of a mount; without a name, of the fullest one")
    async def largest(self, about: str) -> list[str]:
        from plugins.disk.largest import chosen, report  # noqa: PLC0415 - only who asks has it in memory

        local = [mount for mount in self._watched(read_file(self._path)) if not mount.may_hang]
        mount = chosen(local, about, self._statvfs)
        return await self.in_thread(report, mount)

    async def aclose(self) -> None:
        for call in self._calls.values():
            call.cancel()
        await asyncio.gather(*self._calls.values(), return_exceptions=True)

    def _watched(self, mountinfo: bytes) -> list[Mount]:
        return distinct([mount for mount in mounted(mountinfo) if self._wanted(mount)])

    def _wanted(self, mount: Mount) -> bool:
        return mount.type not in self.options.exclude_types and not any(
            fnmatchcase(mount.name, pattern) for pattern in self.options.exclude_mounts
        )

    def _start(self, path: bytes) -> asyncio.Task[os.statvfs_result]:
        self._calls[path] = call = asyncio.create_task(self._ask(path))
        return call

    async def _ask(self, path: bytes) -> os.statvfs_result:
        """A thread that hangs is not idle; so there are as many as ever hung or were asked at one time."""
        thread = self._idle.pop() if self._idle else Thread("Disk")
        try:
            return await thread.run(lambda: self._statvfs(path))
        finally:
            self._idle.append(thread)

    def _answer(self, mount: Mount) -> list[Metric]:
        call = self._calls[mount.path]
        if not call.done():
            return [stalled(mount, stalled=True)]
        return judged(mount, lambda _path: call.result(), mount.path)

    def _forget(self) -> None:
        for path, call in list(self._calls.items()):
            if call.done():
                call.exception()  # of a mount that has gone nobody else asks, and asyncio would complain
                del self._calls[path]
