"""`tocsin alert test`: one breach of nothing, down the whole road, and an account of each station.

The command leaves a request in the state directory; the daemon takes it up, breaks a threshold that only it
has, and mends it again. What happened when stands in an answer file, for the command to read.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from agent.clock import Clock
from agent.config.schema import ThresholdConfig
from agent.config.units import Quantity
from agent.model import DeliveryState, Incident, Transition

log = logging.getLogger(__name__)

REQUEST, ANSWER = "alert-test.request", "alert-test.json"
METRIC = "agent.test_alert"
THRESHOLD = ThresholdConfig(
    name="test-alert",
    metric=METRIC,
    warning=Quantity(0),
    flapping=False,
    summary="this is a test: somebody ran `tocsin alert test`, and nothing is wrong",
)
HOLD = 3.0
"""Seconds for which the breach stands at least, so that its message can be seen to change."""
PATIENCE = 60.0
"""Seconds after which a station that was not reached is given up."""


class Account(msgspec.Struct):
    """Unix seconds of what has happened so far, 0 where it has not; `channel` and `error` are the delivery's."""

    incident: str = ""
    requested: float = 0.0
    opened: float = 0.0
    delivered: float = 0.0
    resolved: float = 0.0
    delivered_resolved: float = 0.0
    channel: str = ""
    error: str = ""
    done: bool = False


class AlertTest:
    """`emit` hands a value of the test metric down the road; `deliveries` are the outbox's."""

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        emit: Callable[[float], None],
        deliveries: Callable[[], Sequence[DeliveryState]],
    ) -> None:
        self._request = str(directory / REQUEST)
        self._answer = directory / ANSWER
        self._clock = clock
        self._emit = emit
        self._deliveries = deliveries
        self._account: Account | None = None
        self._began = 0.0
        """Monotonic: a clock that is set meanwhile must not keep the test open."""

    def tick(self) -> None:
        """About once a second; costs one look at the directory while nobody asks."""
        if self._account is None:
            if os.path.exists(self._request):  # noqa: PTH110 - every second, for ever
                self._begin()
        else:
            self._proceed(self._account)

    def note(self, incident: Incident, transition: Transition) -> None:
        """The engine moved an incident; ours is the one of our threshold."""
        account = self._account
        if account is None or incident.threshold != THRESHOLD.name:
            return
        account.incident = incident.id
        if incident.state == "resolved":
            account.resolved = transition.time
        else:
            account.opened = transition.time

    def _begin(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._request)  # noqa: PTH108
        log.info("test alert asked for")
        self._account = Account(requested=self._clock.now())
        self._began = self._clock.monotonic()
        self._emit(1.0)
        self._write(self._account)

    def _proceed(self, account: Account) -> None:
        now = self._clock.now()
        for delivery in self._deliveries():
            if delivery.incident == account.incident:
                self._note_delivery(account, delivery, now)
        waited = self._clock.monotonic() - self._began
        if not account.resolved and waited >= HOLD and (account.delivered or waited >= PATIENCE / 2):
            self._emit(0.0)
        if account.delivered_resolved or waited >= PATIENCE:
            account.done = True
            self._account = None
        self._write(account)

    @staticmethod
    def _note_delivery(account: Account, delivery: DeliveryState, now: float) -> None:
        account.channel, account.error = delivery.channel, delivery.error
        if delivery.version >= 1 and not account.delivered:
            account.delivered = now
        if account.resolved and delivery.version >= 2 and not account.delivered_resolved:
            account.delivered_resolved = now

    def _write(self, account: Account) -> None:
        """Whole or not at all: the command reads it while we write."""
        new = self._answer.with_suffix(".new")
        try:
            new.write_bytes(msgspec.json.encode(account))
            new.replace(self._answer)
        except OSError as error:
            log.warning("test alert cannot answer", extra={"file": str(self._answer), "error": str(error)})
