"""sd_notify, heard on a real datagram socket as systemd would."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.systemd import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield listener


def heard(manager: socket.socket) -> str:
    return manager.recv(4096).decode()


def notifier(manager: socket.socket, **more: str) -> tuple[Notifier, dict[str, str]]:
    environment = {"NOTIFY_SOCKET": manager.getsockname(), "KEPT": "1", **more}
    return Notifier.from_environment(environment), environment


def test_each_state_is_said_in_systemds_words(manager: socket.socket) -> None:
    """READY, STATUS, WATCHDOG, RELOADING with its time, STOPPING."""
    speaker, _ = notifier(manager, WATCHDOG_USEC="30000000", WATCHDOG_PID=str(os.getpid()))
    speaker.ready()
    assert heard(manager) == "READY=1"
    speaker.status("spool  12\nwaiting")
    assert heard(manager) == "STATUS=spool 12 waiting"
    speaker.alive()
    assert heard(manager) == "WATCHDOG=1"
    speaker.reloading()
    assert heard(manager).startswith("RELOADING=1\nMONOTONIC_USEC=")
    speaker.stopping()
    assert heard(manager) == "STOPPING=1"


def test_an_unchanged_status_is_not_repeated(manager: socket.socket) -> None:
    """The status is set every few seconds; systemd needs the changes."""
    speaker, _ = notifier(manager)
    for text in ("one", "one", "two"):
        speaker.status(text)
    assert [heard(manager), heard(manager)] == ["STATUS=one", "STATUS=two"]


def test_children_do_not_inherit_the_socket(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child of ours must not be able to say that we live."""
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert Notifier.from_environment().watchdog == 1.0
    script = "import os; print(sorted(set(os.environ) & {'NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID'}))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_watchdog_of_another_process_is_not_ours(manager: socket.socket) -> None:
    """WATCHDOG_PID names who has to answer."""
    speaker, _ = notifier(manager, WATCHDOG_USEC="1000000", WATCHDOG_PID="1")
    assert speaker.watchdog is None


def test_an_abstract_address_is_understood() -> None:
    """systemd in containers uses `@name`."""
    name = f"tocsin-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.settimeout(5)
        Notifier(f"@{name}").ready()
        assert heard(listener) == "READY=1"


def test_nobody_listening_is_no_error(tmp_path: Path) -> None:
    """Outside systemd, or with its socket gone, the daemon just runs."""
    Notifier().ready()
    Notifier(str(tmp_path / "gone")).ready()
