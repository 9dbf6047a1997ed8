"""`tocsin slack manifest | check`: make the app, and see that all of it is there."""

from __future__ import annotations

import argparse
import json

from agent.cli.place import add_config
from agent.errors import EXIT_FAILED, EXIT_OK, UsageError

_SIGNS = {"ok": "ok    ", "note": "note  ", "fault": "FAULT "}


def add(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    manifest = actions.add_parser("manifest", help="print the manifest to create the Slack app from")
    manifest.add_argument("--mode", choices=["socket", "http"], help="default: as in agent.toml")
    manifest.add_argument("--url", default="", metavar="URL", help="where Slack reaches the collector (HTTP mode)")
    manifest.add_argument("--name", default="Tocsin", help="of the app and its bot (default: Tocsin)")
    manifest.add_argument("--format", choices=["yaml", "json"], default="yaml", help="default: yaml")
    check = actions.add_parser("check", help="test tokens, scopes and channels; say what is missing and where to click")
    for action in (manifest, check):
        add_config(action)
    parser.epilog = "exit codes: 0 all is there; 1 something is missing; 2 wrong usage; 78 the configuration is faulty"


def main(arguments: argparse.Namespace) -> int:
    return _manifest(arguments) if arguments.action == "manifest" else _check(arguments)


def _manifest(arguments: argparse.Namespace) -> int:
    from agent.config.load import usable  # noqa: PLC0415
    from agent.slack.manifest import as_yaml, manifest  # noqa: PLC0415

    mode = arguments.mode or usable(arguments.config).slack.mode
    try:
        made = manifest(mode, arguments.url, arguments.name)
    except ValueError as error:
        raise UsageError(str(error)) from None
    print(as_yaml(made) if arguments.format == "yaml" else json.dumps(made, indent=2))
    return EXIT_OK


def _check(arguments: argparse.Namespace) -> int:
    from agent.config.load import load  # noqa: PLC0415
    from agent.slack.check import findings  # noqa: PLC0415

    config = load(arguments.config)
    faults = 0
    for finding in findings(config.slack, bool(config.commands.grants)):
        print(f"{_SIGNS[finding.state]}{finding.text}", flush=True)
        if finding.hint:
            print(f"      {finding.hint}")
        faults += finding.state == "fault"
    print("all is there: `tocsin alert test` sends a first alert" if not faults else f"{faults} to put right")
    return EXIT_FAILED if faults else EXIT_OK
