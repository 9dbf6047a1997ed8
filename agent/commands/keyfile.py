"""The file of a host's keys: `trusted ID:BASE64` and `revoked ID:BASE64`, a line each, changed whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from agent.commands.policy import MAX_KEYS, parse_keys
from agent.config.keys import PublicKey
from agent.config.ownership import check_way, read_owned

HEAD = "# Whom this host takes commands from; see `tocsin keys --help`. At most two are trusted at a time.\n"


def trust(path: Path, key: PublicKey) -> None:
    """Add a key; ValueError in words where it may not be."""
    text = _read(path)
    trusted, revoked = parse_keys(text)
    if key in trusted:
        raise ValueError(f"{key.id} is trusted already")
    for known in (*trusted, *revoked):
        if known.id == key.id or known.raw == key.raw:
            state = "trusted" if known in trusted else "revoked"
            raise ValueError(f"{known.id} is {state} here; make a new key under a name of its own")
    if len(trusted) >= MAX_KEYS:
        names = " and ".join(known.id for known in trusted)
        raise ValueError(f"{names} are trusted, and two are the most; revoke the older one first")
    _write(path, f"{text}trusted {key}\n")


def revoke(path: Path, key_id: str) -> None:
    """A key that is no longer believed, and never again; ValueError in words where there is none."""
    text = _read(path)
    trusted, revoked = parse_keys(text)
    if any(key.id == key_id for key in revoked):
        raise ValueError(f"{key_id} is revoked already")
    if not any(key.id == key_id for key in trusted):
        raise ValueError(f"no key {key_id} is trusted here; there are {', '.join(k.id for k in trusted) or 'none'}")
    lines = text.splitlines(keepends=True)
    after = "".join(line.replace("trusted", "revoked", 1) if _names(line, key_id) else line for line in lines)
    if not any(key.id == key_id for key in parse_keys(after)[1]):
        raise ValueError(f'the line of {key_id} cannot be rewritten; write "revoked" in place of "trusted" there')
    _write(path, after)


def _names(line: str, key_id: str) -> bool:
    """Whether this line trusts this very key; what stands behind a # is nobody's."""
    words = line.partition("#")[0].split()
    return words[:1] == ["trusted"] and len(words) > 1 and words[1].partition(":")[0] == key_id


def write_private(path: Path, text: str) -> None:
    """A new file for nobody else to read; FileExistsError where there is one."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(handle)


def _read(path: Path) -> str:
    if not path.is_symlink() and not path.exists():
        check_way(path)
        return HEAD
    _, raw = read_owned(path)
    text = raw.decode(errors="replace")
    return text if text.endswith("\n") or not text else text + "\n"


def _write(path: Path, text: str) -> None:
    """Beside it and into its place, with the disk's word that it is there. It holds no secret."""
    parse_keys(text)
    new = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(handle, "w") as file:
        os.fchmod(handle, 0o644)  # whatever the umask is
        file.write(text)
        file.flush()
        os.fsync(handle)
    new.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
