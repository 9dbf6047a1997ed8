"""`python -m agent` is `tocsin`."""

from __future__ import annotations

import os
import signal
import sys

SERVICES = {"run", "up", "collect"}
"""Commands that run until SIGTERM."""


def main() -> int:
    if _command(sys.argv[1:]) in SERVICES:
        # Asked to stop while modules are still loaded, before there is a loop that could hear it: nothing is begun yet.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    from agent.cli import main as cli  # noqa: PLC0415 - so that the module itself can be imported for nothing

    return cli(sys.argv[1:])


def _command(arguments: list[str]) -> str:
    """The first word that is neither an option nor the file of one; argparse is not loaded to find it."""
    before = ["", *arguments]
    words = (w for w, last in zip(arguments, before, strict=False) if last not in ("-c", "--config"))
    return next((word for word in words if not word.startswith("-")), "")


if __name__ == "__main__":
    sys.exit(main())
