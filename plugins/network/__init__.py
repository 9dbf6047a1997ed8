"""Network traffic, errors, drops and link state of every interface."""

from __future__ import annotations

import time
from collections.abc import Callable
from fnmatch import fnmatchcase

from agent.plugin import Labels, Metric, Options, Probe, printable, read_file

# Columns of /proc/net/dev, which also counts what we leave out (frames, multicast, …).
_RECEIVED, _RECEIVED_PACKETS, _RECEIVE_ERRORS, _RECEIVE_DROPS = 0, 1, 2, 3
_SENT, _SENT_PACKETS, _SEND_ERRORS, _SEND_DROPS = 8, 9, 10, 11

# What containers, virtual machines and traffic shaping make in any number; the traffic passes a real interface too.
_EXCLUDE = ("lo", "veth*", "docker*", "br-*", "virbr*", "vnet*", "tap*", "cali*", "cni*", "flannel*", "ifb*", "dummy*")


class NetworkOptions(Options, frozen=True):
    exclude: tuple[str, ...] = _EXCLUDE


class Network(Probe):
    """Reads /proc/net/dev and each interface's operstate; rates are since the previous run."""

    options: NetworkOptions

    def __init__(
        self,
        options: NetworkOptions,
        *,
        proc: str = "/proc",
        sys: str = "/sys",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(options)
        self._path = f"{proc}/net/dev"
        self._interfaces = f"{sys}/class/net"
        self._monotonic = monotonic
        self._previous: dict[str, list[int]] = {}
        self._time = 0.0

    async def collect(self) -> list[Metric]:
        now = self._monotonic()
        totals = self._totals(read_file(self._path))
        elapsed = now - self._time
        metrics: list[Metric] = []
        for interface, current in totals.items():
            labels = {"interface": interface}
            metrics += self._link(interface, labels)
            before = self._previous.get(interface)
            if before is not None and elapsed > 0:
                metrics += _rates(before, current, elapsed, labels)
        self._previous, self._time = totals, now
        return metrics

    def _totals(self, text: bytes) -> dict[str, list[int]]:
        totals: dict[str, list[int]] = {}
        for line in text.splitlines()[2:]:
            name, _, columns = line.rpartition(b":")
            interface = printable(name.strip())
            if not any(fnmatchcase(interface, pattern) for pattern in self.options.exclude):
                totals[interface] = [int(column) for column in columns.split()]
        return totals

    def _link(self, interface: str, labels: Labels) -> list[Metric]:
        try:
            state = read_file(f"{self._interfaces}/{interface}/operstate").strip()
        except OSError:  # gone since the line was written
            return []
        # A tunnel has no cable and says "unknown"; it is up as long as it is there.
        return [Metric("network.link_up", float(state in (b"up", b"unknown")), "", "gauge", labels)]


def _rates(before: list[int], current: list[int], elapsed: float, labels: Labels) -> list[Metric]:
    """Nothing where a total went back (it wrapped, or the driver was loaded anew): better no rate than a false peak."""
    delta = [new - old for old, new in zip(before, current, strict=True)]
    if min(delta) < 0:
        return []

    def rate(name: str, unit: str, *columns: int) -> Metric:
        total = sum(delta[column] for column in columns)
        return Metric(f"network.{name}_per_second", total / elapsed, unit, "gauge", labels)

    return [
        rate("receive_bytes", "bytes/s", _RECEIVED),
        rate("transmit_bytes", "bytes/s", _SENT),
        rate("receive_packets", "1/s", _RECEIVED_PACKETS),
        rate("transmit_packets", "1/s", _SENT_PACKETS),
        rate("errors", "1/s", _RECEIVE_ERRORS, _SEND_ERRORS),
        rate("drops", "1/s", _RECEIVE_DROPS, _SEND_DROPS),
    ]
