"""`make bench`: footprint, latency from sample to Slack, and ingest, each beside its floor; all in one run.

python -m benchmarks [--quick] [footprint] [latency] [ingest]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import footprint, ingest, latency
from tests.services import Mosquitto

PEERS, HOST = Path(".dev/peers"), Path(".dev/host")
PARTS = ("footprint", "latency", "ingest")


def peers() -> Path:
    """glances and psmqtt in an environment of their own, so that no agent carries another's packages."""
    return environment(PEERS, "psmqtt", "glances", "psmqtt", "paho-mqtt", "certifi")


def host() -> Path:
    """This tree as a host has it: without the collector's packages, some of which others load where they find them."""
    return environment(HOST, "tocsin", "-e", str(Path(__file__).parent.parent))


def environment(place: Path, program: str, *packages: str) -> Path:
    if not (place / "bin" / program).exists():
        print(f"installing into {place} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *packages], check=True)
    return place.resolve()


def run_footprint(directory: Path, quick: bool) -> None:
    for interval in (10.0, 1.0):
        place = directory / f"footprint-{interval:g}"
        place.mkdir()
        broker = Mosquitto(place / "broker")
        broker.start()
        try:
            made = footprint.measure(
                place,
                broker.port,
                interval,
                settle=5 if quick else 20,
                seconds=20 if quick else 120,
                peers=peers(),
                host=host(),
            )
        finally:
            broker.stop()
        print(footprint.table(made, interval), flush=True)
        print()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="shorter, and noisier")
    options = parser.parse_args()
    chosen = options.parts or PARTS
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="tocsin-bench-") as top:
        directory = Path(top)
        if "footprint" in chosen:
            run_footprint(directory, options.quick)
        if "latency" in chosen:
            print(latency.table(latency.measure(directory / "latency", 20 if options.quick else 100)), flush=True)
            print()
        if "ingest" in chosen:
            place = directory / "ingest"
            place.mkdir()
            print(ingest.table(ingest.measure(place, 2_000 if options.quick else 8_000)), flush=True)


if __name__ == "__main__":
    main()
