"""The present state of every host: in memory, from births, wills, health and the age of what was heard last."""

from __future__ import annotations

from typing import Any

from agent.clock import Clock
from agent.collector.live import Hub


class Fleet:
    """All hosts as the API shows them. Changes are published on the hub as "host" and "delivery"."""

    def __init__(self, clock: Clock, hub: Hub, offline_after: float) -> None:
        self._clock = clock
        self._hub = hub
        self._offline_after = offline_after

    def hosts(self) -> list[dict[str, Any]]:
        """Entries of /api/v1/hosts, by name: {"host", "state": online | offline | unknown, "last_seen",
        "first_seen", "version", "labels", "health": {"score", "status", "components", "time"} | None,
        "incidents": number of open ones, "worst": their worst severity | None}.
        """
        raise NotImplementedError

    def host(self, host: str) -> dict[str, Any] | None:
        """One entry of `hosts()`, or None if never heard."""
        raise NotImplementedError

    def latest(self, host: str) -> list[dict[str, Any]]:
        """The newest run of each probe since the collector's start, as the data of a "sample" event."""
        raise NotImplementedError

    def delivery(self, host: str, incident: str) -> dict[str, Any] | None:
        """{"state", "version", "channel", "ts", "attempts", "error", "next_try"} of an incident's Slack message,
        None where the host has told nothing about it.
        """
        raise NotImplementedError
