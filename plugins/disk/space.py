"""What a file system answers, as metrics."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from agent.plugin import Metric
from plugins.disk.mounts import Mount

INODES = "disk.inodes_used_percent"
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR)  # another user's, or gone meanwhile


def judged(mount: Mount, ask: Callable[[bytes], os.statvfs_result], path: bytes) -> list[Metric]:
    try:
        answer = ask(path)
    except OSError as error:
        return [] if error.errno in _NOT_OURS else [stalled(mount, stalled=True)]
    return _space(mount, answer) if answer.f_blocks else []


def stalled(mount: Mount, *, stalled: bool) -> Metric:
    return Metric("disk.stalled", float(stalled), "", "gauge", {"mount": mount.name, "type": mount.type})


def _space(mount: Mount, answer: os.statvfs_result) -> list[Metric]:
    """As df counts: the blocks kept for root are neither used nor free, and no part of the whole."""
    labels = {"mount": mount.name, "type": mount.type}
    used = answer.f_blocks - answer.f_bfree
    usable = used + answer.f_bavail
    metrics = [
        Metric("disk.total_bytes", float(answer.f_blocks * answer.f_frsize), "bytes", "gauge", labels),
        Metric("disk.used_bytes", float(used * answer.f_frsize), "bytes", "gauge", labels),
        Metric("disk.free_bytes", float(answer.f_bavail * answer.f_frsize), "bytes", "gauge", labels),
        Metric("disk.used_percent", 100.0 * used / usable if usable else 100.0, "percent", "gauge", labels),
        Metric("disk.read_only", float(bool(answer.f_flag & os.ST_RDONLY)), "", "gauge", labels),
        stalled(mount, stalled=False),
    ]
    if answer.f_files:  # btrfs and others have no fixed number of inodes
        share = 100.0 * (answer.f_files - answer.f_ffree) / answer.f_files
        metrics.append(Metric(INODES, share, "percent", "gauge", labels))
    return metrics
