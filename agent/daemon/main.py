"""`tocsin run` as a process: signals, log, streams."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import TextIO

from agent import log as logs
from agent.clock import SystemClock
from agent.config.load import SHIPPED
from agent.daemon.service import Daemon
from agent.daemon.setup import Setup, prepare
from agent.errors import EXIT_OK, ConfigError, PluginError
from agent.systemd import Notifier

log = logging.getLogger(__name__)

ELSEWHERE = "collector"
"""The table that is not ours to have the secrets of."""
PRIVATE = 0o077
"""The umask: what we measured and whom we told is not for every user of the machine to read."""


def main(path: Path | None) -> int:
    """Run until SIGTERM or SIGINT; SIGHUP reads `path` anew. ConfigError before anything is started."""
    notifier = Notifier.from_environment()
    logs.setup()
    os.umask(PRIVATE)
    setup = prepare(path, elsewhere=ELSEWHERE)
    if set(setup.config.sources) & set(SHIPPED):
        log.warning("no agent.toml found, running on the one that ships", extra={"file": setup.config.sources[0]})
    with logs.contained() as output:
        asyncio.run(_run(setup, path, notifier, output))
    return EXIT_OK


async def _run(setup: Setup, path: Path | None, notifier: Notifier, output: TextIO) -> None:
    daemon = Daemon(setup, clock=SystemClock(), notifier=notifier, output=output)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload, daemon, path, notifier)
    await daemon.run(stop)


def reload(daemon: Daemon, path: Path | None, notifier: Notifier) -> None:
    """Read everything anew; a faulty configuration is told and the last good one stays."""
    notifier.reloading()
    try:
        daemon.reload(prepare(path, elsewhere=ELSEWHERE))
    except (ConfigError, PluginError) as error:
        for line in str(error).splitlines():
            log.error("configuration is faulty, keeping the last good one", extra={"fault": line})
    notifier.ready()
