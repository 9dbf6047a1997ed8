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
        self._labels: dict[bytes, Labels | None] = {}
        self._previous: dict[bytes, list[int]] = {}
        self._time = 0.0

    async def collect(self) -> list[Metric]:
        now = self._monotonic()
        totals = self._totals(read_file(self._path))
        elapsed = now - self._time
        metrics: list[Metric] = []
        for interface, current in totals.items():
            labels = self._labels[interface]
            if labels is None:
                continue
            metrics += self._link(labels)
            before = self._previous.get(interface)
            if before is not None and elapsed > 0:
                metrics += _rates(before, current, elapsed, labels)
        self._previous, self._time = totals, now
        return metrics

    def _totals(self, text: bytes) -> dict[bytes, list[int]]:
        totals: dict[bytes, list[int]] = {}
        labels: dict[bytes, Labels | None] = {}
        for line in text.splitlines()[2:]:
            name, _, columns = line.rpartition(b":")
            interface = name.strip()
            labels[interface] = self._labels[interface] if interface in self._labels else self._judge(interface)
            if labels[interface] is not None:
                totals[interface] = [int(column) for column in columns.split()]
        self._labels = labels  # of those that are there: containers come and go under ever new names
        return totals

    def _judge(self, interface: bytes) -> Labels | None:
        """None for an interface that is left out."""
        name = printable(interface)
        return None if any(fnmatchcase(name, pattern) for pattern in self.options.exclude) else {"interface": name}

    def _link(self, labels: Labels) -> list[Metric]:
        try:
            state = read_file(f"{self._interfaces}/{labels['interface']}/operstate").strip()
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
