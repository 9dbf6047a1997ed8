"""`tocsin thresholds explain | test`: why a rule judges as it does, and what it would have done."""

from __future__ import annotations

import argparse
import json
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
    from agent.model import Incident, Metric

PAGE = 3600.0
"""Seconds of samples in one request: a series of one sample a second is not thinned in that."""
SHOWN = 20


def add(parser: argparse.ArgumentParser) -> None:
    from agent.cli.api import add_options  # noqa: PLC0415
    from agent.cli.place import add_options as add_place  # noqa: PLC0415

    actions = parser.add_subparsers(dest="action", required=True, metavar="explain | test")
    explain = actions.add_parser("explain", help="why a rule of the daemon on this machine judges as it does")
    explain.add_argument("name", metavar="NAME", help="a threshold's name")
    add_place(explain)
    test = actions.add_parser("test", help="what the rules of agent.toml would have done with stored samples")
    test.add_argument("names", nargs="*", metavar="NAME", help="these thresholds only")
    test.add_argument("--last", default="7d", metavar="TIME", help="how far back (default 7d)")
    test.add_argument("--host", default="", metavar="HOST", help="of this host only (default: of all)")
    test.add_argument("--json", action="store_true", help="as JSON")
    add_options(test)
    for action in (explain, test):
        action.add_argument(
            "-c", "--config", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="agent.toml to use"
        )
    parser.epilog = (
        "test reads raw samples from the collector; how long they are kept says [collector.retention].\n"
        "messages counts posts and thread replies, edits what changes a message without a word to anybody.\n\n"
        "exit codes: 0 done; 1 refused; 2 wrong usage; 69 no collector or no daemon answers; 78 faulty configuration"
    )


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
    from agent.alerting.replay import judge, replay  # noqa: PLC0415
    from agent.cli.api import Api  # noqa: PLC0415
    from agent.config.load import load  # noqa: PLC0415

    config, api = load(arguments.config), Api.of(arguments)
    rules = _chosen(config, arguments.names)
    until = time.time()
    since = until - _seconds(arguments.last)
    hosts = [arguments.host] if arguments.host else [entry["host"] for entry in api.get("hosts")["hosts"]]
    interval, told = float(config.agent.interval), {}
    for host in hosts:
        results = _results(api, host, rules, since, until)
        pairs = replay(rules, config.maintenance, host, results, interval=interval, until=until)
        told[host] = judge(pairs, [rule.name for rule in rules])
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


def _results(
    api: Api, host: str, rules: Sequence[ThresholdConfig], since: float, until: float
) -> Iterator[tuple[float, list[Metric]]]:
    """Page by page, what a probe brought at one moment together; the API is asked for the rules' metrics alone."""
    from agent.model import Metric  # noqa: PLC0415

    names, start = sorted({rule.metric for rule in rules}), since
    while start < until:
        end = min(until, start + PAGE)
        moments: dict[float, list[Metric]] = {}
        span = {"from": f"{start:.3f}", "to": f"{end:.3f}"}
        for name in names:
            for found in api.get("series", host=host, metric=name, **span)["series"]:
                for at, value in found["points"]:
                    metric = Metric(found["metric"], value, found["unit"], found["kind"], found["labels"])
                    moments.setdefault(at, []).append(metric)
        _progress(host, start, since, until)
        yield from sorted(moments.items())
        start = end


def _progress(host: str, at: float, since: float, until: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{host}: {100 * (at - since) / (until - since):3.0f} %", end="", file=sys.stderr, flush=True)


def _print(told: dict[str, list[Verdict]]) -> None:
    from agent.cli.table import table  # noqa: PLC0415

    if sys.stderr.isatty():
        print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
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
