"""`tocsin alert test`: one test incident down the whole road, with what happened at each station."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from agent.errors import EXIT_FAILED, EXIT_OK, TocsinError, UnavailableError

if TYPE_CHECKING:
    from agent.cli.api import Api
    from agent.daemon.alert_test import Account

TAKEN_UP_WITHIN = 5.0
"""Seconds in which a daemon that runs takes the request up."""
DONE_WITHIN = 75.0
COMMITTED_WITHIN = 15.0
_POLL = 0.1
T = TypeVar("T")


def add(parser: argparse.ArgumentParser) -> None:
    from agent.cli import api, place  # noqa: PLC0415

    parser.add_argument("what", choices=["test"], help="the one thing to do: send a test alert and follow it")
    place.add_options(parser)
    api.add_options(parser)
    parser.epilog = (
        "The daemon on this machine breaks a threshold that only it has: engine, Slack (or the terminal), spool,\n"
        "broker and collector see it as any other.\n\n"
        "exit codes: 0 it arrived everywhere; 1 a station was not reached; 69 no daemon runs here"
    )


def main(arguments: argparse.Namespace) -> int:
    from agent.cli.api import Api  # noqa: PLC0415
    from agent.cli.place import state_dirs  # noqa: PLC0415

    asked = time.time()
    directory = _ask(state_dirs(arguments))
    account = _follow(directory, asked)
    reached = bool(account.opened and account.delivered and account.resolved and account.delivered_resolved)
    if not reached:
        print(f"  not reached in time: {account.error or 'see the log of the daemon'}")
    committed = _committed(Api.of(arguments), account, asked) if account.incident else False
    return EXIT_OK if reached and committed else EXIT_FAILED


def _ask(directories: list[Path]) -> Path:
    """Leave the request in each; the directory in which it is taken up first."""
    from agent.daemon.alert_test import ANSWER, REQUEST  # noqa: PLC0415

    left: list[Path] = []
    try:
        for directory in directories:
            with contextlib.suppress(FileNotFoundError):
                (directory / ANSWER).unlink()
            (directory / REQUEST).touch(mode=0o600)
            left.append(directory)
        found = _wait(lambda: next((path for path in left if not (path / REQUEST).exists()), None), TAKEN_UP_WITHIN)
    except PermissionError as error:
        raise TocsinError(f"{error.filename}: permission denied; run this as the daemon's user or as root") from error
    except OSError as error:
        raise UnavailableError(f"{error.filename}: {error.strerror}") from error
    finally:
        for directory in left:
            (directory / REQUEST).unlink(missing_ok=True)
    if found is None:
        shown = " or ".join(str(directory) for directory in directories)
        raise UnavailableError(
            f"no daemon runs with the state directory {shown}; start one, or name it with --state-dir"
        )
    return found


def _follow(directory: Path, asked: float) -> Account:
    """Print each station as it is reached, until the daemon is done."""
    from agent.alerting.messenger import TERMINAL  # noqa: PLC0415
    from agent.daemon.alert_test import Account  # noqa: PLC0415

    stations = {
        "requested": "taken up by the daemon",
        "opened": "incident opened",
        "delivered": "told {where}",
        "resolved": "incident resolved",
        "delivered_resolved": "told {where}: resolved",
    }
    account = Account()
    deadline = time.monotonic() + DONE_WITHIN
    while not account.done and time.monotonic() < deadline:
        account = _read(directory) or account
        for station, words in list(stations.items()):
            at = getattr(account, station)
            if at:
                del stations[station]
                where = "on the terminal" if account.channel in ("", TERMINAL) else f"in {account.channel}"
                _say(words.format(where=where), asked, at)
        time.sleep(_POLL)
    return account


def _read(directory: Path) -> Account | None:
    import msgspec  # noqa: PLC0415

    from agent.daemon.alert_test import ANSWER, Account  # noqa: PLC0415

    try:
        return msgspec.json.decode((directory / ANSWER).read_bytes(), type=Account)
    except (OSError, msgspec.DecodeError):
        return None


def _committed(api: Api, account: Account, asked: float) -> bool:
    """Whether the collector has the incident, resolved, in its database."""
    problem = ""

    def resolved() -> bool | None:
        nonlocal problem
        try:
            answer = api.get(f"incidents/{account.incident}")
        except TocsinError as error:
            problem = str(error)
            return None
        problem = "it has the incident, but not yet its end"
        return True if answer["incident"]["state"] == "resolved" else None

    if _wait(resolved, COMMITTED_WITHIN):
        _say(f"committed by the collector: {account.incident}", asked, time.time())
        return True
    print(f"  not committed by the collector: {problem}")
    return False


def _wait(look: Callable[[], T | None], seconds: float) -> T | None:
    deadline = time.monotonic() + seconds
    while (found := look()) is None and time.monotonic() < deadline:
        time.sleep(_POLL)
    return found


def _say(what: str, asked: float, at: float) -> None:
    print(f"  {max(0.0, at - asked):6.2f} s  {what}", flush=True)
