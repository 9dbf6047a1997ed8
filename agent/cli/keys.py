"""`tocsin keys`: make the collector's key, and say which one this host believes."""

from __future__ import annotations

import argparse
from pathlib import Path

from agent.errors import EXIT_OK, TocsinError, UsageError

PRIVATE = Path("/etc/tocsin/signing-key")
PUBLIC = Path("/etc/tocsin/trusted-keys")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["new", "trust", "revoke", "list"], help="what to do")
    parser.add_argument("key", nargs="?", metavar="KEY", help="new, revoke: its id; trust: the whole line ID:BASE64")
    parser.add_argument(
        "--file", type=Path, metavar="FILE", help=f"new: where the private key goes ({PRIVATE}); else: the host's list"
    )
    parser.epilog = (
        f"The host's list is the file of commands.trusted_keys in agent.toml, else {PUBLIC}. A running daemon\n"
        "reads it with every command, so that a revocation holds at once.\n\n"
        "To exchange a key: `keys new` on the collector, `keys trust` on every host, let the collector sign with the\n"
        "new one, then `keys revoke` the old one on every host. In between both are believed.\n\n"
        "exit codes: 0 done; 1 the file cannot be used; 2 wrong usage"
    )


def main(arguments: argparse.Namespace) -> int:
    if arguments.what != "list" and not arguments.key:
        raise UsageError(f"keys {arguments.what}: expected KEY")
    try:
        {"new": _new, "trust": _trust, "revoke": _revoke, "list": _list}[arguments.what](arguments)
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


def _list_file(arguments: argparse.Namespace) -> tuple[Path, bool]:
    """The file, and whether agent.toml names it; UsageError where the keys stand in agent.toml itself."""
    from agent.config.load import read  # noqa: PLC0415

    source = read(arguments.config).config.commands.trusted_keys
    if source.keys and arguments.file is None:
        raise UsageError("keys: they stand in agent.toml itself; move them to a file, or change them there")
    file = (arguments.file or source.file or PUBLIC).absolute()
    return file, source.file is not None and file == source.file.absolute()
