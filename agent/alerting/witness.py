"""What was seen around a crossing, asked for at the moment of it: must be cheap, and must not fail."""

from __future__ import annotations

from typing import Protocol

from agent.model import Evidence, Labels


class Witness(Protocol):
    def history(self, metric: str, labels: Labels) -> tuple[float | None, ...]:
        """One mean a minute of the hour until now, oldest first, None where there was nothing."""
        ...

    def evidence(self, metric: str, labels: Labels) -> tuple[Evidence, ...]:
        """What was likely behind it."""
        ...


class Nobody:
    """Has seen nothing."""

    def history(self, metric: str, labels: Labels) -> tuple[float | None, ...]:
        del metric, labels
        return ()

    def evidence(self, metric: str, labels: Labels) -> tuple[Evidence, ...]:
        del metric, labels
        return ()
