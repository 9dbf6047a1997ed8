"""`tocsin run`: the agent."""

from __future__ import annotations

import sys
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
    _load_msgspec()
    from agent.daemon.main import main as daemon  # noqa: PLC0415

    return daemon(path)


def _load_msgspec() -> None:
    """Without typing_extensions, which it takes where the collector's packages have brought it, and does not need."""
    name = "typing_extensions"
    if name in sys.modules:
        return
    sys.modules[name] = None  # type: ignore[assignment] # as if it were not installed
    try:
        import msgspec  # noqa: F401, PLC0415
    finally:
        del sys.modules[name]
