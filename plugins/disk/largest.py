"""What `tocsin advise disk largest` says: the directories and files that hold most of a mount."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import islice

from agent.plugin import printable
from plugins.disk.mounts import Mount
from plugins.disk.walk import size, walk

SECONDS = 12.0
ENTRIES = 1_000_000
SHOWN = 10


def chosen(mounts: list[Mount], about: str, statvfs: Callable[[bytes], os.statvfs_result]) -> Mount:
    """The mount of that name, or the fullest; ValueError says which there are."""
    named = [mount for mount in mounts if mount.name == about]
    if about and not named:
        raise ValueError(
            f"no local mount {about!r} is watched; there are {', '.join(m.name for m in mounts) or 'none'}"
        )
    if not named and not mounts:
        raise ValueError("no local mount is watched")
    return named[0] if named else max(mounts, key=lambda mount: _fullness(mount, statvfs))


def report(mount: Mount, *, seconds: float = SECONDS, entries: int = ENTRIES) -> list[str]:
    """Lines, the largest first. Blocks: call it in a thread."""
    found = walk(mount.path, most_entries=entries, seconds=seconds)
    lines = [f"{size(amount):>9}  {printable(path)}" for path, amount in islice(found.sizes.items(), SHOWN) if amount]
    seen = f"{mount.name}: {found.entries} files and directories seen"
    return [*lines, seen if found.complete else f"{seen}; not all could be looked at"]


def _fullness(mount: Mount, statvfs: Callable[[bytes], os.statvfs_result]) -> float:
    try:
        answer = statvfs(mount.path)
    except OSError:
        return 0.0
    return 1 - answer.f_bavail / answer.f_blocks if answer.f_blocks else 0.0
