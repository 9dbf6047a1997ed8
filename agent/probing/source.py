"""One place a probe type comes from: an installed package, or a single file that nobody else can change."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from agent.config.ownership import check_owner, read_owned
from agent.errors import PluginError
from agent.plugin import Probe

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "tocsin.probes"
_STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class Source(Protocol):
    """`place` is for people; `version` differs when the code does, as far as it can be seen from outside."""

    name: str
    place: str
    version: str

    def load(self) -> type[Probe]: ...


class Installed:
    """An entry point `NAME = "package.module:Class"` of the group `tocsin.probes`."""

    def __init__(self, entry: EntryPoint) -> None:
        self._entry = entry
        self.name = entry.name
        distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"
        self.place = f"{entry.value} of {distribution}"
        self.version = self.place

    def load(self) -> type[Probe]:
        try:
            kind = self._entry.load()
        except (Exception, SystemExit) as error:
            raise PluginError(f"probe {self.name!r} ({self.place}) cannot be loaded: {_told(error)}") from error
        if not isinstance(kind, type) or not issubclass(kind, Probe):
            raise PluginError(f"probe {self.name!r} ({self.place}) is no subclass of agent.plugin.Probe")
        return kind


class Dropin:
    """`DIRECTORY/NAME.py`, which defines exactly one public subclass of Probe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = path.stem
        self.place = str(path)
        status, _ = _read(path, only_check=True)
        self.version = f"{path} {status.st_mtime_ns} {status.st_size} {status.st_ino}"

    def load(self) -> type[Probe]:
        _, text = _read(self._path)
        module = ModuleType(f"tocsin_dropin_{self.name.replace('-', '_')}")
        module.__file__ = str(self._path)
        before = sys.modules.get(module.__name__)
        sys.modules[module.__name__] = module  # annotations are looked up there
        try:
            exec(compile(text, str(self._path), "exec"), module.__dict__)  # noqa: S102 - a plugin is code; its file is checked
        except (Exception, SystemExit) as error:
            if before is None:
                del sys.modules[module.__name__]
            else:
                sys.modules[module.__name__] = before
            raise PluginError(f"{self._path} cannot be loaded: {_told(error)}") from error
        return self._only(module)

    def _only(self, module: ModuleType) -> type[Probe]:
        kinds = [
            value
            for name, value in vars(module).items()
            if isinstance(value, type)
            and issubclass(value, Probe)
            and value.__module__ == module.__name__
            and not name.startswith("_")
        ]
        if len(kinds) != 1:
            names = ", ".join(kind.__name__ for kind in kinds) or "none"
            raise PluginError(f"{self._path}: expected one subclass of Probe defined in it, found {names}")
        return kinds[0]


def installed() -> Iterator[Installed]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - only who looks for plugins pays for it

    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        yield Installed(entry)


def dropins(directory: Path) -> Iterator[Dropin]:
    """Every `*.py` of a directory but those that begin with `_` or `.`; PluginError where one is not safe to run."""
    _check_directory(directory)
    for path in sorted(directory.glob("*.py")):
        if path.name.startswith(("_", ".")):
            continue
        if not _STEM.fullmatch(path.stem):
            raise PluginError(f'{path}: a probe\'s name has letters, digits, "_" and "-" only')
        yield Dropin(path)


def _check_directory(path: Path) -> None:
    try:
        status = path.lstat()
    except OSError as error:
        raise PluginError(f"plugin directory {path}: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no directory"
        raise PluginError(f"plugin directory {path} is {what}; expected a directory itself")
    try:
        check_owner(path, status)
    except ValueError as error:
        raise PluginError(str(error)) from error


def _read(path: Path, *, only_check: bool = False) -> tuple[os.stat_result, bytes]:
    try:
        return read_owned(path, only_check=only_check)
    except ValueError as error:
        raise PluginError(str(error)) from error


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
