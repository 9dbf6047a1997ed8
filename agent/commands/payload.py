"""What a command and its answer look like on the wire, and the strictest reading of it.

    {"payload": "<base64 of the exact bytes>", "key": "<key id>", "signature": "<base64>"}

Whatever is not exactly as described is refused with CommandError: what two readers may understand in
two ways, one of them may have signed and the other may run.
"""

from __future__ import annotations

import base64
import binascii
import math
import os
import re
from typing import Any, Literal, TypeVar

import msgspec

from agent.errors import CommandError

MAX_SIGNED = 8192
"""Bytes of a signed command as it travels."""
MAX_PAYLOAD = 4096
MAX_REPLY = 256 * 1024
MAX_TEXT = 8000
"""Characters of a reply's text; what is longer is cut."""
WINDOW = 120.0
"""Seconds that a command may be valid for, at most."""

ID = re.compile(r"cmd_[0-9a-f]{32}")
KEY_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_HOST = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_VERB = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_ARGUMENT = re.compile(r"[a-z][a-z0-9_]{0,31}")
_MAX_ARGUMENTS = 16
_MAX_VALUE = 500
_MAX_ACTOR = 120

Value = str | int | float
Args = dict[str, Value]
State = Literal["accepted", "refused", "running", "done", "interrupted"]
T = TypeVar("T")


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request to one host. `id` is its nonce; times are unix seconds; `actor` is who asked ("slack:U123 (ada)")."""

    id: str
    host: str
    verb: str
    args: Args
    actor: str
    issued_at: float
    not_after: float


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command under way: the exact bytes that were signed, by which key, and the 64 bytes of the signature."""

    payload: bytes
    key: str
    signature: bytes


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a command has come. Topic `replies/<id>`.

    `refused` carries its reason as `data["reason"]` (see `agent.commands.desk`); `done` whether it went well
    as `data["ok"]`. A later reply about the same id replaces an earlier one.
    """

    id: str
    host: str
    time: float
    state: State
    text: str = ""
    data: dict[str, Any] = {}


def new_id() -> str:
    return "cmd_" + os.urandom(16).hex()


def encode(command: Command) -> bytes:
    """The bytes to sign."""
    return msgspec.json.encode(command)


def decode(raw: bytes) -> Command:
    """The command in signed bytes; CommandError("malformed") for anything that is not exactly one."""
    command = _read(raw, Command, MAX_PAYLOAD)
    for name, value, pattern in (
        ("id", command.id, ID),
        ("host", command.host, _HOST),
        ("verb", command.verb, _VERB),
        *(("argument's name", key, _ARGUMENT) for key in command.args),
    ):
        if not pattern.fullmatch(value):
            raise CommandError("malformed", f"{name} {value[:40]!r} is not one")
    if len(command.args) > _MAX_ARGUMENTS:
        raise CommandError("malformed", f"{len(command.args)} arguments, more than {_MAX_ARGUMENTS}")
    check_text("actor", command.actor, _MAX_ACTOR)
    for key, argument in command.args.items():
        if isinstance(argument, str):
            check_text(f"argument {key}", argument, _MAX_VALUE)
    return command


def check_text(what: str, text: str, longest: int) -> None:
    """Refuse what is empty, too long, or holds what nobody can see: control characters, direction overrides."""
    if not text or len(text) > longest:
        raise CommandError("malformed", f"{what}: expected 1 to {longest} characters, not {len(text)}")
    if not text.isprintable():
        raise CommandError("malformed", f"{what}: control and invisible characters are refused")


def encode_signed(signed: Signed) -> bytes:
    return msgspec.json.encode(
        {
            "payload": base64.b64encode(signed.payload).decode(),
            "key": signed.key,
            "signature": base64.b64encode(signed.signature).decode(),
        }
    )


class _Wrapper(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    payload: str
    key: str
    signature: str


def decode_signed(raw: bytes) -> Signed:
    """Nothing is verified yet; CommandError("malformed") where it is not of this form."""
    wrapper = _read(raw, _Wrapper, MAX_SIGNED)
    if not KEY_ID.fullmatch(wrapper.key):
        raise CommandError("malformed", "key is not a key id")
    signed = Signed(unbase64(wrapper.payload), wrapper.key, unbase64(wrapper.signature))
    if len(signed.signature) != 64:
        raise CommandError("malformed", f"a signature of {len(signed.signature)} bytes")
    return signed


def unbase64(text: str) -> bytes:
    """Only the one spelling that an encoder writes: base64 allows others, and a flipped bit must never be valid."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CommandError("malformed", "not base64") from error
    if base64.b64encode(raw).decode() != text:
        raise CommandError("malformed", "not base64 as an encoder writes it")
    return raw


def clean(value: Any) -> Any:
    """Text, or tables and lists of it, without the halves of characters that names of files bring and no JSON holds."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {clean(key): clean(inner) for key, inner in value.items()}
    return [clean(inner) for inner in value] if isinstance(value, list | tuple) else value


def encode_reply(reply: Reply) -> bytes:
    """At most MAX_REPLY bytes: text is cut, and data that is too large is left out, which is told."""
    if len(reply.text) > MAX_TEXT:
        reply = msgspec.structs.replace(reply, text=reply.text[: MAX_TEXT - 1] + "…")
    raw = msgspec.json.encode(reply)
    if len(raw) > MAX_REPLY:
        kept = {key: value for key, value in reply.data.items() if key in ("ok", "reason")}
        raw = msgspec.json.encode(msgspec.structs.replace(reply, data={**kept, "cut": True}))
    return raw


def decode_reply(raw: bytes) -> Reply:
    """A reply as a host sent it, CommandError("malformed") otherwise. Lenient towards unknown fields, as all topics."""
    if len(raw) > MAX_REPLY:
        raise CommandError("malformed", f"a reply of {len(raw)} bytes")
    try:
        reply = msgspec.json.decode(raw, type=Reply)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CommandError("malformed", str(error)[:200]) from error
    if not ID.fullmatch(reply.id) or not _HOST.fullmatch(reply.host) or len(reply.text) > MAX_TEXT:
        raise CommandError("malformed", "a reply without a proper id, host or text")
    return reply


def _read(raw: bytes, kind: type[T], longest: int) -> T:
    """One JSON object, each key once at every depth, nothing unknown, no NaN, no conversion between types."""
    import json  # noqa: PLC0415 - msgspec takes the last of two equal keys; this sees both. Only with a command

    if len(raw) > longest:
        raise CommandError("malformed", f"{len(raw)} bytes, more than {longest}")
    try:
        table = json.loads(
            raw.decode(), object_pairs_hook=_once, parse_constant=_no_constant, parse_int=_whole, parse_float=_finite
        )
        value: T = msgspec.convert(table, kind)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, numbers without end, other types
        detail = str(error)[:200].encode("ascii", "backslashreplace").decode()  # it may name what was sent
        raise CommandError("malformed", detail) from error
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key is there twice")
    return table


def _whole(text: str) -> int:
    """What a double holds exactly: other readers would see another number."""
    value = int(text)
    if abs(value) > 2**53:
        raise ValueError("a whole number out of range")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number out of range")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
