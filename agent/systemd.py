"""What systemd wants to hear from a service: READY, STATUS, WATCHDOG, RELOADING, STOPPING (sd_notify)."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import MutableMapping

_log = logging.getLogger(__name__)


class Notifier:
    """Speaks to the socket that systemd gave us; without one every call does nothing.

    `watchdog` is the time in seconds within which `alive` must be called again and again, None where
    systemd does not watch us.
    """

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status = ""
        self.watchdog = watchdog

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> Notifier:
        """Takes the variables out of `environment`, so that no child of ours can speak in our name."""
        address = environment.pop("NOTIFY_SOCKET", "")
        interval = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "")
        watched = interval.isdigit() and int(interval) > 0 and pid in ("", str(os.getpid()))
        return cls(address, int(interval) / 1e6 if watched else None)

    def ready(self) -> None:
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; said only when it changes."""
        line = " ".join(text.split())[:200]
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def alive(self) -> None:
        if self.watchdog is not None:
            self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """Between this and the next `ready` the configuration is read anew."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as pipe,
        ):
            pipe.setblocking(False)  # a full queue must never hold the loop; the next one gets through
            pipe.sendto(message.encode(), self._address)
