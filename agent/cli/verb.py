"""`tocsin status`, `silence`, `ack`, `job` and their like: a verb, asked of the daemon on this machine."""

from __future__ import annotations

import argparse

from agent.errors import EXIT_FAILED, EXIT_OK, CommandError, UsageError


def add(parser: argparse.ArgumentParser) -> None:
    from agent.cli.place import add_options  # noqa: PLC0415
    from agent.commands.verbs import VERBS  # noqa: PLC0415

    verb = VERBS[parser.prog.split()[-1]]
    parser.usage = f"%(prog)s [options] {verb.usage.partition(' ')[2]}".rstrip()
    parser.add_argument("words", nargs="*", metavar="WORD", help="; ".join(_words(verb.name)) or "none is expected")
    parser.add_argument("--json", action="store_true", help="one JSON object: the answer with its data")
    add_options(parser)
    parser.set_defaults(verb=verb.name)
    parser.epilog = (
        "The daemon's own user and root may ask; `tocsin audit` has it afterwards.\n\n"
        "exit codes: 0 done; 1 it failed or was refused; 2 wrong usage; 69 no daemon runs here"
    )


def main(arguments: argparse.Namespace) -> int:
    from agent.cli.place import state_dir  # noqa: PLC0415
    from agent.cli.table import clean  # noqa: PLC0415
    from agent.commands.client import ask  # noqa: PLC0415
    from agent.commands.control import NAME  # noqa: PLC0415
    from agent.commands.payload import encode_reply  # noqa: PLC0415
    from agent.commands.verbs import parse  # noqa: PLC0415

    try:
        args = parse(arguments.verb, arguments.words)
    except CommandError as error:
        raise UsageError(error.detail) from error
    reply = ask(state_dir(arguments, NAME), arguments.verb, args)
    well = reply.state == "done" and reply.data.get("ok") is True
    if arguments.json:
        print(encode_reply(reply).decode())
    else:
        text = reply.text if reply.state == "done" else f"{reply.state}: {reply.text}"
        print("\n".join(map(clean, text.splitlines())))
    return EXIT_OK if well else EXIT_FAILED


def _words(verb: str) -> list[str]:
    from agent.commands.verbs import VERBS  # noqa: PLC0415

    return [f"{argument.name.upper()}: {argument.expected}" for argument in VERBS[verb].arguments]
