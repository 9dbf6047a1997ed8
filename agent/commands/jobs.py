"""Named commands of this host's jobs.toml: an argv each, run without a shell, watched, and killed as a group."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

from agent.commands.leash import Leash
from agent.commands.payload import Args
from agent.config.decode import Fault, decode
from agent.config.ownership import read_owned
from agent.config.schema import Table
from agent.config.units import Duration
from agent.errors import CommandError

MAX_OUTPUT = 6000
"""Bytes of output that are kept: the last ones, where what went wrong stands."""
LONGEST = 3600.0
GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""
_CHUNK = 65536
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PLACE = re.compile(r"\{([a-z][a-z0-9_]{0,31})\}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class JobConfig(Table, frozen=True):
    """`[jobs.NAME]`. An item of `argv` that is `{unit}` becomes the parameter `unit`, whole; its pattern is matched
    in full. `env` names variables of the agent's own environment that the job may see.
    """

    argv: tuple[str, ...]
    summary: str = ""
    timeout: Duration = Duration(60)
    env: tuple[str, ...] = ()
    parameters: dict[str, str] = {}


class JobsFile(Table, frozen=True):
    jobs: dict[str, JobConfig] = {}


class Finished(NamedTuple):
    """`code` is the exit code, negative for a signal, None where the deadline ended it."""

    code: int | None
    output: str


def load(path: Path) -> dict[str, JobConfig]:
    """Every job; CommandError("jobs") in words where the file is not to be trusted or has a fault."""
    try:
        _, raw = read_owned(path)
        table = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise CommandError("jobs", f"{path}: {error}" if str(path) not in str(error) else str(error)) from error
    file, faults = decode(JobsFile, table)
    jobs = file.jobs if file else {}
    faults += [fault for name, job in jobs.items() for fault in _faults(name, job)]
    if faults:
        raise CommandError("jobs", f"{path}: {'; '.join(faults)}")
    return jobs


def argv(job: JobConfig, args: Args) -> list[str]:
    """What to execute; CommandError("bad_arguments") where a parameter is missing, unknown, or not what it must be."""
    given = {key: value for key, value in args.items() if key != "name"}
    for key in given:
        if key not in job.parameters:
            raise CommandError("bad_arguments", f"the job has no parameter {key}; it has {_list(job.parameters)}")
    for key, pattern in job.parameters.items():
        value = given.get(key)
        if not isinstance(value, str):
            raise CommandError("bad_arguments", f"parameter {key} is missing; expected {key}=…")
        if value.startswith("-") or not value.isprintable() or not re.fullmatch(pattern, value):
            raise CommandError("bad_arguments", f"{key}: expected something like {pattern}, not {value[:60]!r}")
    return [str(given[match[1]]) if (match := _PLACE.fullmatch(item)) else item for item in job.argv]


async def run(job: JobConfig, arguments: list[str], leash: Leash) -> Finished:
    """Run to its end or to its deadline, at which the whole group is killed; also when we are cancelled.

    CommandError("job") where it cannot be started.
    """
    with _Tail() as tail:
        process = await _start(job, arguments, tail)
        leash.hold(process.pid)
        code: int | None = None
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(float(job.timeout)):
                    code = await process.wait()
        finally:
            await _end(process)
            leash.release()
        return Finished(code, _printable(tail.take()))


async def _start(job: JobConfig, arguments: list[str], tail: _Tail) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=tail.write_end,
            stderr=tail.write_end,
            cwd="/",
            env=_environment(job),
            start_new_session=True,
        )
    except OSError as error:
        raise CommandError("job", f"{arguments[0]}: {error.strerror}") from error
    finally:
        tail.given()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Nothing of it is left: asked to end, then killed, children that went their own way within the group too."""
    try:
        if process.returncode is None:
            _signal(process.pid, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    await process.wait()
    finally:
        _signal(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GRACE):
            await process.wait()


class _Tail:
    """The end of what a job says, and never more than that in memory. A pipe of our own: asyncio's would make us
    wait for every child that inherited it.
    """

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read_end, False)
        self._kept = bytearray()

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._read_end, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._read_end)
        os.close(self._read_end)

    def given(self) -> None:
        """The job has its end, if it was started: ours is closed."""
        os.close(self.write_end)

    def take(self) -> bytes:
        """What has been said by now; somebody who left the group may be talking for ever."""
        for _ in range(64):
            if not self._read():
                break
        return bytes(self._kept)

    def _read(self) -> bool:
        try:
            chunk = os.read(self._read_end, _CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            asyncio.get_running_loop().remove_reader(self._read_end)
        self._kept += chunk
        del self._kept[:-MAX_OUTPUT]
        return bool(chunk)


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _environment(job: JobConfig) -> dict[str, str]:
    given = {name: os.environ[name] for name in job.env if name in os.environ}
    return {"PATH": _PATH, "LC_ALL": "C.UTF-8", **given}


def _printable(raw: bytes) -> str:
    text = raw.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)


def _faults(name: str, job: JobConfig) -> list[Fault]:
    keys = ("jobs", name)
    faults = []
    if not _NAME.fullmatch(name):
        faults.append(Fault(keys, 'expected a name of letters, digits, "_", "-" and "."'))
    if not job.argv or not job.argv[0].startswith("/"):
        faults.append(Fault((*keys, "argv"), "expected a program by its whole path, then its arguments"))
    if not 0 < job.timeout <= LONGEST:
        faults.append(Fault((*keys, "timeout"), 'expected at most "1h"'))
    places = {match[1] for item in job.argv if (match := _PLACE.fullmatch(item))}
    for key in sorted(places ^ set(job.parameters)):
        what = "is in argv, but not in parameters" if key in places else "is not in argv as an item of its own"
        faults.append(Fault((*keys, "parameters"), f"{{{key}}} {what}"))
    for key, pattern in job.parameters.items():
        if key == "name":
            faults.append(Fault((*keys, "parameters", key), "expected another name: this is the job's own"))
        try:
            re.compile(pattern)
        except re.error as error:
            faults.append(Fault((*keys, "parameters", key), f"expected a pattern: {error}"))
    return faults


def _list(parameters: Mapping[str, str]) -> str:
    return ", ".join(parameters) or "none"
