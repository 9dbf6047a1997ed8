"""`tocsin top`: a live view in the terminal, straight from the MQTT stream; no collector is needed."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent.errors import EXIT_OK, ConfigError, UnavailableError, UsageError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from agent.cli.stream import Stream
    from agent.config.schema import MqttConfig
    from agent.transport.mqtt import Link, Session

REFRESH = 0.5
COLLECT = 1.5
"""Seconds that `--once` listens on after the first samples of what it is to show."""
PIPE_WIDTH = 120


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "host", nargs="?", default="", metavar="HOST", help="this host in detail (default: a line for each)"
    )
    parser.add_argument("--mqtt", metavar="URL", help="of the broker (default: mqtt.url of agent.toml)")
    parser.add_argument("--once", action="store_true", help="print one screen and end")
    parser.add_argument(
        "--wait", type=float, default=20.0, metavar="SECONDS", help="for --once: how long for samples (20)"
    )
    parser.epilog = "q or Ctrl-C ends it.\n\nexit codes: 0 ended; 69 no broker, or nothing heard with --once"


def main(arguments: argparse.Namespace) -> int:
    from agent.cli.extra import needs  # noqa: PLC0415
    from agent.transport.wire import HOST  # noqa: PLC0415

    if arguments.host and not HOST.fullmatch(arguments.host):
        raise UsageError(f"{arguments.host!r} is no host id")
    with needs("top"):
        from agent.cli import screen  # noqa: F401, PLC0415

    try:
        asyncio.run(_show(arguments))
    except KeyboardInterrupt:
        return EXIT_OK
    return EXIT_OK


async def _show(arguments: argparse.Namespace) -> None:
    from rich.console import Console  # noqa: PLC0415

    from agent.cli.stream import Stream  # noqa: PLC0415

    config = _broker(arguments)
    stream = Stream()
    link = _link(config, arguments.host)

    async def listen(session: Session) -> None:
        async for message in session.messages():
            stream.take(message.topic, message.payload)

    listening = asyncio.ensure_future(link.run(listen))
    try:
        if arguments.once:
            # Into a pipe, width costs nothing and a cut column is lost.
            await _once(stream, link, arguments, Console(width=None if sys.stdout.isatty() else PIPE_WIDTH))
        else:
            await _live(stream, link, arguments, Console())
    finally:
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening


def _broker(arguments: argparse.Namespace) -> MqttConfig:
    from msgspec.structs import replace  # noqa: PLC0415

    from agent.config.load import usable  # noqa: PLC0415
    from agent.config.rules import faults  # noqa: PLC0415

    config = usable(arguments.config, optional=bool(arguments.mqtt))
    if arguments.mqtt:
        config = replace(config, mqtt=replace(config.mqtt, url=arguments.mqtt))
    wrong = [str(fault) for fault in faults(config) if fault.keys[:1] == ("mqtt",)]
    if wrong:
        raise ConfigError(wrong)
    return config.mqtt


def _link(config: MqttConfig, host: str) -> Link:
    import logging  # noqa: PLC0415

    from agent.cli.stream import Stream  # noqa: PLC0415
    from agent.clock import SystemClock  # noqa: PLC0415
    from agent.transport.mqtt import Backoff, Link  # noqa: PLC0415

    logging.getLogger("agent").setLevel(logging.CRITICAL)  # the screen says whether there is a connection
    return Link(
        config,
        identifier=f"tocsin-top-{os.urandom(4).hex()}",
        subscriptions=Stream.subscriptions(host),
        clock=SystemClock(),
        backoff=Backoff(first=1.0, cap=5.0),
    )


async def _once(stream: Stream, link: Link, arguments: argparse.Namespace, console: Console) -> None:
    deadline = time.monotonic() + arguments.wait
    while time.monotonic() < deadline:
        await asyncio.sleep(0.05)
        if _measured(stream, arguments.host):
            await asyncio.sleep(min(COLLECT, max(0.0, deadline - time.monotonic())))
            console.print(_picture(stream, link, arguments.host))
            return
    if not link.connects:
        raise UnavailableError(f"no broker: {link.last_error or 'no answer'}")
    raise UnavailableError(f"no sample of {arguments.host or 'any host'} came within {arguments.wait:g} s")


def _measured(stream: Stream, host: str) -> bool:
    views = [stream.hosts[host]] if host in stream.hosts else [] if host else list(stream.hosts.values())
    return any(view.probes for view in views)


async def _live(stream: Stream, link: Link, arguments: argparse.Namespace, console: Console) -> None:
    from rich.live import Live  # noqa: PLC0415

    stop = asyncio.Event()
    with (
        _keys(stop),
        Live(_picture(stream, link, arguments.host), console=console, screen=True, auto_refresh=False) as live,
    ):
        while not stop.is_set():
            live.update(_picture(stream, link, arguments.host), refresh=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH):
                    await stop.wait()


def _picture(stream: Stream, link: Link, host: str) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from agent.cli import screen  # noqa: PLC0415
    from agent.cli.stream import HostView  # noqa: PLC0415

    now = time.time()
    body = screen.one(stream.hosts.get(host, HostView(host)), now) if host else screen.fleet(stream.hosts.values(), now)
    if link.connected:
        return body
    return Group(Text(f"no broker: {link.last_error or 'connecting'}", style="red"), body)


@contextlib.contextmanager
def _keys(stop: asyncio.Event) -> Iterator[None]:
    """`q` sets `stop`; the terminal is given back as it was."""
    if not sys.stdin.isatty():
        yield
        return
    import termios  # noqa: PLC0415
    import tty  # noqa: PLC0415

    handle, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(handle)

    def pressed() -> None:
        if b"q" in os.read(handle, 64).lower():
            stop.set()

    tty.setcbreak(handle)
    loop.add_reader(handle, pressed)
    try:
        yield
    finally:
        loop.remove_reader(handle)
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
