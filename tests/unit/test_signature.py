"""Who signed a request: SLACK.md's vector, and everything that is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.slack.signature import signed

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
TIME = 1531420618.0
BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&"
    b"channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url="
    b"https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&"
    b"trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SIGNATURE = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"


def test_the_vector() -> None:
    assert signed(SECRET, "1531420618", SIGNATURE, BODY, TIME)
    assert signed(SECRET, "1531420618", SIGNATURE, BODY, TIME + 300)
    assert signed(SECRET, "1531420618", SIGNATURE, BODY, TIME - 300)


@pytest.mark.parametrize(
    ("timestamp", "signature"),
    [
        (None, SIGNATURE),
        ("1531420618", None),
        ("", SIGNATURE),
        ("1531420618", ""),
        ("1531420618", "v0="),
        ("1531420618", SIGNATURE.upper()),
        ("1531420618", SIGNATURE.removeprefix("v0=")),
        ("1531420618", SIGNATURE[:-1] + "4"),
        ("1531420618", "v0=ä" + SIGNATURE[4:]),
        ("1531420618", "v0=\udcff" + SIGNATURE[4:]),
        ("1531420618.0", SIGNATURE),
        (" 1531420618", SIGNATURE),
        ("-1531420618", SIGNATURE),
        ("\uff11531420618", SIGNATURE),
        ("1e9", SIGNATURE),
        ("9" * 5000, SIGNATURE),
    ],
)
def test_what_is_none(timestamp: str | None, signature: str | None) -> None:
    assert not signed(SECRET, timestamp, signature, BODY, TIME)


def test_stale_future_and_another_body_or_secret() -> None:
    assert not signed(SECRET, "1531420618", SIGNATURE, BODY, TIME + 300.5)
    assert not signed(SECRET, "1531420618", SIGNATURE, BODY, TIME - 300.5)
    assert not signed(SECRET, "1531420618", SIGNATURE, BODY + b"&", TIME)
    assert not signed(SECRET, "1531420618", SIGNATURE, b"\xff" + BODY, TIME)
    assert not signed("other", "1531420618", SIGNATURE, BODY, TIME)


@given(st.none() | st.text(), st.none() | st.text(), st.binary())
def test_garbage_raises_nothing(timestamp: str | None, signature: str | None, body: bytes) -> None:
    assert not signed(SECRET, timestamp, signature, body, TIME)
