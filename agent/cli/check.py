"""`tocsin check`: every fault of the configuration at once."""

from __future__ import annotations

import argparse
from pathlib import Path

from agent.config.schema import SlackConfig, ThresholdConfig
from agent.errors import EXIT_OK, ConfigError


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "exit codes: 0 it is well; 78 it is faulty, one line per fault: FILE:LINE: PATH: what is wrong"


def main(arguments: argparse.Namespace) -> int:
    from agent.alerting.figure import counted  # noqa: PLC0415
    from agent.daemon.setup import prepare  # noqa: PLC0415

    setup = prepare(arguments.config)
    _check_trust(arguments.config)
    sources = ", ".join(str(source) for source in setup.config.sources) or "no file found, the defaults"
    probes = counted(len(setup.planned), "probe")
    thresholds = counted(_thresholds(setup.config.thresholds), "threshold")
    print(f"ok: {probes}, {thresholds} ({sources})")
    for remark in _remarks(setup.config.slack):
        print(f"note: {remark}")
    return EXIT_OK


def _check_trust(path: Path | None) -> None:
    """What would make the daemon take no commands: it runs on without them, but who checks wants to know."""
    from agent.commands.policy import trust_faults  # noqa: PLC0415
    from agent.config.load import read  # noqa: PLC0415

    reading = read(path)
    faults = trust_faults(reading.config.commands)
    if faults:
        raise ConfigError(reading.lines(faults))


def _remarks(slack: SlackConfig) -> list[str]:
    """What is no fault, and may yet surprise."""
    from agent.slack import picture  # noqa: PLC0415

    if slack.bot_token is None or not slack.picture or picture.able():
        return []
    return ["slack.picture: no chart is drawn, because Pillow is not installed (pip install tocsin[collector])"]


def _thresholds(thresholds: tuple[ThresholdConfig, ...]) -> int:
    return sum(threshold.enabled for threshold in thresholds)
