"""Whether this host takes commands at all, from whom, and which: read from files that nobody else can write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent.commands.verbs import VERBS
from agent.config.decode import Fault
from agent.config.keys import PublicKey
from agent.config.ownership import read_owned
from agent.config.schema import CommandsConfig
from agent.errors import CommandError

if TYPE_CHECKING:
    from agent.commands.signing import Keyring

MAX_KEYS = 2


def verb_faults(commands: CommandsConfig) -> Iterator[Fault]:
    """Names in `allow` and `grants` that are no verbs: mistakes, whoever may write the file."""
    for index, verb in enumerate(commands.allow):
        if verb not in VERBS or VERBS[verb].where != "host":
            yield Fault(("commands", "allow", index), _expected(verb, "a verb of hosts", hosts_only=True))
    for index, grant in enumerate(commands.grants):
        for verb in grant.verbs:
            if verb != "*" and verb not in VERBS:
                yield Fault(("commands", "grants", index, "verbs"), _expected(verb, '"*" or a verb', hosts_only=False))


def trust_faults(commands: CommandsConfig) -> list[Fault]:
    """Why commands are not taken though they are configured: what says who may do what is not ours alone."""
    if not commands.trusted_keys:
        return []
    faults = []
    for path in commands.sources:
        try:
            read_owned(path, only_check=True)
        except ValueError as error:
            faults.append(Fault(("commands",), f"no commands are taken: {error}"))
    try:
        _jobs_owned(commands)
    except ValueError as error:
        faults.append(Fault(("commands", "jobs"), f"no commands are taken: {error}"))
    try:
        keys(commands)
    except ValueError as error:
        faults.append(Fault(("commands", "trusted_keys"), f"no commands are taken: {error}"))
    return faults


def keys(commands: CommandsConfig) -> tuple[list[PublicKey], list[PublicKey]]:
    """(trusted, revoked), from the file as it is now, so that a revocation holds at once; ValueError in words."""
    source = commands.trusted_keys
    if source.file is None:
        return list(source.keys), []
    _, raw = read_owned(source.file)
    return parse_keys(raw.decode(errors="replace"))


def keyring(commands: CommandsConfig) -> Keyring:
    """CommandError("disabled") where the host believes nobody, or the list of whom is not to be trusted."""
    from agent.commands.signing import Keyring  # noqa: PLC0415 - only with a command

    if not commands.trusted_keys:
        raise CommandError("disabled", "this host takes no commands: no key is trusted here")
    faults = trust_faults(commands)
    if faults:
        raise CommandError("disabled", "; ".join(fault.text for fault in faults))
    trusted, revoked = keys(commands)
    return Keyring(trusted, revoked)


def parse_keys(text: str) -> tuple[list[PublicKey], list[PublicKey]]:
    """Of a keys file: lines `trusted ID:BASE64` and `revoked ID:BASE64`, and comments."""
    found: dict[str, list[PublicKey]] = {"trusted": [], "revoked": []}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or words[0] not in found:
            raise ValueError(f'line {number}: expected "trusted ID:BASE64" or "revoked ID:BASE64"')
        found[words[0]].append(PublicKey.parse(words[1]))
    if len(found["trusted"]) > MAX_KEYS:
        raise ValueError(f"{len(found['trusted'])} keys are trusted, at most {MAX_KEYS} may be; revoke the old one")
    return found["trusted"], found["revoked"]


def _jobs_owned(commands: CommandsConfig) -> None:
    if commands.jobs.is_symlink() or commands.jobs.exists():
        read_owned(commands.jobs, only_check=True)
    elif "job" in commands.allow:
        raise ValueError(f"job is allowed, but there is no {commands.jobs}")


def _expected(verb: str, what: str, *, hosts_only: bool) -> str:
    known = ", ".join(name for name, one in VERBS.items() if one.where == "host" or not hosts_only)
    return f"expected {what} ({known}), not {verb[:40]!r}"
