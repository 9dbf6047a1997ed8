"""`tocsin collect`: the collector."""

from __future__ import annotations

import argparse
import os

from agent.errors import EXIT_OK


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "exit codes: 0 stopped as asked; 1 failed; 69 its port is taken; 78 the configuration is faulty"


def main(arguments: argparse.Namespace) -> int:
    from agent import log  # noqa: PLC0415
    from agent.cli.extra import needs  # noqa: PLC0415
    from agent.config.load import load  # noqa: PLC0415

    log.setup()
    os.umask(0o077)  # what hosts have sent is not for every user of this machine to read
    config = load(arguments.config)
    with needs("collector"):
        from agent.collector.service import collect  # noqa: PLC0415

    collect(config)
    return EXIT_OK
