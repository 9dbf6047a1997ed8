"""So that no job outlives the agent that began it, also where nothing but us ends processes."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from pathlib import Path

log = logging.getLogger(__name__)

FILE = "job.pid"
_STARTED = 19
"""Column of /proc/PID/stat behind the name: when it started, in ticks since boot. With the pid it names one process."""


class Leash:
    """One job at a time: its process is written down while it runs."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE

    def hold(self, pid: int) -> None:
        """The job's first process, leader of its group. Without a disk there is no leash, and the job runs on."""
        with contextlib.suppress(OSError):
            self._path.write_text(f"{pid} {_started(pid)}\n")

    def release(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def pull(self) -> None:
        """End what an earlier agent has left running; to be called once at the start."""
        try:
            pid, started = self._path.read_text().split()
        except (OSError, ValueError):
            return
        if pid.isdecimal() and started and started == _started(int(pid)):
            log.warning("a job outlived its agent and is ended", extra={"pid": int(pid)})
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(int(pid), signal.SIGKILL)
        self.release()


def _started(pid: int) -> str:
    """In ticks since boot; nothing where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[_STARTED]
