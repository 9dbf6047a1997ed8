"""`tocsin keys`: make the collector's key, and say which one this host believes."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from agent.errors import EXIT_OK, TocsinError, UsageError

PRIVATE = Path("/etc/tocsin/signing-key")
PUBLIC = Path("/etc/tocsin/trusted-keys")


def add(parser: argparse.ArgumentParser) -> None:
    from agent.cli.place import add_options  # noqa: PLC0415

    parser.add_argument("what", choices=["new", "trust", "revoke", "list", "unblock"], help="what to do")
    parser.add_argument("key", nargs="?", metavar="KEY", help="new, revoke: its id; trust: the whole line ID:BASE64")
    parser.add_argument(
        "--file", type=Path, metavar="FILE", help=f"new: where the private key goes ({PRIVATE}); else: the host's list"
    )
    add_options(parser)
    parser.epilog = (
        f"The host's list is the file of commands.trusted_keys in agent.toml, else {PUBLIC}. A running daemon\n"
        "reads it with every command, so that a revocation holds at once.\n\n"
        "To exchange a key: `keys new` on the collector, `keys trust` on every host, let the collector sign with the\n"
        "new one, then `keys revoke` the old one on every host. In between both are believed.\n\n"
        "Where a clock was ahead once, all commands are refused until that time is there. `keys unblock` ends it: for\n"
        "root, while the agent is stopped and no key is trusted. What the old keys have signed must not run again, so\n"
        "trust a new one then.\n\n"
        "exit codes: 0 done; 1 the file cannot be used; 2 wrong usage"
    )


def main(arguments: argparse.Namespace) -> int:
    if arguments.what not in ("list", "unblock") and not arguments.key:
        raise UsageError(f"keys {arguments.what}: expected KEY")
    try:
        {"new": _new, "trust": _trust, "revoke": _revoke, "list": _list, "unblock": _unblock}[arguments.what](arguments)
    except ValueError as error:
        raise TocsinError(str(error)) from error
    except OSError as error:
        raise TocsinError(f"{error.filename}: {error.strerror}") from error
    return EXIT_OK


def _new(arguments: argparse.Namespace) -> None:
    from agent.commands.keyfile import write_private  # noqa: PLC0415
    from agent.commands.payload import KEY_ID  # noqa: PLC0415
    from agent.commands.signing import Signer  # noqa: PLC0415

    if not KEY_ID.fullmatch(arguments.key):
        raise UsageError('keys new: expected an id of lower-case letters, digits, "-", "_" and ".", such as ops-2026')
    file = (arguments.file or PRIVATE).absolute()
    signer, private = Signer.new(arguments.key)
    write_private(file, private)
    print(f"private key  {file}")
    print("             for the collector alone, in its agent.toml:")
    print(f'             [commands]\n             signing_key = {{ file = "{file}" }}')
    print(f'             or, where systemd hands it over:  signing_key = {{ credential = "{file.name}" }}')
    print(f"public key   {signer.public}")
    print(f"             on every host that shall obey it:  tocsin keys trust {signer.public}")


def _trust(arguments: argparse.Namespace) -> None:
    from agent.commands.keyfile import trust  # noqa: PLC0415
    from agent.config.keys import PublicKey  # noqa: PLC0415

    file, configured = _list_file(arguments)
    key = PublicKey.parse(arguments.key)
    trust(file, key)
    print(f"{key.id} is trusted from now on ({file})")
    if not configured:
        print(f'agent.toml does not name this file yet:  [commands]  trusted_keys = {{ file = "{file}" }}')


def _revoke(arguments: argparse.Namespace) -> None:
    from agent.commands.keyfile import revoke  # noqa: PLC0415

    file, _ = _list_file(arguments)
    revoke(file, arguments.key.partition(":")[0])
    print(f"{arguments.key.partition(':')[0]} is revoked ({file})")


def _list(arguments: argparse.Namespace) -> None:
    from agent.cli.table import table  # noqa: PLC0415
    from agent.commands.policy import parse_keys  # noqa: PLC0415
    from agent.config.ownership import read_owned  # noqa: PLC0415

    file, configured = _list_file(arguments)
    trusted, revoked = parse_keys(read_owned(file)[1].decode(errors="replace"))
    rows = [("trusted", str(key)) for key in trusted] + [("revoked", str(key)) for key in revoked]
    print(table(("STATE", "KEY"), rows) if rows else "no key is trusted")
    print(f"\n{file}" + ("" if configured else ", which agent.toml does not name"))


def _unblock(arguments: argparse.Namespace) -> None:
    import sqlite3  # noqa: PLC0415

    from agent.cli.place import state_dir  # noqa: PLC0415
    from agent.commands.journal import FILE  # noqa: PLC0415

    if os.geteuid() != 0:
        raise TocsinError("keys unblock: only root may")
    path = state_dir(arguments, FILE) / FILE
    try:
        if believed := _believed(arguments, path):
            names = " and ".join(believed)
            raise TocsinError(f"keys unblock: what {names} signed could run again; revoke, and trust a new key later")
        if lost := sorted(aside.name for aside in path.parent.glob(f"{path.name}.corrupt-*")):
            raise TocsinError(
                f"keys unblock: {', '.join(lost)}: nobody can read there which keys have signed; revoke all that were "
                "ever trusted here, then move it away"
            )
        print(_lower_floor(path, time.time()))
    except sqlite3.Error as error:
        raise TocsinError(f"{path}: {error}; stop the agent first, if it runs") from error


def _believed(arguments: argparse.Namespace, path: Path) -> list[str]:
    """Keys that are trusted, or by which commands came that is not revoked, so that it may be trusted again."""
    from agent.commands.journal import entries  # noqa: PLC0415
    from agent.commands.policy import parse_keys  # noqa: PLC0415
    from agent.config.ownership import read_owned  # noqa: PLC0415

    file, _ = _list_file(arguments)
    trusted, revoked = parse_keys(read_owned(file)[1].decode(errors="replace")) if file.exists() else ([], [])
    signed = {entry.origin.removeprefix("key ") for _, entry, _ in entries(path) if entry.origin.startswith("key ")}
    return sorted({key.id for key in trusted} | signed - {key.id for key in revoked})


def _lower_floor(path: Path, now: float) -> str:
    import contextlib  # noqa: PLC0415

    from agent.commands.journal import Entry, Journal  # noqa: PLC0415

    with contextlib.closing(Journal.alone(path)) as journal:
        if journal.floor <= now:
            return f"nothing to do: what is issued after {_date(journal.floor)} is taken, and now is {_date(now)}"
        text = f"what is issued after {_date(now)} is taken; before it was {_date(journal.floor)}"
        journal.lower_floor(now, Entry(now, "done", "offline", actor=f"cli:{os.getuid()}", verb="unblock", text=text))
    return f"{text}\nIs that the right time? Then trust a new key, and start the agent."


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _list_file(arguments: argparse.Namespace) -> tuple[Path, bool]:
    """The file, and whether agent.toml names it; UsageError where the keys stand in agent.toml itself."""
    from agent.config.load import usable  # noqa: PLC0415

    source = usable(arguments.config, optional=arguments.file is not None).commands.trusted_keys
    if source.keys and arguments.file is None:
        raise UsageError("keys: they stand in agent.toml itself; move them to a file, or change them there")
    file = (arguments.file or source.file or PUBLIC).absolute()
    return file, source.file is not None and file == source.file.absolute()
