"""Which agent.toml, and where the daemon of this machine keeps its state: options that many commands have."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from agent.errors import UnavailableError


def add_config(parser: argparse.ArgumentParser, *, below: bool = True) -> None:
    """`below` another: where it is not given there, what was said before holds."""
    default = argparse.SUPPRESS if below else None
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", default=default, help="agent.toml to use")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="of the daemon (default: as in agent.toml, or of `up`)"
    )


def state_dirs(arguments: argparse.Namespace) -> list[Path]:
    """The one that was named, else those that are there; UnavailableError where none is, ConfigError where
    agent.toml cannot be read.
    """
    from agent.config.load import usable  # noqa: PLC0415

    if arguments.state_dir is not None:
        return [arguments.state_dir]
    home = os.environ.get("XDG_STATE_HOME")
    up = Path(home, "tocsin") if home else Path(".tocsin")
    found = [path for path in (usable(arguments.config).agent.state_dir, up) if path.is_dir()]
    if not found:
        raise UnavailableError("no daemon has run here yet: no state directory; name it with --state-dir")
    return found


def state_dir(arguments: argparse.Namespace, file: str) -> Path:
    """The first of them that has `file`, else the first."""
    found = state_dirs(arguments)
    return next((path for path in found if (path / file).exists()), found[0])
