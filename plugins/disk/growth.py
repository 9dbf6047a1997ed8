"""What has grown most on a mount since the last look, else what is the largest: the evidence for a full disk."""

from __future__ import annotations

import time
from collections.abc import Callable

from agent.plugin import Evidence, printable
from plugins.disk.walk import Walk, size, walk

SECONDS = 8.0
ENTRIES = 150_000
SHOWN = 5
REMEMBERED = 8
"""Mounts of which the last walk is kept."""
_LONGEST = 60


def look(root: bytes) -> Walk:
    return walk(root, most_entries=ENTRIES, seconds=SECONDS)


class Growth:
    """Its calls block: make them in a thread, one at a time."""

    def __init__(self, look: Callable[[bytes], Walk] = look, now: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._now = now
        self._walks: dict[bytes, tuple[float, Walk]] = {}

    def evidence(self, root: bytes, *, inodes: bool) -> list[Evidence]:
        """By the number of files where `inodes` run out, else by size. OSError where the root cannot be read."""
        found = self._look(root)
        at, before = self._now(), self._walks.pop(root, None)
        self._walks[root] = at, found
        while len(self._walks) > REMEMBERED:
            del self._walks[next(iter(self._walks))]
        # An unfinished walk may have missed what only now was found: nothing can be said of growth.
        if before is None or not (before[1].complete and found.complete):
            return _told(found, {}, "", inodes=inodes)
        now, then = (found.files, before[1].files) if inodes else (found.sizes, before[1].sizes)
        grown = {path: amount - then[path] for path, amount in now.items() if amount > then.get(path, amount)}
        return _told(found, grown, _span(at - before[0]), inodes=inodes)


def _told(found: Walk, grown: dict[bytes, int], since: str, *, inodes: bool) -> list[Evidence]:
    amounts = found.files if inodes else found.sizes
    order = sorted(amounts, key=lambda path: (-grown.get(path, 0), -amounts[path]))
    shown = [path for path in order[:SHOWN] if amounts[path] > 0]
    rows = [(_cut(printable(path)), _amount(amounts[path], inodes=inodes)) for path in shown]
    names, figures = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    lines = [f"{name:<{names}}  {amount:>{figures}}" for name, amount in rows]
    for index, path in enumerate(shown):
        if path in grown:
            lines[index] += f"  +{_amount(grown[path], inodes=inodes)} in {since}"
    if not found.complete:
        lines.append(f"(of {found.entries} entries; not all could be looked at)")
    title = "Most files" if inodes else "Largest directories and files"
    return [Evidence(title, tuple(lines))] if rows else []


def _amount(amount: int, *, inodes: bool) -> str:
    return f"{amount} file{'' if amount == 1 else 's'}" if inodes else size(amount)


def _cut(name: str) -> str:
    """In its middle, where a path tells least."""
    half = (_LONGEST - 1) // 2
    return name if len(name) <= _LONGEST else f"{name[:half]}…{name[-half:]}"


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} h"
