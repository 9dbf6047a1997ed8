"""What is mounted where, from /proc/self/mountinfo."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from agent.plugin import printable

_ESCAPE = re.compile(rb"\\([0-7]{3})")

# File systems behind which a server or another process stands that may never answer.
_NETWORK = frozenset(
    "9p afs beegfs ceph cifs coda glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 smb3 smbfs virtiofs".split()  # noqa: SIM905
)


class Mount(NamedTuple):
    """`path` is as the kernel knows it, `device` is "major:minor", `whole` is False for a bind mount of a part."""

    path: bytes
    type: str
    device: bytes
    whole: bool

    @property
    def name(self) -> str:
        return printable(self.path)

    @property
    def may_hang(self) -> bool:
        return self.type in _NETWORK or self.type.startswith("fuse")


def mounted(mountinfo: bytes) -> list[Mount]:
    """What `parse` finds, and the root always: in a changed root (chroot) it cannot be seen as a mount."""
    mounts = parse(mountinfo)
    if not any(mount.path == b"/" for mount in mounts):
        device = Path("/").stat().st_dev
        mounts.append(Mount(b"/", "unknown", b"%d:%d" % (os.major(device), os.minor(device)), whole=False))
    return mounts


def parse(mountinfo: bytes) -> list[Mount]:
    """In the order of mounting, and without those that a later one on the same path covers."""
    mounts: dict[bytes, Mount] = {}
    for line in mountinfo.splitlines():
        # "36 35 98:0 /root /mount/point rw,noatime optional… - ext4 /dev/root rw": the options may be none or many.
        left, _, right = line.partition(b" - ")
        _id, _parent, device, root, path, *_ = left.split(b" ")
        path = _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), path)
        mounts.pop(path, None)
        kind = printable(right.split(b" ", 1)[0])
        mounts[path] = Mount(path, kind, device, root == b"/")
    return list(mounts.values())


def distinct(mounts: list[Mount]) -> list[Mount]:
    """One mount for each file system: the whole rather than a part, then the shortest path."""
    best: dict[bytes, Mount] = {}
    for mount in sorted(mounts, key=lambda mount: (not mount.whole, len(mount.path))):
        best.setdefault(mount.device, mount)
    return list(best.values())
