"""Which directories and files of a mount are the largest: a walk with bounds, for a thread.

It stays on the file system, follows no link, and gives others a turn: a full disk must not get a busy one. A directory
that holds little beyond one of its own is not told: the inner one says more.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

MOST_NODES = 4000
"""Directories that are added up by themselves; what lies deeper counts for the last of these above it."""
LARGE_FILE = 64 * 1024 * 1024
"""Bytes from which a file is told by itself."""
KEPT = 50
"""Largest ones of a walk: what is told, and what a later walk is compared with."""
_TURN = 500
_PAUSE = 0.002
_TELLING = 0.75
"""A child with this share of its parent says all that the parent would."""


@dataclass(slots=True)
class _Node:
    path: bytes
    parent: _Node | None
    size: int = 0
    files: int = 0
    children: list[_Node] = field(default_factory=list)

    def add(self, size: int, files: int) -> None:
        node: _Node | None = self
        while node is not None:
            node.size += size
            node.files += files
            node = node.parent


@dataclass(frozen=True, slots=True)
class Walk:
    """`sizes` (bytes on the disk) and `files` (number of entries) of the largest, largest first."""

    sizes: dict[bytes, int]
    files: dict[bytes, int]
    entries: int
    complete: bool
    """False where a bound ended it, or a directory could not be read."""


def walk(root: bytes, *, most_entries: int, seconds: float, now: Callable[[], float] = time.monotonic) -> Walk:
    """OSError where the root itself cannot be read. A file of several names counts once for each."""
    device, top = os.lstat(root).st_dev, _Node(root, None)
    waiting, nodes, entries, complete = deque([(root, top)]), [top], 0, True
    deadline = now() + seconds
    while waiting and entries < most_entries and now() < deadline:
        path, node = waiting.popleft()
        try:
            found = os.scandir(path)
        except OSError:  # another user's, or gone meanwhile
            if node is top:
                raise
            complete = False
            continue
        with found:
            for entry in found:
                _take(entry, device, node, nodes, waiting)
                entries += 1
                if entries % _TURN == 0:
                    time.sleep(_PAUSE)
                if entries >= most_entries or (entries % _TURN == 0 and now() >= deadline):
                    complete = False
                    break
    return Walk(_largest(nodes, "size"), _largest(nodes, "files"), entries, complete and not waiting)


def _take(
    entry: os.DirEntry[bytes], device: int, node: _Node, nodes: list[_Node], waiting: deque[tuple[bytes, _Node]]
) -> None:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return
    if status.st_dev != device:
        return
    size = status.st_blocks * 512
    if entry.is_dir(follow_symlinks=False):
        inner = _branch(entry.path, node, nodes)
        inner.add(size, 1)
        waiting.append((entry.path, inner))
    elif size >= LARGE_FILE:
        _branch(entry.path, node, nodes).add(size, 1)
    else:
        node.add(size, 1)


def _branch(path: bytes, parent: _Node, nodes: list[_Node]) -> _Node:
    if len(nodes) >= MOST_NODES:
        return parent
    child = _Node(path, parent)
    parent.children.append(child)
    nodes.append(child)
    return child


def _largest(nodes: list[_Node], measure: str) -> dict[bytes, int]:
    def amount(node: _Node) -> int:
        value: int = getattr(node, measure)
        return value

    telling = [
        node
        for node in nodes
        if node.parent is not None and not any(amount(child) >= _TELLING * amount(node) for child in node.children)
    ]
    telling.sort(key=amount, reverse=True)
    return {node.path: amount(node) for node in telling[:KEPT]}


def size(amount: int) -> str:
    """As people read it: "1.5 GiB"."""
    value = float(amount)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.3g} TiB"
