"""The strictest reading of a command: what is not exactly one is refused; what a person writes means one thing."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.commands import payload, verbs
from agent.commands.payload import Command, Reply, Signed
from agent.commands.signing import CONTEXT, Keyring, Signer
from agent.config.keys import PublicKey
from agent.errors import CommandError

GOOD = Command(payload.new_id(), "web-1", "probe", {"name": "disk"}, "slack:U1 (ada)", 1000.0, 1100.0)

texts = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=60)
names = st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True)
values = texts | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
commands = st.builds(
    Command,
    id=st.from_regex(r"cmd_[0-9a-f]{32}", fullmatch=True),
    host=st.from_regex(r"[a-z0-9][a-z0-9.-]{0,62}", fullmatch=True),
    verb=names,
    args=st.dictionaries(names, values, max_size=8),
    actor=texts,
    issued_at=st.floats(0, 2e9),
    not_after=st.floats(0, 2e9),
)


@given(commands)
def test_what_is_encoded_is_decoded(command: Command) -> None:
    assert payload.decode(payload.encode(command)) == command


@given(st.binary(max_size=200), st.binary(min_size=64, max_size=64), st.from_regex(payload.KEY_ID, fullmatch=True))
def test_a_signed_command_is_carried_as_its_exact_bytes(raw: bytes, signature: bytes, key: str) -> None:
    signed = Signed(raw, key, signature)
    assert payload.decode_signed(payload.encode_signed(signed)) == signed


@given(st.binary(max_size=300))
def test_anything_else_is_refused_and_never_more_than_refused(raw: bytes) -> None:
    for read in (payload.decode, payload.decode_signed, payload.decode_reply):
        with pytest.raises(CommandError) as refused:
            read(raw)
        assert refused.value.code == "malformed"


def table(**changes: object) -> bytes:
    return json.dumps({**json.loads(payload.encode(GOOD)), **changes}).encode()


@pytest.mark.parametrize(
    "raw",
    [
        payload.encode(GOOD)[:-1] + b',"verb":"job"}',
        payload.encode(GOOD).replace(b'"name":"disk"', b'"name":"disk","name":"cpu"'),
        payload.encode(GOOD)[:-1] + b',"sudo":true}',
        payload.encode(GOOD)[:-10],
        payload.encode(GOOD) + b"{}",
        b"\xef\xbb\xbf" + payload.encode(GOOD),
        payload.encode(GOOD).decode().encode("utf-16"),
        table(args={"name": ["disk"]}),
        table(args={"name": {"a": 1}}),
        table(args={"name": None}),
        table(args={"name": True}),
        table(args={"name": "disk\x00"}),
        table(args={"name": "disk\n"}),
        table(args={"name": "\u202edisk"}),
        table(args={"name": "di\u200bsk"}),
        table(args={"name": "\ud800"}),
        table(args={"name": ""}),
        table(args={"name": "x" * 501}),
        table(args={"Name": "x"}),
        table(args={f"a{n}": "x" for n in range(17)}),
        table(args="x"),
        table(id="cmd_1"),
        table(id=GOOD.id + "\n"),
        table(host="web-1\n"),
        table(host="Web-1"),
        table(verb="probe\n"),
        table(actor=""),
        table(actor="ada\u2066"),
        table(issued_at="1000"),
        table(issued_at=float("nan")),
        table(issued_at=float("inf")),
        table().replace(b"1000.0", b"1e999"),
        table().replace(b"1000.0", b"9" * 400),
        table().replace(b"1000.0", b"-" + b"9" * 30),
        table(args={"name": 2**54}),
        table(args={"name": 2**200}),
        table(**{"\ud800": 1}),
        b'{"id":' + b"[" * 3000,
        b"[]",
        b"9" * 4000,
        b"x" * (payload.MAX_PAYLOAD + 1),
    ],
)
def test_what_is_not_exactly_a_command_is_refused(raw: bytes) -> None:
    assert payload.decode(payload.encode(GOOD)) == GOOD
    with pytest.raises(CommandError) as refused:
        payload.decode(raw)
    assert refused.value.code == "malformed"


def test_base64_has_one_spelling() -> None:
    """`QQ==` and `QR==` are the same byte to a lenient reader: a flipped bit that nobody would notice."""
    assert payload.unbase64("QQ==") == base64.b64decode("QR==") == b"A"
    for other in ("QR==", "QQ", "QQ==\n", " QQ==", "Q Q==", "QQ=", "Qä=="):
        with pytest.raises(CommandError):
            payload.unbase64(other)


def test_a_signature_is_of_one_key_for_one_purpose() -> None:
    signer, _ = Signer.new("ops-1")
    other, _ = Signer.new("ops-1")
    signed = payload.decode_signed(signer.sign(GOOD))
    Keyring([signer.public]).verify(signed)
    bare = Signed(signed.payload, "ops-1", signer._key.sign(signed.payload).signature)
    cases = [
        (Keyring([other.public]), signed, "bad_signature"),
        (Keyring([signer.public]), bare, "bad_signature"),
        (Keyring([signer.public]), Signed(signed.payload + b" ", "ops-1", signed.signature), "bad_signature"),
        (Keyring([signer.public]), Signed(signed.payload, "ops-2", signed.signature), "unknown_key"),
        (Keyring([]), signed, "unknown_key"),
        (Keyring([signer.public], revoked=[signer.public]), signed, "revoked_key"),
        (Keyring([type(signer.public)("new-name", signer.public.raw)], revoked=[signer.public]), signed, "revoked_key"),
    ]
    for keyring, what, code in cases:
        with pytest.raises(CommandError) as refused:
            keyring.verify(what)
        assert refused.value.code == code
    assert CONTEXT == b"tocsin-command-v1\0"


def test_a_private_key_is_read_and_never_shown() -> None:
    signer, line = Signer.new("ops-1")
    assert Signer.parse(line).public == signer.public
    with pytest.raises(ValueError, match="ID:BASE64"):
        PublicKey.parse(line.strip())
    for other in ("hunter2", str(signer.public), line.split()[1]):
        with pytest.raises(ValueError, match="a private key") as fault:
            Signer.parse(other)
        assert other not in str(fault.value)


def test_numbers_keep_their_type() -> None:
    args = {"a": 5, "b": -7, "c": 5.5, "d": -(2**53)}
    assert [(type(value), value) for value in payload.decode(table(args=args)).args.values()] == [
        (int, 5),
        (int, -7),
        (float, 5.5),
        (int, -(2**53)),
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(json.loads(payload.encode(GOOD)))), json_values))
def test_whatever_stands_in_a_field_it_is_a_command_or_it_is_refused(changes: dict[str, object]) -> None:
    """And what is a command can be written down again: no value gets in that the journal could not hold."""
    try:
        command = payload.decode(table(**changes))
    except CommandError as refused:
        msgspec.json.encode([refused.code, refused.detail])
    else:
        assert payload.decode(payload.encode(command)) == command


@pytest.mark.parametrize(
    ("verb", "words", "args"),
    [
        ("status", "", {}),
        ("probe", "disk", {"name": "disk"}),
        ("silence", "host=web-*,mount=/var 2h moving the disk", None),
        ("silence", "inc_0abc 1m x", {"match": "inc_0abc", "duration": 60.0, "reason": "x"}),
        ("explain", "disk is filling", {"threshold": "disk is filling"}),
        ("advise", "disk", {"plugin": "disk"}),
        ("job", "restart unit=nginx ref=v1", {"name": "restart", "unit": "nginx", "ref": "v1"}),
        ("graph", "cpu.used_percent 2h", {"metric": "cpu.used_percent", "span": 7200.0}),
        ("who", "", {}),
    ],
)
def test_words_become_arguments(verb: str, words: str, args: dict[str, object] | None) -> None:
    expected = args or {"match": "host=web-*,mount=/var", "duration": 7200.0, "reason": "moving the disk"}
    if args == {}:
        expected = {}
    assert verbs.parse(verb, words.split()) == expected
    assert verbs.check(verb, verbs.parse(verb, words.split())) == expected


NAMED = {"probe": "name", "job": "name", "advise": "plugin", "silence": "match", "explain": "threshold", "ack": "id"}
HOSTILE = ["v1\n", "--flag", "-x", "$(id)", "a\0b", "\u202eabc", "x" * 1_000_000, "`id`", "a;b", "a|b", ""]


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize(
    ("verb", "name"),
    [
        ("probe", "name"),
        ("job", "name"),
        ("advise", "plugin"),
        ("silence", "match"),
        ("explain", "threshold"),
        ("ack", "id"),
    ],
)
def test_hostile_arguments_are_refused_as_words_and_on_the_wire(verb: str, name: str, value: str) -> None:
    good = {"probe": "disk", "job": "x", "advise": "disk", "silence": "x 2h why", "explain": "x", "ack": "inc_1"}[verb]
    args = {**verbs.parse(verb, good.split()), name: value}
    for attempt in (lambda: verbs.check(verb, args), lambda: verbs.parse(verb, [value, *good.split()[1:]])):
        with pytest.raises(CommandError) as refused:
            attempt()
        assert refused.value.code == "bad_arguments"
        assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        ("probe", {}),
        ("probe", {"name": 1}),
        ("probe", {"name": "disk", "more": "x"}),
        ("silence", {"match": "x", "duration": "2h", "reason": "x"}),
        ("silence", {"match": "x", "duration": 59.0, "reason": "x"}),
        ("silence", {"match": "x", "duration": 1e12, "reason": "x"}),
        ("silence", {"match": "x", "duration": float("nan"), "reason": "x"}),
        ("job", {"name": "x", "unit": "--now"}),
        ("job", {"name": "x", "unit": 3}),
        ("job", {"name": "x", "unit": "a\nb"}),
    ],
)
def test_typed_arguments_are_checked_on_the_wire(verb: str, args: dict[str, object]) -> None:
    with pytest.raises(CommandError):
        verbs.check(verb, args)


def test_an_error_says_how_the_verb_is_used() -> None:
    with pytest.raises(CommandError, match=r"duration: expected .* not 'soon'; usage: silence MATCH DURATION REASON…"):
        verbs.parse("silence", ["x", "soon", "why"])
    with pytest.raises(CommandError, match="did you mean silence"):
        verbs.parse("silense", [])


def test_a_reply_is_bounded_and_says_what_it_left_out() -> None:
    reply = Reply(GOOD.id, "web-1", 1.0, "done", "x" * 20_000, {"ok": True, "rows": ["y" * 1000] * 1000})
    raw = payload.encode_reply(reply)
    assert len(raw) <= payload.MAX_REPLY
    read = payload.decode_reply(raw)
    assert (len(read.text), read.data) == (payload.MAX_TEXT, {"ok": True, "cut": True})
