"""House rules that no linter knows: small files, nothing unfinished, no host of a package index."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

MAX_LINES = 400
VENDORED = "agent/collector/web/static/vendor/"
LONG_BY_NATURE = (".lock", "LICENSE", ".yaml", ".json", ".svg")  # lists and drawings, not programs
# The brackets keep this file from failing its own check.
INDEX_HOSTS = re.compile(r"py[p]i\.|python[h]osted|registry\.[n]pm|cdn\.[j]sdelivr|un[p]kg")
UNFINISHED = re.compile(r"\b(T[O]DO|FIX[M]E|XX[X])\b")


def faults(path: str) -> list[str]:
    if path.startswith(VENDORED):
        return []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, FileNotFoundError):
        return []  # a picture, or deleted and not yet committed
    found = []
    if len(lines) > MAX_LINES and not path.endswith(LONG_BY_NATURE):
        found.append(f"{path}: {len(lines)} lines, more than {MAX_LINES}")
    for number, line in enumerate(lines, 1):
        if INDEX_HOSTS.search(line):
            found.append(f"{path}:{number}: names the host of a package index; the environment's own settings apply")
        if UNFINISHED.search(line):
            found.append(f"{path}:{number}: unfinished work")
    return found


def main() -> int:
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True)  # noqa: S607
    paths = [path for path in listed.stdout.split("\0") if path]
    found = [fault for path in paths for fault in faults(path)]
    print("\n".join(found) or f"house rules: {len(paths)} files, 0 faults")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
