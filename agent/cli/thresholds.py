"""`tocsin thresholds explain | test`: why a rule judges as it does, and what it would have said of the past."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from agent.errors import EXIT_FAILED, EXIT_OK, CommandError, UsageError

if TYPE_CHECKING:
    from agent.alerting.replay import Firing, Replay
    from agent.cli.api import Api
    from agent.config.schema import Config, ThresholdConfig

SHOWN = 50
"""Firings that the table lists; the rest is counted."""


def add(parser: argparse.ArgumentParser) -> None:
    from agent.cli import api, place  # noqa: PLC0415

    raw = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    explain = actions.add_parser(
        "explain", help="what the running daemon found the last time, series by series", formatter_class=raw
    )
    explain.add_argument("name", metavar="NAME", help="the name of a threshold")
    place.add_options(explain)
    test = actions.add_parser("test", help="play stored samples through the rules of agent.toml", formatter_class=raw)
    test.add_argument("names", nargs="*", metavar="NAME", help="these thresholds only (default: all that are on)")
    test.add_argument("--last", default="7d", metavar="TIME", help="how far back (default 7d); samples are kept for 3d")
    test.add_argument("--host", default="", metavar="HOST", help="of this host only (default: all)")
    test.add_argument("--json", action="store_true", help="one JSON object with everything")
    api.add_options(test)
    for action in (explain, test):
        place.add_config(action)
    exits = "exit codes: 0 answered; 1 refused; 2 wrong usage; 69 no daemon or collector answers; 78 faulty rules"
    parser.epilog = explain.epilog = exits
    test.epilog = "That a rule would have fired is no failure; --json says it to scripts.\n\n" + exits


def main(arguments: argparse.Namespace) -> int:
    return _explain(arguments) if arguments.action == "explain" else _test(arguments)


def _explain(arguments: argparse.Namespace) -> int:
    from agent.cli.place import state_dir  # noqa: PLC0415
    from agent.cli.table import clean  # noqa: PLC0415
    from agent.commands.client import ask  # noqa: PLC0415
    from agent.commands.control import NAME  # noqa: PLC0415
    from agent.commands.verbs import parse  # noqa: PLC0415

    try:
        args = parse("explain", [arguments.name])
    except CommandError as error:
        raise UsageError(error.detail) from error
    reply = ask(state_dir(arguments, NAME), "explain", args)
    well = reply.state == "done" and reply.data.get("ok") is True
    found = reply.data.get("lines")
    lines = [str(line) for line in found] if well and isinstance(found, list) else reply.text.splitlines()
    print("\n".join(map(clean, lines)))
    return EXIT_OK if well else EXIT_FAILED


# -- the past


def _test(arguments: argparse.Namespace) -> int:
    from agent.cli.api import Api  # noqa: PLC0415
    from agent.config.load import load  # noqa: PLC0415
    from agent.config.units import Duration  # noqa: PLC0415

    config = load(arguments.config)
    try:
        last = float(Duration.parse(arguments.last))
    except ValueError as error:
        raise UsageError(f"--last: {error}") from None
    rules = _chosen(config, arguments.names)
    api, end = Api.of(arguments), time.time()
    logging.getLogger("agent").setLevel(logging.CRITICAL)  # each transition is a line in the daemon's log
    hosts = [arguments.host] if arguments.host else [str(host["host"]) for host in api.get("hosts")["hosts"]]
    replays = [_replay(api, host, config, rules, end - last, end) for host in hosts]
    if arguments.json:
        import json  # noqa: PLC0415

        print(json.dumps({"from": end - last, "to": end, "hosts": [_data(replay) for replay in replays]}, indent=2))
    else:
        print("\n".join(_lines(replays, rules)))
    return EXIT_OK


def _chosen(config: Config, names: list[str]) -> list[ThresholdConfig]:
    rules = [rule for rule in config.thresholds if rule.enabled]
    unknown = sorted(set(names) - {rule.name for rule in rules})
    if unknown:
        raise UsageError(f"no threshold {unknown[0]!r} is on; there are {', '.join(rule.name for rule in rules)}")
    return [rule for rule in rules if not names or rule.name in names]


def _replay(  # noqa: PLR0917 - all of it says what is replayed
    api: Api, host: str, config: Config, rules: list[ThresholdConfig], start: float, end: float
) -> Replay:
    """Together with the rules that may hold these back; what those would have said is not told.

    It begins with the first sample that is still stored: what went before is not known to have been silent.
    """
    from agent.alerting.replay import Replay  # noqa: PLC0415
    from agent.cli.samples import pages  # noqa: PLC0415

    asked = {rule.name for rule in rules}
    rules = _with_causes(config, asked)
    replay: Replay | None = None
    for until, page in pages(api, host, sorted({rule.metric for rule in rules}), start, end):
        times = [time for recorded in page for time, _ in recorded.points]
        if replay is None and times:
            replay = Replay(host, rules, min(times), config.maintenance, config.slack)
        if replay is not None:
            replay.feed(page, until)
    replay = replay or Replay(host, rules, start, config.maintenance, config.slack)
    replay.end(end)
    replay.firings = {key: one for key, one in replay.firings.items() if one.incident.threshold in asked}
    return replay


def _with_causes(config: Config, names: set[str]) -> list[ThresholdConfig]:
    wanted, more = set[str](), names
    while more:
        wanted |= more
        more = {cause for rule in config.thresholds if rule.name in wanted for cause in rule.depends_on} - wanted
    return [rule for rule in config.thresholds if rule.enabled and rule.name in wanted]


def _lines(replays: list[Replay], rules: list[ThresholdConfig]) -> Iterator[str]:
    from agent.alerting.figure import counted  # noqa: PLC0415
    from agent.cli.table import clean, table  # noqa: PLC0415

    for replay in replays:
        yield from (clean(f"fault: {fault}") for fault in replay.faults())
    rows = [row for replay in replays for row in _sums(replay, rules)]
    yield table(("THRESHOLD", "HOST", "FIRED", "FLAPPED", "MESSAGES", "EDITS", "OPEN FOR", "WORST"), rows)
    firings = [(replay, firing) for replay in replays for firing in replay.firings.values()]
    if firings:
        yield ""
        head = ("FIRED", "LASTED", "HOST", "THRESHOLD", "WORST", "VALUE", "MESSAGES", "WHERE")
        yield table(head, [_row(replay, firing) for replay, firing in firings[:SHOWN]])
    if len(firings) > SHOWN:
        yield f"… and {len(firings) - SHOWN} more; --json has them all"
    samples = sum(replay.samples for replay in replays)
    yield ""
    played = f"{counted(samples, 'sample')} of {counted(len(replays), 'host')}"
    yield f"{played}; messages as if nobody acknowledged, storms not joined"


def _sums(replay: Replay, rules: list[ThresholdConfig]) -> Iterator[tuple[str, ...]]:
    from agent.alerting.figure import duration  # noqa: PLC0415

    for rule in rules:
        found = [firing for firing in replay.firings.values() if firing.incident.threshold == rule.name]
        worst = max((firing.incident.peak for firing in found), key=lambda severity: severity.rank, default="-")
        counts = [len(found)]
        counts += [sum(getattr(firing, key) for firing in found) for key in ("flapped", "messages", "edits")]
        lasted = duration(sum(_lasted(replay, firing) for firing in found)) if found else "-"
        yield (rule.name, replay.host, *map(str, counts), lasted, str(worst))


def _row(replay: Replay, firing: Firing) -> tuple[str, ...]:
    from agent.alerting.figure import duration, standing  # noqa: PLC0415

    incident = firing.incident
    lasted = duration(_lasted(replay, firing)) + ("" if incident.state == "resolved" else ", open")
    return (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(incident.fired_at)),
        lasted,
        incident.host,
        incident.threshold,
        str(incident.peak),
        standing(incident.peak_value, incident.unit, incident.op) or "-",
        str(firing.messages),
        ", ".join(f"{name}={text}" for name, text in sorted(incident.labels.items())) or "-",
    )


def _data(replay: Replay) -> dict[str, Any]:
    import msgspec  # noqa: PLC0415

    return {
        "host": replay.host,
        "samples": replay.samples,
        "faults": replay.faults(),
        "firings": [
            {
                "incident": msgspec.to_builtins(msgspec.structs.asdict(firing.incident)),
                "flapped": firing.flapped,
                "messages": firing.messages,
                "edits": firing.edits,
                "seconds": _lasted(replay, firing),
            }
            for firing in replay.firings.values()
        ],
    }


def _lasted(replay: Replay, firing: Firing) -> float:
    resolved = firing.incident.resolved_at
    return (replay.now if resolved is None else resolved) - firing.incident.fired_at
