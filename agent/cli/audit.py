"""`tocsin audit`: who asked this host for what, and what became of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import EXIT_FAILED, EXIT_OK, TocsinError, UnavailableError

if TYPE_CHECKING:
    from agent.commands.journal import Entry


def add(parser: argparse.ArgumentParser) -> None:
    from agent.cli.api import add_options as add_collector  # noqa: PLC0415
    from agent.cli.place import add_options  # noqa: PLC0415

    parser.add_argument("--collector", action="store_true", help="what was asked of the collector, from Slack and HTTP")
    add_collector(parser)
    parser.add_argument("--verify", action="store_true", help="check that every line is there and as it was written")
    parser.add_argument("-n", type=int, default=50, metavar="N", help="the last N lines (default: 50; 0: all)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    add_options(parser)
    parser.epilog = (
        "Each line has the hash of the one before it. Who can write the file can still cut off its end, or write all\n"
        "of it anew: keep the hash that --verify prints somewhere else, and compare.\n\n"
        "exit codes: 0 it is whole; 1 it was changed; 69 there is none"
    )


def main(arguments: argparse.Namespace) -> int:
    if arguments.collector:
        return _of_collector(arguments)
    import sqlite3  # noqa: PLC0415

    from agent.cli.place import state_dir  # noqa: PLC0415
    from agent.commands.journal import FILE  # noqa: PLC0415

    path = state_dir(arguments, FILE) / FILE
    if not path.exists():
        raise UnavailableError(f"no audit here: {path} is not there; nothing was asked of this host yet")
    try:
        return _verify(path) if arguments.verify else _list(path, arguments.n, as_json=arguments.json)
    except sqlite3.Error as error:
        raise TocsinError(f"{path}: {error}") from error


def _of_collector(arguments: argparse.Namespace) -> int:
    import json  # noqa: PLC0415

    from agent.alerting.figure import counted  # noqa: PLC0415
    from agent.cli.api import Api  # noqa: PLC0415
    from agent.cli.table import table  # noqa: PLC0415

    verify = "1" if arguments.verify else ""
    answer = Api.of(arguments).get("audit", limit=str(min(500, arguments.n or 500)), verify=verify)
    if arguments.verify:
        broken = [chain for chain in answer["chains"] if chain["broken"]]
        for chain in answer["chains"]:
            how = f"changed at line {chain['broken']}: {chain['why']}" if chain["broken"] else "ok"
            print(f"{chain['chain']}: {how}; {counted(chain['rows'], 'line')}, the last one's hash is {chain['head']}")
        return EXIT_FAILED if broken else EXIT_OK
    if arguments.json:
        for line in answer["audit"]:
            print(json.dumps(line))
    else:
        rows = [_collector_row(line) for line in reversed(answer["audit"])]
        print(table(("TIME", "OUTCOME", "WHO", "BY", "WHERE", "WHAT", "WHY"), rows))
    return EXIT_OK


def _collector_row(line: dict[str, Any]) -> tuple[str, ...]:
    from datetime import UTC, datetime  # noqa: PLC0415

    at = datetime.fromtimestamp(line["time"], UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    hosts = line["hosts"]
    where = ",".join(hosts[:3]) + (f" +{len(hosts) - 3}" if len(hosts) > 3 else "") or "-"
    return at, line["outcome"], line["actor"], line["source"], where, line["text"][:100], line["detail"][:100]


def _verify(path: Path) -> int:
    from agent.alerting.figure import counted  # noqa: PLC0415
    from agent.commands.journal import verify  # noqa: PLC0415

    count, digest, fault = verify(path)
    if fault:
        print(f"changed: {fault} ({path})")
        return EXIT_FAILED
    print(f"ok: {counted(count, 'line')}, the last one's hash is {digest.hex()}")
    return EXIT_OK


def _list(path: Path, count: int, *, as_json: bool) -> int:
    from collections import deque  # noqa: PLC0415

    import msgspec  # noqa: PLC0415

    from agent.cli.table import table  # noqa: PLC0415
    from agent.commands.journal import entries  # noqa: PLC0415

    last = deque(entries(path), maxlen=count or None)
    if as_json:
        for number, entry, digest in last:
            print(msgspec.json.encode({"line": number, "hash": digest.hex(), **msgspec.to_builtins(entry)}).decode())
    else:
        print(table(("TIME", "OUTCOME", "WHO", "BY", "WHAT", "WHY"), [_row(entry) for _, entry, _ in last]))
    return EXIT_OK


def _row(entry: Entry) -> tuple[str, ...]:
    from datetime import UTC, datetime  # noqa: PLC0415

    at = datetime.fromtimestamp(entry.time, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    words = [entry.verb, *(f"{key}={value}" for key, value in entry.args.items())]
    why = f"{entry.reason}: {entry.text}" if entry.reason else entry.text.partition("\n")[0]
    return at, entry.outcome, entry.actor, entry.origin, " ".join(words), why[:100]
