"""`tocsin incidents`: what is wrong, and what was."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from agent.errors import EXIT_OK


def add(parser: argparse.ArgumentParser) -> None:
    from agent.cli.api import add_options  # noqa: PLC0415

    parser.add_argument("--host", default="", metavar="HOST", help="of this host only")
    parser.add_argument("--all", action="store_true", help="the resolved ones, too")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="the newest N (default 50)")
    parser.add_argument("--json", action="store_true", help="as the API gives them")
    add_options(parser)
    parser.epilog = "exit codes: 0 answered, whether or not there are any; 1 refused; 69 no collector answers"


def main(arguments: argparse.Namespace) -> int:
    from agent.cli.api import Api  # noqa: PLC0415

    state = "" if arguments.all else "open"
    answer = Api.of(arguments).get("incidents", host=arguments.host, state=state, limit=str(arguments.limit))
    if arguments.json:
        print(json.dumps(answer["incidents"], indent=2))
    else:
        _print_table(answer["incidents"], open_only=not arguments.all)
    return EXIT_OK


def _print_table(incidents: list[dict[str, Any]], *, open_only: bool) -> None:
    from agent.cli.table import table  # noqa: PLC0415

    if not incidents:
        print("no open incident" if open_only else "no incident")
        return
    head = ("SINCE", "HOST", "SEVERITY", "STATE", "THRESHOLD", "VALUE", "SLACK", "ID", "WHERE")
    print(table(head, [_row(incident) for incident in incidents]))


def _state(incident: dict[str, Any]) -> str:
    """Why nobody may be told of an open one, and whether somebody has it."""
    words = {
        "acknowledged": incident.get("acknowledged_by"),
        "muted": incident.get("muted"),
        "flapping": incident.get("flapping"),
    }
    found = [word for word, holds in words.items() if holds and incident["state"] == "open"]
    return ", ".join(found) or str(incident["state"])


def _delivery(delivery: dict[str, Any]) -> str:
    state = str(delivery.get("state", "-"))
    return "printed" if state == "delivered" and delivery.get("channel") == "terminal" else state


def _row(incident: dict[str, Any]) -> tuple[str, ...]:
    from agent.alerting.figure import standing  # noqa: PLC0415

    value, unit = incident.get("value"), str(incident.get("unit", ""))
    delivery = incident.get("delivery") or {}
    return (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(incident["fired_at"])),
        str(incident["host"]),
        str(incident["severity"]),
        _state(incident),
        str(incident["threshold"]),
        standing(value, unit, str(incident.get("op", ""))) or "-",
        _delivery(delivery),
        str(incident["id"]),
        " ".join(f"{key}={value}" for key, value in sorted((incident.get("labels") or {}).items())) or "-",
    )
