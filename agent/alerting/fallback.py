"""Another way out, for when Slack has been out of reach for long: what is critical is told there, once each.

It can neither edit nor thread, so it says little: that something opened, and that it is over. It never counts as
told in Slack.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

import msgspec

from agent.alerting.outbox import Outbox
from agent.alerting.state import State
from agent.aside import aside
from agent.clock import Clock
from agent.config.schema import FallbackConfig
from agent.model import Incident, Severity

log = logging.getLogger(__name__)

LOOK_EVERY = 5.0
DEADLINE = 20.0
PAUSE = 60.0
"""Seconds after a failure until the next try."""
MOST = 50
"""Incidents of which it is remembered that they were told here; in a storm the first ones say enough."""


class Fallback:
    """`run` for ever. `text` says an incident in words; `config` gives the present configuration."""

    def __init__(
        self,
        outbox: Outbox,
        state: State,
        clock: Clock,
        config: Callable[[], FallbackConfig],
        text: Callable[[Incident], str],
    ) -> None:
        self._outbox = outbox
        self._state = state
        self._clock = clock
        self._config = config
        self._text = text
        self._told: dict[str, str] = state.read("fallback", str)
        """Incident -> the state in which it was told here."""

    async def run(self) -> None:
        while True:
            pause = LOOK_EVERY
            try:
                await self.look()
            except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError) as error:
                log.error("the fallback failed, too", extra={"error": str(error) or type(error).__name__})
                pause = PAUSE
            await self._clock.sleep(pause)

    async def look(self) -> None:
        """Tell what is due. Raises what the way out raises; what was told until then stays told."""
        config = self._config()
        if not (config.webhook or config.command):
            return
        if self._outbox.down_for < float(config.after):
            if self._told and not self._outbox.down_for:
                self._state.put({("fallback", incident): None for incident in self._told})
                self._told.clear()
            return
        for incident in self._outbox.waiting():
            if self._due(incident, config):
                await send(config, self._text(incident))
                self._told[incident.id] = incident.state
                self._state.put({("fallback", incident.id): incident.state})
                log.warning("told by the fallback", extra={"incident": incident.id, "state": incident.state})

    def _due(self, incident: Incident, config: FallbackConfig) -> bool:
        before = self._told.get(incident.id)
        if before == incident.state or incident.muted:
            return False
        if before is None and (incident.state == "resolved" or len(self._told) >= MOST):
            return False
        return incident.peak.rank >= Severity(config.severity).rank


async def send(config: FallbackConfig, text: str) -> None:
    """By every way that is configured; OSError, ValueError or TimeoutError where one fails."""
    async with asyncio.timeout(DEADLINE):
        if config.webhook is not None:
            url = config.webhook.reveal()
            await aside("fallback", lambda: _post(url, text))
        if config.command:
            await _pipe(config.command, text)


async def _pipe(argv: tuple[str, ...], text: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
    )
    try:
        await process.communicate(text.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await asyncio.sleep(0)  # for the loop to let go of it
    if process.returncode:
        raise OSError(f"{argv[0]} ended with {process.returncode}")


def _post(url: str, text: str) -> None:
    import urllib.request  # noqa: PLC0415 - most never need it
    from http.client import HTTPException  # noqa: PLC0415

    body = msgspec.json.encode({"text": text})
    headers = {"Content-Type": "application/json"}
    try:
        request = urllib.request.Request(url, body, headers)  # noqa: S310 - our own setting
        with urllib.request.urlopen(request, timeout=DEADLINE / 2) as answer:  # noqa: S310
            answer.read(1000)
    except (ValueError, HTTPException) as error:  # they quote the address, which is the secret
        raise OSError(f"the webhook's address is none, or no HTTP is spoken there ({type(error).__name__})") from None
