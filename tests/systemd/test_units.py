"""The units as systemd's own judges see them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.services import program

UNITS = Path(__file__).parents[2] / "systemd"
NAMES = ["tocsin-agent.service", "tocsin-collector.service"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root directory that has just what the units name, as an installed host would."""
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    for name in NAMES:
        shutil.copy(UNITS / name, units)
    for target in ("sysinit", "basic", "shutdown", "multi-user"):
        (units / f"{target}.target").write_text("[Unit]\nDescription=there\n")
    for executable in ("bin/sh", "opt/tocsin/venv/bin/tocsin"):
        (tmp_path / executable).parent.mkdir(parents=True)
        shutil.copy("/bin/sh", tmp_path / executable)
    return tmp_path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [program("systemd-analyze", "systemd"), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def settings(name: str) -> dict[str, set[str]]:
    """The [Service] section of a unit; a key that comes several times has several values."""
    found: dict[str, set[str]] = {}
    section = (UNITS / name).read_text().split("[Service]", 1)[1].split("[Install]", 1)[0]
    for line in section.splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, set()).add(value)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_verify_has_nothing_to_say(root: Path, name: str) -> None:
    """A misspelled key, a bad value or a missing program would be told on stderr."""
    done = analyze("verify", "--man=no", f"--root={root}", name)
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize("name", NAMES)
def test_exposure_is_at_most_2_5(name: str) -> None:
    """systemd's own measure of what the service could do to its host."""
    done = analyze("security", "--offline=true", "--threshold=25", "--no-pager", str(UNITS / name))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_it_is_watched_bounded_and_stays_down_on_a_bad_file(name: str) -> None:
    """The settings that the program's own promises rest on."""
    unit = settings(name)
    assert unit["Type"] == {"notify"}
    assert unit["NotifyAccess"] == {"main"}
    assert unit["Restart"] == {"on-failure"}
    assert unit["RestartPreventExitStatus"] == {"78"}
    assert {"WatchdogSec", "MemoryMax", "TasksMax", "StateDirectory"} <= unit.keys()
    assert unit["User"] == {"tocsin"}
    assert unit["CapabilityBoundingSet"] == {""}


@pytest.mark.parametrize("name", NAMES)
def test_an_absent_credential_does_not_stop_the_service(name: str) -> None:
    """systemd fails a unit whose credential file is missing, unless there is a default for it."""
    unit = settings(name)
    loaded = {value.partition(":")[0] for value in unit["LoadCredential"]}
    defaults = {value.partition(":")[0] for value in unit["SetCredential"]}
    assert loaded == defaults
    assert {"slack-bot-token", "mqtt-password"} <= loaded


def test_the_agent_sees_what_its_probes_measure() -> None:
    """Other people's processes, the whole of /proc and the figures of /home stay visible to the agent."""
    unit = settings("tocsin-agent.service")
    assert unit.keys().isdisjoint({"ProtectProc", "ProcSubset", "PrivateUsers", "PrivateNetwork"})
    assert unit["ProtectHome"] == {"read-only"}


def test_user_and_directories_are_declared() -> None:
    """The user of the units is the one that sysusers makes, and tmpfiles guards the credentials."""
    declared = (UNITS / "sysusers.d/tocsin.conf").read_text().splitlines()
    users = [line.split()[1] for line in declared if line.startswith("u ")]
    assert users == ["tocsin"]
    lines = (UNITS / "tmpfiles.d/tocsin.conf").read_text().splitlines()
    modes = {line.split()[1]: line.split()[2:5] for line in lines if line.startswith("d ")}
    assert modes["/etc/tocsin/credentials"] == ["0700", "root", "root"]
    assert modes["/etc/tocsin/plugins"] == ["0755", "root", "root"]
