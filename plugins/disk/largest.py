"""Which directories hold most of a mount. A walk with bounds: a full disk must not get a busy one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from agent.plugin import printable
from plugins.disk.mounts import Mount

SECONDS = 12.0
ENTRIES = 1_000_000
DEPTH = 5
"""Levels below the mount that are told apart; what is deeper counts for the directory at this level."""
DIRECTORIES = 20_000
SHOWN = 10
_TELLING = 0.7
"""A child that holds more than this share of its parent says more than the parent does."""


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
    """Lines, the largest directory first. Blocks: call it in a thread."""
    walk = _Walk(mount.path, time.monotonic() + seconds, entries)
    walk.run()
    lines = [f"{_size(size):>9}  {printable(path)}" for path, size in walk.largest()]
    seen = f"{mount.name}: {walk.seen} files and directories seen"
    return [*lines, f"{seen}, then it was enough: there may be more" if walk.cut else seen]


def _fullness(mount: Mount, statvfs: Callable[[bytes], os.statvfs_result]) -> float:
    try:
        answer = statvfs(mount.path)
    except OSError:
        return 0.0
    return 1 - answer.f_bavail / answer.f_blocks if answer.f_blocks else 0.0


class _Walk:
    def __init__(self, root: bytes, deadline: float, entries: int) -> None:
        self._root = root
        self._deadline = deadline
        self._entries = entries
        self._device = os.lstat(root).st_dev
        self._sizes: dict[bytes, int] = {root: 0}
        self._parents: dict[bytes, bytes] = {}
        self.seen = 0
        self.cut = False

    def run(self) -> None:
        # (directory to read, the one that it counts for, levels below the mount)
        waiting = [(self._root, self._root, 0)]
        while waiting:
            if self.seen >= self._entries or time.monotonic() >= self._deadline:
                self.cut = True
                return
            path, counted, depth = waiting.pop()
            children = self._read(path, counted)
            waiting += [(child, self._own(child, counted, depth + 1), depth + 1) for child in children]

    def _read(self, path: bytes, counted: bytes) -> list[bytes]:
        """Count what is in one directory; its own directories, to be read later."""
        found, size = [], 0
        try:
            with os.scandir(path) as listing:
                for entry in listing:
                    self.seen += 1
                    status = entry.stat(follow_symlinks=False)
                    if status.st_dev != self._device:
                        continue  # another mount
                    size += status.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        found.append(entry.path)
                    if self.seen >= self._entries:
                        break
        except OSError:  # not ours to read, or gone meanwhile
            pass
        self._sizes[counted] += size
        return found

    def _own(self, path: bytes, counted: bytes, depth: int) -> bytes:
        if depth > DEPTH or len(self._sizes) >= DIRECTORIES:
            return counted
        self._sizes[path], self._parents[path] = 0, counted
        return path

    def largest(self) -> list[tuple[bytes, int]]:
        """With all that is below them, but without those whose one child says as much."""
        totals = dict(self._sizes)
        for path in sorted(self._parents, key=len, reverse=True):  # a child's path is longer than its parent's
            totals[self._parents[path]] += totals[path]
        told = {self._parents[path] for path in self._parents if totals[path] > _TELLING * totals[self._parents[path]]}
        kept = [(path, size) for path, size in totals.items() if path not in told and path != self._root and size]
        return sorted(kept, key=lambda pair: -pair[1])[:SHOWN]


def _size(size: int) -> str:
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.3g} {unit}" if amount < 1000 else f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.3g} TiB"
