"""Everything on one machine in one process: an embedded broker, the collector with its dashboard, the agent."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

import msgspec

from agent import log as logs
from agent.broker import EmbeddedBroker
from agent.clock import Clock, SystemClock
from agent.collector.service import serve
from agent.config.rules import address, is_loopback
from agent.config.schema import Config, MqttConfig, SlackConfig
from agent.config.units import Duration
from agent.daemon.main import PRIVATE
from agent.daemon.service import Daemon
from agent.daemon.setup import Setup, prepare
from agent.errors import ConfigError, PluginError, SpoolError, UnavailableError, UsageError

log = logging.getLogger(__name__)

STOP_WITHIN = 9.5
"""Seconds from the wish to stop to the end of the process, whatever hangs."""


DEFAULT_INTERVAL = Duration(2)
"""Of probes that set none of their own: a try should move before one's eyes."""


@dataclass(frozen=True)
class Options:
    """What the command line sets over the file; None leaves the file's."""

    config: Path | None = None
    state_dir: Path | None = None
    listen: str | None = None
    mqtt: str | None = None
    interval: Duration | None = None
    """None: as the file given by `config` says, and without one something livelier than a fleet wants."""


def default_state_dir() -> Path:
    """`$XDG_STATE_HOME/tocsin`, else `./.tocsin`: the place of a try, not that of a service."""
    home = os.environ.get("XDG_STATE_HOME")
    return Path(home, "tocsin") if home else Path(".tocsin").absolute()


def main(options: Options) -> None:
    """Run until SIGTERM or SIGINT. UsageError, ConfigError and UnavailableError (a port) before anything is started,
    UnavailableError also for a state directory that another process uses.
    """
    logs.setup(logging.WARNING)
    os.umask(PRIVATE)
    setup = _prepare(options)
    for listen, option in ((setup.config.collector.listen, "--listen"), (_mqtt(options, setup.config), "--mqtt")):
        _must_be_free(listen, option)
    with logs.contained() as output:
        try:
            asyncio.run(_until_signalled(setup, options, output))
        except SpoolError as error:
            raise UnavailableError(f"{error}; choose another directory with --state-dir DIR") from error


async def run(
    setup: Setup, *, clock: Clock, stop: asyncio.Event, output: TextIO, ready: Callable[[Daemon, str], None]
) -> None:
    """All three until `stop` is set. `ready` gets the agent and the dashboard's URL once both are there."""
    host, port = address(setup.config.mqtt.url.removeprefix("mqtt://"))
    daemon = Daemon(setup, clock=clock, output=output)
    async with EmbeddedBroker(host, port), asyncio.TaskGroup() as group:
        collector = serve(setup.config, clock=clock, ready=lambda collector: ready(daemon, collector.url), stop=stop)
        group.create_task(collector, name="collector")
        group.create_task(daemon.run(stop), name="agent")


async def _until_signalled(setup: Setup, options: Options, output: TextIO) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def end() -> None:
        stop.set()
        loop.call_later(STOP_WITHIN, os._exit, 1)  # whatever hangs has had its time

    def ready(daemon: Daemon, url: str) -> None:
        loop.add_signal_handler(signal.SIGHUP, _reload, daemon, options)
        print(_welcome(setup.config, url), file=output, flush=True)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        await run(setup, clock=SystemClock(), stop=stop, output=output, ready=ready)
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _reload(daemon: Daemon, options: Options) -> None:
    try:
        setup = _prepare(options)
        before, after = daemon.config, setup.config
        daemon.reload(setup)
        for key in ("collector", "commands", "mqtt", "slack"):
            if getattr(before, key) != getattr(after, key):
                log.warning("a change takes hold for the collector with the next start only", extra={"key": key})
    except (ConfigError, PluginError, UsageError) as error:
        for line in str(error).splitlines():
            log.error("configuration is faulty, keeping the last good one", extra={"fault": line})


def _prepare(options: Options) -> Setup:
    return prepare(options.config, adapt=lambda config: _adapted(config, options))


def _adapted(config: Config, options: Options) -> Config:
    """The file's configuration for one machine: our own broker, a state directory that needs no root."""
    replace = msgspec.structs.replace
    interval = options.interval or (config.agent.interval if options.config else DEFAULT_INTERVAL)
    agent = replace(config.agent, state_dir=(options.state_dir or default_state_dir()).absolute(), interval=interval)
    mqtt = MqttConfig(
        url=f"mqtt://{_mqtt(options, config)}", keepalive=config.mqtt.keepalive, reconnect_spread=Duration(0.5)
    )
    collector = replace(config.collector, listen=options.listen or config.collector.listen)
    host, _ = _address(collector.listen, "--listen")
    if not is_loopback(host) and collector.token is None:
        raise UsageError(f"--listen {collector.listen} is not loopback: set collector.token in agent.toml first")
    slack = config.slack
    if slack.dashboard_url == SlackConfig().dashboard_url:
        slack = replace(slack, dashboard_url=f"http://{collector.listen}")
    return replace(config, agent=agent, mqtt=mqtt, collector=collector, slack=slack)


def _mqtt(options: Options, config: Config) -> str:
    """Where our broker listens: as asked for, else where the file's is if that is this machine, else the usual port."""
    if options.mqtt:
        _address(options.mqtt, "--mqtt")
        return options.mqtt
    url = urlsplit(config.mqtt.url)
    host = url.hostname or ""
    if not is_loopback(host):
        return "127.0.0.1:1883"
    return f"{'[::1]' if ':' in host else host}:{url.port or 1883}"


def _address(text: str, option: str) -> tuple[str, int]:
    try:
        return address(text)
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}") from error


def _must_be_free(listen: str, option: str) -> None:
    host, port = address(listen)
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(where)
            trial.listen(1)
    except OSError as error:
        raise UnavailableError(
            f"cannot listen on {listen}: {error.strerror or error}; choose another address with {option} HOST:PORT"
        ) from error


def _welcome(config: Config, url: str) -> str:
    host, port = address(config.mqtt.url.removeprefix("mqtt://"))
    slack = config.slack.channel if config.slack.bot_token else "no token: alerts are printed here"
    lines = [
        f"tocsin is up on {config.agent.host}",
        f"  dashboard   {url}",
        f"  MQTT        {config.mqtt.url}",
        f"              mosquitto_sub -h {host} -p {port} -t 'tocsin/v1/#' -v",
        f"  Slack       {slack}",
        f"  state       {config.agent.state_dir}",
        "  stop        Ctrl-C",
    ]
    if not is_loopback(host):
        lines.append(f"  ! anybody who reaches {host}:{port} can read and write: this broker asks for no password")
    return "\n".join(lines)
