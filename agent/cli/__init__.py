"""The tocsin command: the third border at which anything unexpected is caught.

Every command is a module here with `add(parser)` and `main(arguments) -> exit code`, imported only when it
is the one that was asked for; what it needs is imported when it runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from agent.errors import EXIT_FAILED, EXIT_OK, ConfigError, TocsinError

EXIT_INTERRUPTED = 130
DEBUG = "TOCSIN_DEBUG"


def main(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code. A traceback is shown only to who asked for one."""
    try:
        return _run(list(arguments))
    except TocsinError as error:
        print(error if isinstance(error, ConfigError) else f"tocsin: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `tocsin … | head`: who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_OK
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        print(f"tocsin: {type(error).__name__}: {error}", file=sys.stderr)
        print(f"tocsin: this is a fault in tocsin; run with {DEBUG}=1 for the traceback", file=sys.stderr)
        return EXIT_FAILED


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["run"] and (
        len(arguments) == 1 or (len(arguments) == 3 and arguments[1] in ("-c", "--config"))
    ):
        from agent.cli import run  # noqa: PLC0415 - the daemon, as its unit starts it, stays free of argparse

        return run.start(arguments[2] if len(arguments) == 3 else None)
    from agent.cli.parser import parse  # noqa: PLC0415 - see above

    parsed = parse(arguments)
    return int(parsed.main(parsed))
