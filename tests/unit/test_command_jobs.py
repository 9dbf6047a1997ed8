"""Jobs: named in a file that nobody else can write, an argv without a shell, watched, and killed as a group."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from agent.commands import jobs
from agent.commands.leash import FILE, Leash
from agent.errors import CommandError
from tests.services import eventually


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "jobs.toml"


def write(file: Path, text: str, mode: int = 0o644) -> Path:
    file.write_text(text)
    file.chmod(mode)
    return file


RESTART = """
[jobs.restart]
argv = ["/bin/echo", "restart", "{unit}", "--since={unit}"]
parameters = { unit = "[a-z0-9@.-]{1,40}" }
"""


def test_a_parameter_is_a_whole_item_of_argv(file: Path) -> None:
    job = jobs.load(write(file, RESTART))["restart"]
    assert jobs.argv(job, {"name": "restart", "unit": "php8.2-fpm"}) == [
        "/bin/echo",
        "restart",
        "php8.2-fpm",
        "--since={unit}",
    ]


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"unit": "v1\n"},
        {"unit": "--now"},
        {"unit": "-"},
        {"unit": "$(id)"},
        {"unit": "a b"},
        {"unit": "a\0b"},
        {"unit": "\u202ea"},
        {"unit": "x" * 1_000_000},
        {"unit": ""},
        {"unit": 5},
        {"unit": "nginx", "more": "x"},
    ],
)
def test_a_parameter_that_is_not_what_it_must_be_is_refused(file: Path, args: dict[str, object]) -> None:
    job = jobs.load(write(file, RESTART))["restart"]
    with pytest.raises(CommandError) as refused:
        jobs.argv(job, {"name": "restart", **args})
    assert refused.value.code == "bad_arguments"
    assert len(refused.value.detail) < 300


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[jobs.a]\nargv = []", "a program by its whole path"),
        ('[jobs.a]\nargv = ["echo"]', "a program by its whole path"),
        ('[jobs.a]\nargv = "/bin/echo hello"', "expected a list"),
        ('[jobs.a]\nargv = ["/bin/echo", "{unit}"]', "{unit} is in argv, but not in parameters"),
        ('[jobs.a]\nargv = ["/bin/echo"]\nparameters = { unit = "a" }', "{unit} is not in argv"),
        ('[jobs.a]\nargv = ["/bin/echo", "{unit}"]\nparameters = { unit = "(" }', "expected a pattern"),
        ('[jobs.a]\nargv = ["/bin/echo", "{name}"]\nparameters = { name = "a" }', "expected another name"),
        ('[jobs.a]\nargv = ["/bin/echo"]\ntimeout = "2h"', 'at most "1h"'),
        ('[jobs.a]\nargv = ["/bin/echo"]\nshell = true', "unknown key"),
        ('[jobs."a b"]\nargv = ["/bin/echo"]', "expected a name"),
        ("[jobs", "jobs.toml"),
    ],
)
def test_a_faulty_file_is_refused_as_a_whole(file: Path, text: str, fault: str) -> None:
    with pytest.raises(CommandError) as refused:
        jobs.load(write(file, text))
    assert refused.value.code == "jobs"
    assert fault in refused.value.detail


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_can_write_is_refused(file: Path, mode: int) -> None:
    with pytest.raises(CommandError, match="can be written by others"):
        jobs.load(write(file, RESTART, mode))


def test_a_link_is_refused(file: Path) -> None:
    write(file, RESTART)
    link = file.with_name("link.toml")
    link.symlink_to(file)
    with pytest.raises(CommandError, match="symbolic link"):
        jobs.load(link)


async def run(file: Path, argv: list[str], more: str = "", **args: str) -> jobs.Finished:
    items = ", ".join(f"'''{item}'''" for item in argv)
    job = jobs.load(write(file, f"[jobs.x]\nargv = [{items}]\n{more}\n"))["x"]
    return await jobs.run(job, jobs.argv(job, {"name": "x", **args}), Leash(file.parent))


async def test_what_a_job_says_and_how_it_ends(file: Path) -> None:
    assert await run(file, ["/bin/echo", "$(id)", "*"]) == (0, "$(id) *\n")
    ended = await run(file, ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])
    assert ended == (3, "out\nerr\n")
    with pytest.raises(CommandError, match="No such file"):
        await run(file, ["/no/such/program"])


async def test_it_sees_only_what_it_was_given(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    monkeypatch.setenv("SITE", "berlin")
    _, output = await run(file, ["/usr/bin/env"], 'env = ["SITE", "ABSENT"]')
    assert sorted(line.partition("=")[0] for line in output.splitlines()) == ["LC_ALL", "PATH", "SITE"]
    assert (await run(file, ["/bin/sh", "-c", "pwd; cat; id -u"])).output == f"/\n{os.geteuid()}\n"


async def test_output_is_bounded_and_fit_to_be_shown(file: Path) -> None:
    _, output = await run(file, ["/bin/sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' x; printf 'end\\033[31m\\n'"])
    assert len(output) == jobs.MAX_OUTPUT
    assert output.endswith("xend\ufffd[31m\n")


async def test_at_its_deadline_the_whole_group_is_killed(file: Path, tmp_path: Path) -> None:
    """The shell ignores SIGTERM, and has a child that outlives it."""
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 300 & echo $! > {pids}; echo begun; sleep 300"
    began = time.monotonic()
    code, output = await run(file, ["/bin/sh", "-c", script], 'timeout = "300ms"')
    assert (code, output) == (None, "begun\n")
    assert time.monotonic() - began < 20
    await eventually(lambda: gone(int(pids.read_text())), "the end of the child")


async def test_a_child_left_behind_does_not_hold_it_up(file: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code, output = await run(file, ["/bin/sh", "-c", f"sleep 300 & echo $! > {pids}; echo done"], 'timeout = "60s"')
    assert (code, output) == (0, "done\n")
    await eventually(lambda: gone(int(pids.read_text())), "the end of the child")


async def test_cancelled_it_leaves_nothing_behind(file: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    task = asyncio.create_task(run(file, ["/bin/sh", "-c", f"echo $$ > {pids}; sleep 300"]))
    await eventually(lambda: pids.exists() and pids.read_text().endswith("\n"), "a running job")
    task.cancel()
    await asyncio.wait({task})
    await eventually(lambda: gone(int(pids.read_text())), "its end")


def test_what_an_agent_left_running_is_ended_by_the_next(tmp_path: Path) -> None:
    leash = Leash(tmp_path)
    with subprocess.Popen(["/bin/sleep", "300"], start_new_session=True) as left:
        leash.hold(left.pid)
        Leash(tmp_path).pull()
        assert left.wait(10) == -signal.SIGKILL
    assert not (tmp_path / FILE).exists()


def test_another_process_under_the_same_number_is_let_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/sleep", "300"], start_new_session=True) as other:
        for text in (f"{other.pid} 12345\n", f"{other.pid}\n", f"-{other.pid} 1\n", "1 x\n", "", "\0"):
            (tmp_path / FILE).write_text(text)
            Leash(tmp_path).pull()
        assert other.poll() is None
        other.kill()


def gone(pid: int) -> bool:
    """Or a zombie that nobody has buried, as in a container without an init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
