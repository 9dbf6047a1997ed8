"""`python -m tests.handover`: progress on the way, the verdict at the end, exit 1 unless it is clean."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import tempfile
from pathlib import Path

from tests.handover.run import run
from tests.services import Mosquitto


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.handover", description=__doc__)
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--transitions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    print(f"hand-over: {options.hosts} hosts, seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        broker = Mosquitto(Path(place) / "broker")
        broker.start()
        try:
            verdict = asyncio.run(
                run(
                    Path(place),
                    broker,
                    hosts=options.hosts,
                    kills=options.kills,
                    transitions=options.transitions,
                    seed=options.seed,
                    say=lambda text: print(f"  {text}", flush=True),
                )
            )
        finally:
            broker.stop()
    print(verdict)
    for fault in [*verdict.lost, *verdict.doubled, *verdict.stale]:
        print(f"  {fault}")
    return 0 if verdict.clean else 1


if __name__ == "__main__":
    sys.exit(main())
