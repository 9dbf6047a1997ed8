"""`python -m agent` is `tocsin`."""

from __future__ import annotations

import sys


def main() -> int:
    from agent.cli import main as cli  # noqa: PLC0415 - so that the module itself can be imported for nothing

    return cli(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
