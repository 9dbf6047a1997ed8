"""`tocsin probes`: what is configured, and what could be."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from agent.errors import EXIT_OK, PluginError

if TYPE_CHECKING:
    from agent.probing.loader import Registry


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Each available probe has its options and metrics in its README."


def main(arguments: argparse.Namespace) -> int:
    from agent.cli.table import table  # noqa: PLC0415
    from agent.daemon.setup import prepare  # noqa: PLC0415

    setup = prepare(arguments.config)
    rows = []
    for planned in setup.planned:
        config = setup.config.probes[planned.name]
        every = planned.cron or f"{planned.interval:g} s"
        rows.append((planned.name, config.plugin or planned.name, every, f"{planned.timeout:g} s"))
    print(table(("PROBE", "PLUGIN", "EVERY", "DEADLINE"), rows) if rows else "no probe is configured")
    print()
    print(
        table(
            ("AVAILABLE", "WHAT IT MEASURES"), [(name, _what(setup.registry, name)) for name in setup.registry.names()]
        )
    )
    return EXIT_OK


def _what(registry: Registry, name: str) -> str:
    """The first line of the plugin's own words."""
    try:
        probe = registry.load(name)
    except PluginError as error:
        return f"cannot be loaded: {error}"
    words = (sys.modules[probe.__module__].__doc__ or probe.__doc__ or "").strip()
    return words.partition("\n")[0]
