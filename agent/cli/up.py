"""`tocsin up`: everything on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import EXIT_OK, UsageError

if TYPE_CHECKING:
    from agent.config.units import Duration


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state-dir", type=Path, metavar="DIR", help="default: $XDG_STATE_HOME/tocsin, else ./.tocsin")
    parser.add_argument("--listen", metavar="HOST:PORT", help="of the dashboard and the API (default 127.0.0.1:8420)")
    parser.add_argument("--mqtt", metavar="HOST:PORT", help="of the embedded broker (default 127.0.0.1:1883)")
    parser.add_argument(
        "--interval", metavar="TIME", help="of probes that do not set their own (default: as -c FILE says, else 2s)"
    )
    parser.epilog = (
        "Without a configuration file the core probes run and the default service levels are watched.\n\n"
        "exit codes: 0 stopped as asked; 1 failed; 2 wrong usage; 69 a port or the state directory is taken;\n"
        "78 the configuration is faulty"
    )


def main(arguments: argparse.Namespace) -> int:
    from agent.cli.extra import needs  # noqa: PLC0415

    interval = None if arguments.interval is None else _interval(arguments.interval)
    with needs("up"):
        from agent import up  # noqa: PLC0415

    up.main(up.Options(arguments.config, arguments.state_dir, arguments.listen, arguments.mqtt, interval))
    return EXIT_OK


def _interval(text: str) -> Duration:
    from agent.config.units import Duration  # noqa: PLC0415

    try:
        interval = Duration.parse(text)
    except ValueError as error:
        raise UsageError(f"--interval {text}: {error}") from error
    if not 0.1 <= interval <= 86400:
        raise UsageError(f'--interval {text}: expected "100ms" to "1d"')
    return interval
