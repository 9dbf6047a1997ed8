"""agent.toml, found, merged with agent.d, decoded and checked."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from agent.config import rules
from agent.config.decode import Fault, Keys, decode, dotted
from agent.config.schema import Config
from agent.errors import ConfigError

ENVIRONMENT = "TOCSIN_CONFIG"
PLACES = (Path("agent.toml"), Path("/etc/tocsin/agent.toml"))
_PACKAGE = Path(__file__).parents[1]
SHIPPED = (_PACKAGE / "agent.toml", _PACKAGE.parent / "agent.toml")
"""The example: inside an installed package, or in the checkout that the package is run from."""


class Source(msgspec.Struct, frozen=True):
    """One file: its path as shown to people, and its text."""

    path: Path
    text: str


class Reading(msgspec.Struct):
    """What the files say, right or wrong: `config` holds defaults where a key is faulty. `lost`: a file said nothing
    that could be understood.
    """

    config: Config
    faults: list[Fault | str] = msgspec.field(default_factory=list)
    lost: bool = False
    origins: dict[Keys, tuple[Source, Keys]] = msgspec.field(default_factory=dict)

    def lose(self, fault: str) -> None:
        self.faults.append(fault)
        self.lost = True

    def lines(self, more: Iterable[str] = ()) -> list[str]:
        """All faults as `FILE:LINE: PATH: what is wrong`, in the order of the files. `more`: faults found
        later, whose text begins with the path of the key (`probes.disk.intervall: …`).
        """
        placed = [self._placed(fault) for fault in (*self.faults, *more)]
        return [line for _, line in sorted(placed, key=lambda pair: pair[0])]

    def _placed(self, fault: str) -> tuple[tuple[str, int], str]:
        if isinstance(fault, Fault):
            keys, text = fault.keys, fault.text
        else:
            keys, text = self._parsed(fault)
        for end in range(len(keys), 0, -1):
            if keys[:end] in self.origins:
                source, local = self.origins[keys[:end]]
                local = (*local, *keys[end:])
                line = _line(source.text, local)
                return (str(source.path), line), f"{source.path}:{line}: {dotted(local)}: {text}"
        return ("", 0), str(fault)

    def _parsed(self, fault: str) -> tuple[Keys, str]:
        path, colon, text = fault.partition(": ")
        if not colon or not re.fullmatch(r"[\w.-]+", path):
            return (), fault
        return tuple(path.split(".")), text


def find(path: Path | None = None) -> Path | None:
    """The file to read: the one given, else $TOCSIN_CONFIG, else the first of the usual places that exists.

    With none at all it is the example that ships with the program: the core probes and the service levels.
    """
    if path is not None:
        return path
    if os.environ.get(ENVIRONMENT):
        return Path(os.environ[ENVIRONMENT])
    return next((place for place in (*PLACES, *SHIPPED) if place.is_file()), None)


def load(path: Path | None = None, *, elsewhere: str = "") -> Config:
    """The configuration; the shipped one where there is no file at all. ConfigError tells every fault.

    `elsewhere` names a table whose secrets are the other role's: on a machine that has both, systemd hands
    each only its own, and the one must not fail for the other's.
    """
    reading = read(path, elsewhere=elsewhere)
    if reading.faults:
        raise ConfigError(reading.lines())
    return reading.config


def usable(path: Path | None = None, *, optional: bool = False) -> Config:
    """What is right in the files, for a command that needs little of them. ConfigError where one could not be read
    at all: a default in its place would lead to another daemon. `optional`: the command line says what is needed,
    so that only a file that was named must be there.
    """
    reading = read(path)
    named = path is not None or bool(os.environ.get(ENVIRONMENT))
    if reading.lost and (named or not optional):
        raise ConfigError(reading.lines())
    return reading.config


def read(path: Path | None = None, *, elsewhere: str = "") -> Reading:
    """As `load`, but hands the faults back beside what could be understood. Never raises."""
    found = find(path)
    if found is None:
        return Reading(_named(Config()))
    files = [found, *sorted((found.parent / "agent.d").glob("*.toml"))]
    reading = Reading(Config())
    table: dict[str, Any] = {}
    try:
        for file in files:
            _merge_file(file, table, reading)
        config, faults = decode(Config, table)
        config = config or Config()
        known = {fault.keys for fault in faults}
        faults += [fault for fault in rules.faults(config) if not _covered(fault.keys, known)]
        reading.faults += _without_secrets_of(elsewhere, faults)
    except RecursionError:
        reading.faults.append(f"{found}:1: tables are nested too deeply")
        return reading
    carriers = {source.path for keys, (source, _) in reading.origins.items() if keys[0] == "commands"}
    commands = msgspec.structs.replace(config.commands, sources=tuple(sorted(carriers)))
    reading.config = _named(msgspec.structs.replace(config, commands=commands, sources=tuple(files)))
    return reading


def _covered(keys: Keys, known: set[Keys]) -> bool:
    """Whether a fault has been told already for this key, or for one inside (its table is not whole then)."""
    return any(keys[: len(other)] == other or other[: len(keys)] == keys for other in known)


_COLLECTOR = "collector"
_COLLECTORS_KEY = ("commands", "signing_key")
"""The one secret of the collector that stands in a table which hosts have too."""


def _without_secrets_of(table: str, faults: list[Fault]) -> list[Fault]:
    """All but missing secrets of `table`, and what the rules say of it for want of them."""
    if table == _COLLECTOR:
        faults = [fault for fault in faults if fault.keys != _COLLECTORS_KEY or not _is_missing(fault)]
    missing = [fault for fault in faults if fault.keys[:1] == (table,) and _is_missing(fault)]
    return [fault for fault in faults if fault.keys[:1] != (table,)] if missing else faults


def _is_missing(fault: Fault) -> bool:
    return fault.text.startswith("missing secret")


def _named(config: Config) -> Config:
    if config.agent.host:
        return config
    agent = msgspec.structs.replace(config.agent, host=rules.host_id())
    return msgspec.structs.replace(config, agent=agent)


def _merge_file(file: Path, table: dict[str, Any], reading: Reading) -> None:
    try:
        text = file.read_bytes().decode()
    except (OSError, ValueError) as error:
        reading.lose(f"{file}:1: cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}")
        return
    try:
        parsed = tomllib.loads(text)
    except RecursionError:
        reading.lose(f"{file}:1: tables are nested too deeply")
    except ValueError as error:  # tomllib's own, and numbers too long for int()
        reading.lose(_syntax(file, text, str(error)))
    else:
        _merge(table, parsed, _Merging(Source(file, text), reading), (), ())


class _Merging(msgspec.Struct, frozen=True):
    source: Source
    reading: Reading


def _merge(into: dict[str, Any], table: dict[str, Any], merging: _Merging, keys: Keys, local: Keys) -> None:
    """Tables are merged deeply, arrays of tables appended; any other key may be set once only."""
    for key, value in table.items():
        here, there = (*keys, key), (*local, key)
        present = into.get(key)
        if isinstance(value, dict) and isinstance(present, dict | None):
            merging.reading.origins.setdefault(here, (merging.source, there))
            _merge(into.setdefault(key, {}), value, merging, here, there)
        elif _is_tables(value) and (present is None or _is_tables(present)):
            merging.reading.origins.setdefault(here, (merging.source, there))
            entries = into.setdefault(key, [])
            for index, entry in enumerate(value):
                merging.reading.origins[(*here, len(entries))] = (merging.source, (*there, index))
                entries.append(entry)
        elif present is None:
            merging.reading.origins[here] = (merging.source, there)
            into[key] = value
        else:
            merging.reading.faults.append(_twice(merging, here, there))


def _twice(merging: _Merging, keys: Keys, local: Keys) -> str:
    source, first = merging.reading.origins[keys]
    line = _line(merging.source.text, local)
    return (
        f"{merging.source.path}:{line}: {dotted(local)}: is set in {source.path}:{_line(source.text, first)} already; "
        "expected it in one file only"
    )


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def _line(text: str, keys: Keys) -> int:
    from agent.config.locate import locate  # noqa: PLC0415 - only when there is a fault

    return locate(text, keys)


def _syntax(file: Path, text: str, message: str) -> str:
    match = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    line = int(match[1]) if match and match[1] else text.count("\n") + 1 if match else 1
    what = message[: match.start()] if match else message
    return f"{file}:{line}: not valid TOML: {what[:1].lower()}{what[1:200]}"
