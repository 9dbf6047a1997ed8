"""`tocsin run`: the agent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse  # `tocsin run` goes past the parser, and the daemon does not carry it


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "SIGHUP reads the configuration anew; SIGTERM stops it, with everything it has on disk.\n\n"
        "exit codes: 0 stopped as asked; 1 failed; 69 no state directory can be made; 78 the configuration is faulty"
    )


def main(arguments: argparse.Namespace) -> int:
    return _run(arguments.config)


def start(path: str | None) -> int:
    return _run(None if path is None else Path(path))


def _run(path: Path | None) -> int:
    from agent.daemon.main import main as daemon  # noqa: PLC0415

    return daemon(path)
