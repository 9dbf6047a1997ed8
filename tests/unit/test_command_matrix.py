"""The security matrix: what must not run does not, whatever is sent."""

from __future__ import annotations

import json
import random

import pytest

from agent.commands import payload
from agent.commands.payload import Signed
from agent.commands.signing import CONTEXT, Signer
from tests.services import eventually
from tests.unit.desks import Office


def resigned(signer: Signer, text: str) -> bytes:
    raw = text.encode()
    return payload.encode_signed(Signed(raw, signer.key_id, signer._key.sign(CONTEXT + raw).signature))


def changed(office: Office, **fields: object) -> bytes:
    """Signed by the right key, but not what a command looks like."""
    table = {**json.loads(payload.encode(office.command())), **fields}
    return resigned(office.signer, json.dumps(table))


BAD = {
    "bad signature": lambda o: payload.encode_signed(
        Signed(payload.encode(o.command()), "ops-1", bytes(64)),
    ),
    "other key, same id": lambda o: o.stranger.sign(o.command()),
    "other key, other id": lambda o: Signer.new("ops-9")[0].sign(o.command()),
    "no signature": lambda o: payload.encode(o.command()),
    "other host": lambda o: o.signed(host="web-2"),
    "expired": lambda o: o.signed(issued_at=o.clock.now() - 61, not_after=o.clock.now() - 1),
    "future": lambda o: o.signed(issued_at=o.clock.now() + 31, not_after=o.clock.now() + 90),
    "window too long": lambda o: o.signed(not_after=o.clock.now() + 121),
    "window for ever": lambda o: o.signed(not_after=1e300),
    "window backwards": lambda o: o.signed(not_after=o.clock.now() - 1, issued_at=o.clock.now()),
    "truncated": lambda o: o.signed()[:-7],
    "truncated payload": lambda o: resigned(o.signer, payload.encode(o.command()).decode()[:-9]),
    "duplicate keys": lambda o: resigned(
        o.signer, payload.encode(o.command("status")).decode()[:-1] + ',"verb":"job"}'
    ),
    "duplicate keys inside": lambda o: resigned(
        o.signer, payload.encode(o.command()).decode().replace('"name":"disk"', '"name":"disk","name":"cpu"')
    ),
    "duplicate keys outside": lambda o: o.signed()[:-1] + b',"key":"ops-1"}',
    "unknown key": lambda o: changed(o, sudo=True),
    "nothing": lambda o: b"",
    "1 MB": lambda o: b"x" * 1_000_000,
    "1 MB of command": lambda o: changed(o, actor="x" * 1_000_000),
    "verb not allowed": lambda o: o.signed("top"),
    "verb of the collector": lambda o: o.signed("hosts"),
    "unknown verb": lambda o: o.signed("reboot"),
    "arguments v1\\n": lambda o: changed(o, args={"name": "v1\n"}),
    "arguments --flag": lambda o: changed(o, args={"name": "--flag"}),
    "arguments $(id)": lambda o: changed(o, args={"name": "$(id)"}),
    "arguments NUL": lambda o: changed(o, args={"name": "disk\0"}),
    "arguments right-to-left": lambda o: changed(o, args={"name": "\u202edisk"}),
    "arguments 1 MB": lambda o: changed(o, args={"name": "x" * 1_000_000}),
    "arguments list for string": lambda o: changed(o, args={"name": ["disk"]}),
    "arguments number for string": lambda o: changed(o, args={"name": 7}),
    "arguments missing": lambda o: changed(o, args={}),
    "arguments too many": lambda o: changed(o, args={"name": "disk", "force": 1}),
    "job parameter --flag": lambda o: o.signed("job", {"name": "hello", "unit": "--flag"}),
}


@pytest.mark.parametrize("what", BAD)
async def test_nothing_of_this_is_executed(office: Office, what: str) -> None:
    raw = BAD[what](office)
    for _ in range(2):
        await office.desk.consider(raw)
    office.desk.submit(raw)
    await eventually(lambda: len(office.audit()) == 3, "three refusals")
    assert office.executed == []
    assert {entry.outcome for entry in office.audit()} == {"refused"}
    assert {reply.state for reply in office.replies} <= {"refused"}
    await office.desk.consider(office.signed())  # and the door still opens to who may
    await office.settled()
    assert len(office.executed) == 1


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("bad signature", "bad_signature"),
        ("other key, same id", "bad_signature"),
        ("other key, other id", "unknown_key"),
        ("other host", "wrong_host"),
        ("expired", "expired"),
        ("future", "future"),
        ("window too long", "window"),
        ("duplicate keys", "malformed"),
        ("verb not allowed", "not_allowed"),
        ("arguments $(id)", "bad_arguments"),
        ("1 MB", "malformed"),
    ],
)
async def test_a_refusal_says_why(office: Office, what: str, reason: str) -> None:
    await office.desk.consider(BAD[what](office))
    assert office.reasons() == [reason]
    assert [reply.data["reason"] for reply in office.replies] in ([], [reason])


async def test_a_hundred_thousand_flipped_bits(office: Office) -> None:
    """Of a command that would run as it is: no single bit of it may be another than it was."""
    raw = office.signed("silence", {"match": "host=web-*", "duration": 7200.0, "reason": "moving the disk"})
    chance = random.Random(7)
    consider = office.desk.consider
    bits = list(range(len(raw) * 8))
    flips = bits + chance.choices(bits, k=100_000 - len(bits))
    for bit in flips:
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        await consider(bytes(flipped))
    assert len(flips) == 100_000
    assert office.executed == []
    assert len(office.audit()) <= 25
    assert office.desk._uncounted > 99_000
    assert office.desk.refused == 100_000
    await consider(raw)
    await office.settled()
    assert len(office.executed) == 1


async def test_a_flood_is_counted_and_hides_no_refusal_of_somebody_with_a_key(office: Office) -> None:
    for _ in range(500):
        await office.desk.consider(b"{}")
    assert len(office.audit()) == 20
    await office.desk.consider(office.signed("top"))
    assert office.reasons()[-2:] == ["flood", "not_allowed"]
    assert "480 more refusals" in office.audit()[-2].text
