"""A probe run, or a plugin asked, beside the schedule because somebody wants to know now."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from agent.clock import Clock
from agent.errors import CommandError
from agent.model import ProbeResult
from agent.plugin import BusyError, Probe
from agent.probing.plan import PlannedProbe
from agent.probing.runner import CLOSE, Runner

APART = 1.0
"""Seconds between the two runs from which rates are made."""
PATIENCE = 45.0
"""Seconds for an action."""


class Visits:
    """Each on a probe of its own, closed afterwards: the scheduled one is not disturbed.

    One that failed is kept for the next visit, so that a hung call costs one thread however often somebody asks.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._runners: dict[Hashable, Runner] = {}
        self._probes: dict[Hashable, Probe] = {}

    async def run(self, planned: PlannedProbe) -> ProbeResult:
        """Two runs, so that rates are there; the result of the second. Raises nothing but CancelledError."""
        runner = self._runners.setdefault(planned.key, Runner(planned, self._clock))
        result = await runner.run()
        if result.status == "ok":
            await self._clock.sleep(APART)
            result = await runner.run()
        if result.status == "ok":
            del self._runners[planned.key]
            await runner.aclose()
        return result

    async def ask(self, planned: PlannedProbe, action: str, about: str) -> list[str]:
        """The lines of a plugin's action; CommandError where there is none of that name, or it cannot say.

        What the plugin raises otherwise goes up.
        """
        kept = self._probes.get(planned.key)
        probe = kept or planned.create()
        known = probe.actions()
        if action not in known:
            raise CommandError("unknown_action", _known(planned.name, known))
        self._probes[planned.key] = probe
        try:
            async with asyncio.timeout(PATIENCE):
                if kept is None:
                    await probe.open()
                lines: list[str] = await getattr(probe, action)(about)
        except (TimeoutError, BusyError) as error:
            raise CommandError("timeout", f"{planned.name} {action}: {error or 'no answer in time'}") from error
        except ValueError as error:
            await self._close(planned)
            raise CommandError("bad_arguments", str(error)) from error
        except Exception:
            await self._close(planned)
            raise
        await self._close(planned)
        return [str(line) for line in lines]

    async def _close(self, planned: PlannedProbe) -> None:
        closing = asyncio.ensure_future(self._probes.pop(planned.key).aclose())
        await asyncio.wait({closing}, timeout=CLOSE)
        closing.cancel()


def _known(name: str, actions: dict[str, str]) -> str:
    if not actions:
        return f"{name} has no actions"
    listed = "; ".join(f"{action}: {summary}" for action, summary in actions.items())
    return f"expected one of the actions of {name}: {listed}"
