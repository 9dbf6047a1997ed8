"""`python -m agent` is `tocsin`."""

from __future__ import annotations

import os
import signal
import sys

SERVICES = {"run", "up", "collect"}
"""Commands that run until SIGTERM."""


def main() -> int:
    if SERVICES.intersection(sys.argv):
        # Asked to stop while modules are still loaded, before there is a loop that could hear it: nothing is begun yet.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    from agent.cli import main as cli  # noqa: PLC0415 - so that the module itself can be imported for nothing

    return cli(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
