"""Files that say what may be run: read only where nobody but root and we ourselves could have written them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path


def check_owner(path: Path, status: os.stat_result, *, only_whose: bool = False) -> None:
    """ValueError says who else could change `path`."""
    if status.st_uid not in (0, os.geteuid()):
        raise ValueError(f"{path} belongs to user {status.st_uid}; expected root or the user that runs this")
    if status.st_mode & 0o022 and not only_whose:
        mode = f"{status.st_mode & 0o7777:03o}"
        raise ValueError(f"{path} can be written by others (mode {mode}); expected chmod go-w {path}")


def check_way(path: Path) -> None:
    """ValueError names a directory in which others could put another file, or an older one of ours, in its place.

    That is every one up to the root, as whoever may rename a directory may exchange what is in it; on the way as it is
    written and as links lead. Above the file's own a sticky one (/tmp) is fine: there nobody renames what is another's.
    The file's own must not be one, as the name is anybody's there while it is free.
    """
    own = path.parent.stat()
    for place in _way(path.absolute().parent):
        status = place.lstat()
        sticky = status.st_mode & stat.S_ISVTX and not os.path.samestat(status, own)
        check_owner(place, status, only_whose=bool(sticky) or stat.S_ISLNK(status.st_mode))


def _way(directory: Path) -> Iterator[Path]:
    """It, all above it, and the same of where a link among them leads."""
    for place in (directory, *directory.parents):
        yield place
        if place.is_symlink():
            yield from _way(place.parent / place.readlink())


def read_owned(path: Path, *, only_check: bool = False) -> tuple[os.stat_result, bytes]:
    """The file's text from the very descriptor that was checked, so that it cannot be exchanged in between.

    ValueError in words where it is a link, no regular file, somebody else's, in others' reach, or cannot be read.
    """
    try:
        check_way(path)
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        reason = (
            "is a symbolic link; expected the file itself" if path.is_symlink() else f"cannot be read: {error.strerror}"
        )
        raise ValueError(f"{path} {reason}") from error
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is no regular file")
        check_owner(path, status)
        return status, b"" if only_check else file.read()
