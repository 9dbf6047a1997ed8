"""`tocsin thresholds explain | test`: why a rule judges as it does, and what it would have done."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import EXIT_FAILED, EXIT_OK, UsageError

if TYPE_CHECKING:
    from agent.alerting.replay import Verdict
    from agent.cli.api import Api
    from agent.config.schema import Config, ThresholdConfig
    from agent.model import Incident

SHOWN = 20
_EXITS = "exit codes: 0 done; 1 refused; 2 wrong usage; 69 no {} answers; 78 faulty configuration"


def add(parser: argparse.ArgumentParser) -> None:
    from agent.cli.api import add_options  # noqa: PLC0415
    from agent.cli.place import add_options as add_place  # noqa: PLC0415

    actions = parser.add_subparsers(dest="action", required=True, metavar="explain | test")
    told = argparse.RawDescriptionHelpFormatter
    explain = actions.add_parser(
        "explain", help="why a rule of the daemon on this machine judges as it does", formatter_class=told
    )
    explain.add_argument("name", metavar="NAME", help="a threshold's name")
    add_place(explain)
    explain.epilog = _EXITS.format("daemon")
    test = actions.add_parser(
        "test", help="what the rules of agent.toml would have done with stored samples", formatter_class=told
    )
    test.add_argument("names", nargs="*", metavar="NAME", help="these thresholds only")
    test.add_argument("--last", default="7d", metavar="TIME", help="how far back (default 7d)")
    test.add_argument("--host", default="", metavar="HOST", help="of this host only (default: of all)")
    test.add_argument("--json", action="store_true", help="as JSON")
    add_options(test)
    for action in (explain, test):
        action.add_argument(
            "-c", "--config", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="agent.toml to use"
        )
    test.epilog = (
        "It reads raw samples from the collector; how long they are kept says [collector.retention].\n"
        "MESSAGES counts posts and thread replies, EDITS what changes a message without a word to anybody, both\n"
        "without reminders and storms. That rules fire is no failure: see --json.\n\n" + _EXITS.format("collector")
    )
    parser.epilog = _EXITS.format("collector, or no daemon,")


def main(arguments: argparse.Namespace) -> int:
    return _explain(arguments) if arguments.action == "explain" else _test(arguments)


def _explain(arguments: argparse.Namespace) -> int:
    from agent.cli.place import state_dir  # noqa: PLC0415
    from agent.cli.table import clean  # noqa: PLC0415
    from agent.commands.client import ask  # noqa: PLC0415
    from agent.commands.control import NAME  # noqa: PLC0415

    reply = ask(state_dir(arguments, NAME), "explain", {"threshold": arguments.name})
    print("\n".join(map(clean, reply.text.splitlines())))
    return EXIT_OK if reply.state == "done" and reply.data.get("ok") is True else EXIT_FAILED


def _test(arguments: argparse.Namespace) -> int:
    from agent.cli.api import Api  # noqa: PLC0415
    from agent.config.load import load  # noqa: PLC0415

    config, api = load(arguments.config), Api.of(arguments)
    names = [rule.name for rule in _chosen(config, arguments.names)]
    until = time.time()
    since = until - _seconds(arguments.last)
    hosts = [arguments.host] if arguments.host else [entry["host"] for entry in api.get("hosts")["hosts"]]
    with _quiet():
        told = {host: _replayed(api, config, host, names, (since, until)) for host in hosts}
    if arguments.json:
        print(json.dumps({host: [_json(verdict) for verdict in verdicts] for host, verdicts in told.items()}, indent=2))
    else:
        _print(told)
    return EXIT_OK


def _chosen(config: Config, names: Sequence[str]) -> list[ThresholdConfig]:
    known = [rule for rule in config.thresholds if rule.enabled]
    unknown = sorted(set(names) - {rule.name for rule in known})
    if unknown:
        raise UsageError(f"no threshold is named {unknown[0]!r}; there are: {', '.join(rule.name for rule in known)}")
    return [rule for rule in known if not names or rule.name in names]


def _seconds(text: str) -> float:
    from agent.config.units import Duration  # noqa: PLC0415

    try:
        return float(Duration.parse(text))
    except ValueError as error:
        raise UsageError(f"--last {text}: {error}") from error


def _with_causes(config: Config, names: Sequence[str]) -> list[ThresholdConfig]:
    """The rules of these names, and those that may mute them."""
    wanted, more = set[str](), set(names)
    while more:
        wanted |= more
        more = {cause for rule in config.thresholds if rule.name in wanted for cause in rule.depends_on} - wanted
    return [rule for rule in config.thresholds if rule.enabled and rule.name in wanted]


def _replayed(api: Api, config: Config, host: str, names: Sequence[str], span: tuple[float, float]) -> list[Verdict]:
    """What is wrong with a rule, and which metric has no sample, is told at once."""
    from agent.alerting.replay import judge, replay  # noqa: PLC0415
    from agent.cli.recording import Recording  # noqa: PLC0415

    (since, until), rules = span, _with_causes(config, names)
    recording = Recording(api, host, [rule.metric for rule in rules], float(config.agent.interval))
    results = recording.results(since, until, lambda at: _progress(host, at, since, until))
    pairs, faults = replay(rules, config.maintenance, host, results, until=until)
    _clear()
    missing = sorted({rule.metric for rule in rules} - recording.found)
    for line in [*faults, *([f"no sample of {', '.join(missing)}"] if missing else [])]:
        print(f"{host}: {line}", file=sys.stderr)
    return judge(pairs, names)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What the engine logs is about now, and would be taken for it."""
    log = logging.getLogger("agent")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def _progress(host: str, at: float, since: float, until: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{host}: {100 * (at - since) / (until - since):3.0f} %", end="", file=sys.stderr, flush=True)


def _clear() -> None:
    if sys.stderr.isatty():
        print("\r" + " " * 80 + "\r", end="", file=sys.stderr, flush=True)


def _print(told: dict[str, list[Verdict]]) -> None:
    from agent.cli.table import table  # noqa: PLC0415

    rows = [
        (host, v.rule, str(len(v.incidents)), str(v.peak), str(v.messages), str(v.edits), str(v.flapped))
        for host, verdicts in told.items()
        for v in verdicts
    ]
    print(table(("HOST", "THRESHOLD", "INCIDENTS", "WORST", "MESSAGES", "EDITS", "FLAPPED"), rows))
    incidents = [(host, i) for host, verdicts in told.items() for v in verdicts for i in v.incidents.values()]
    incidents.sort(key=lambda pair: pair[1].fired_at)
    if incidents:
        print()
        print(
            table(
                ("OPENED", "HOST", "THRESHOLD", "WORST", "LASTED", "WHERE"),
                [_row(*pair) for pair in incidents[-SHOWN:]],
            )
        )
    if len(incidents) > SHOWN:
        print(f"the last {SHOWN} of {len(incidents)}; --json has them all")


def _row(host: str, incident: Incident) -> tuple[str, ...]:
    from agent.alerting.figure import duration  # noqa: PLC0415

    opened = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(incident.fired_at))
    ended = incident.resolved_at
    lasted = "open still" if ended is None else duration(ended - incident.started_at)
    where = " ".join(f"{name}={text}" for name, text in sorted(incident.labels.items())) or "-"
    return opened, host, incident.threshold, str(incident.peak), lasted, where


def _json(verdict: Verdict) -> dict[str, Any]:
    import msgspec  # noqa: PLC0415

    return {
        "threshold": verdict.rule,
        "messages": verdict.messages,
        "edits": verdict.edits,
        "flapped": verdict.flapped,
        "incidents": [msgspec.to_builtins(incident) for incident in verdict.incidents.values()],
    }
