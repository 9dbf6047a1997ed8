"""`tocsin probe NAME`: one probe, now, without daemon, spool or broker."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from agent.errors import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from agent.model import Metric, ProbeResult
    from agent.probing.plan import PlannedProbe

APART = 1.0
"""Seconds between the two runs from which rates are made."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a probe of agent.toml, or any available plugin")
    parser.add_argument("--json", action="store_true", help="one JSON object: the result as it would be shipped")
    parser.add_argument("--once", action="store_true", help="do not wait a second for rates")
    parser.epilog = (
        "The probe runs twice, a second apart, so that rates are there.\n\n"
        "exit codes: 0 it measured; 1 it failed; 78 it is not known or not configured well"
    )


def main(arguments: argparse.Namespace) -> int:
    from agent.daemon.setup import prepare  # noqa: PLC0415

    setup = prepare(arguments.config)
    result = asyncio.run(_measure(setup.probe(arguments.name), once=arguments.once))
    if arguments.json:
        _print_json(result)
    else:
        _print_table(result)
    return EXIT_OK if result.status == "ok" else EXIT_FAILED


async def _measure(planned: PlannedProbe, *, once: bool) -> ProbeResult:
    from agent.clock import SystemClock  # noqa: PLC0415
    from agent.probing.runner import Runner  # noqa: PLC0415

    runner = Runner(planned, SystemClock())
    try:
        result = await runner.run()
        if result.status == "ok" and not once:
            await asyncio.sleep(APART)
            result = await runner.run()
        return result
    finally:
        await runner.aclose()


def _print_json(result: ProbeResult) -> None:
    import msgspec  # noqa: PLC0415

    print(msgspec.json.encode(result).decode())


def _print_table(result: ProbeResult) -> None:
    from agent.alerting.figure import figure  # noqa: PLC0415
    from agent.cli.table import table  # noqa: PLC0415

    rows = [(metric.name, figure(metric.value, metric.unit), _labels(metric)) for metric in result.metrics]
    print(table(("METRIC", "VALUE", "LABELS"), rows))
    print(f"\n{result.probe}: {result.status} in {figure(result.duration, 'seconds')}", end="")
    print(f": {result.error}" if result.error else "")


def _labels(metric: Metric) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(metric.labels.items()))
