"""What reaches the collector's Slack addresses without being Slack's: refused, and never a 500."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from agent.collector.service import Collector
from tests.fakes.slack_app import FakeApp
from tests.fakes.slack_payloads import form, signed
from tests.integration.office import office

SIGNATURE = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"


@pytest.fixture
async def slack() -> AsyncIterator[FakeApp]:
    async with FakeApp() as server:
        server.add_channel("#ops")
        yield server


@pytest.fixture
async def collector(slack: FakeApp, tmp_path: Path) -> AsyncIterator[Collector]:
    """In HTTP mode, with a token for its dashboard; there is no broker, which is nobody's business here."""
    (tmp_path / "token").write_text("dashboard-token")
    more = f'token = {{ file = "{tmp_path}/token" }}'
    async with office(tmp_path, "mqtt://127.0.0.1:1", slack, mode="http", more=more) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


PATHS = ("/slack/commands", "/slack/interactive", "/slack/events")


@pytest.mark.parametrize("path", PATHS)
async def test_what_is_not_signed_just_now_is_refused(
    collector: Collector, slack: FakeApp, http: aiohttp.ClientSession, path: str
) -> None:
    """Missing, stale, future, of another secret or body, non-ASCII, garbage: 401 each; browsers, too."""
    body = form(slack.slash_payload("help", user="U1", channel=slack._channels["C00000001"]))
    now = time.time()
    good = signed(slack.signing_secret, body)
    timestamp, signature = good["X-Slack-Request-Timestamp"], good["X-Slack-Signature"]
    tries = [
        {},
        {"X-Slack-Signature": signature},
        {"X-Slack-Request-Timestamp": timestamp},
        signed(slack.signing_secret, body, now - 301),
        signed(slack.signing_secret, body, now + 302),
        signed("another", body),
        signed(slack.signing_secret, body + b"x"),
        {"X-Slack-Request-Timestamp": "1531420618", "X-Slack-Signature": SIGNATURE},
        {**good, "X-Slack-Signature": signature[:-1] + "é"},
        {**good, "X-Slack-Signature": "v0=" + "é" * 64},
        {**good, "X-Slack-Signature": ""},
        {**good, "X-Slack-Signature": "x" * 6000},
        {**good, "X-Slack-Request-Timestamp": "soon"},
        {**good, "X-Slack-Request-Timestamp": timestamp + ".0"},
        {**good, "X-Slack-Request-Timestamp": "٣" * 10},
        {**good, "X-Slack-Request-Timestamp": "9" * 4400},
        {**good, "X-Slack-Request-Timestamp": "-" + timestamp},
        {"Authorization": "Bearer dashboard-token"},
        {"Accept": "text/html", "Cookie": "tocsin_session=1"},
    ]
    statuses = []
    for headers in tries:
        async with http.post(collector.url + path, data=body, headers=headers, allow_redirects=False) as answer:
            statuses.append(answer.status)
    assert statuses == [401] * len(tries)
    assert collector.office.desk is not None
    assert collector.office.desk.taken == 0


async def test_raw_bytes_in_headers_are_no_fault_of_ours(collector: Collector) -> None:
    """Bytes that are no text in any encoding; some are refused by the HTTP parser itself, none is a 500."""
    host, _, port = collector.url.removeprefix("http://").partition(":")
    for junk in (b"\xff\xfe\xfd", b"\xc3\x28", b"v0=\xed\xa0\x80", b"\x80" * 64, b"a\x01b"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /slack/commands HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nConnection: close\r\n"
            b"X-Slack-Request-Timestamp: " + junk + b"\r\nX-Slack-Signature: " + junk + b"\r\n\r\nx"
        )
        status = (await reader.readline()).split()[1]
        assert status in (b"401", b"400")
        writer.close()


@pytest.mark.parametrize("path", PATHS)
async def test_a_body_of_ten_megabytes_is_too_large(
    collector: Collector, slack: FakeApp, http: aiohttp.ClientSession, path: str
) -> None:
    """Signed or not, announced or in pieces without end."""
    body = b"x" * (10 * 1024 * 1024)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(160):
            yield b"x" * 65536

    for data, headers in ((body, signed(slack.signing_secret, body)), (body, {}), (pieces(), {})):
        try:
            async with http.post(collector.url + path, data=data, headers=headers) as answer:
                status = answer.status
        except aiohttp.ClientOSError:  # it has answered and closed while we were still sending
            status = await _status(collector, path)
        assert status == 413


async def _status(collector: Collector, path: str) -> int:
    """The answer to an announcement alone, which needs no sending."""
    host, _, port = collector.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 10485760\r\n\r\n".encode())
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


async def test_a_pressed_button_may_bring_a_long_message(
    collector: Collector, slack: FakeApp, http: aiohttp.ClientSession
) -> None:
    """More than the login form ever sends."""
    said = slack._channels["C00000001"]
    async with http.post(
        f"{slack.url}chat.postMessage",
        json={"channel": said.id, "text": "x" * 30_000},
        headers={"Authorization": f"Bearer {slack.token}"},
    ):
        pass
    pressed = slack.press_payload("tocsin_ack", "web-1 inc_1", user="U1", said=said.said[0])
    assert await slack.posted(f"{collector.url}/slack/interactive", pressed) == (200, "")


async def test_what_is_signed_and_makes_no_sense_is_a_400(
    collector: Collector, slack: FakeApp, http: aiohttp.ClientSession
) -> None:
    """Slack's secret does not make nonsense sense; a payload of a kind that is none of ours is 200 and nothing."""
    assert collector.office.desk is not None
    cases = [
        ("/slack/interactive", b"payload=", 400),
        ("/slack/interactive", b"payload=[1]", 400),
        ("/slack/interactive", b"payload=" + b"%5B" * 50_000, 400),
        ("/slack/interactive", b"payload=%7B%22type%22%3A%22view_submission%22%7D", 200),
        ("/slack/interactive", b"&".join([b"a=1"] * 300), 400),
        ("/slack/events", b"\xff\xfe", 400),
        ("/slack/events", b"{}", 200),
        ("/slack/commands", b"", 200),
        ("/slack/commands", b"user_id=U1&channel_id=C1&trigger_id=1&text=%ff%fe", 200),
    ]
    for path, body, status in cases:
        headers = {**signed(slack.signing_secret, body), "Content-Type": "application/x-www-form-urlencoded"}
        async with http.post(collector.url + path, data=body, headers=headers) as answer:
            assert (path, body[:40], answer.status) == (path, body[:40], status)
    assert collector.office.desk.taken == 1


async def test_slacks_own_checks(collector: Collector, slack: FakeApp, http: aiohttp.ClientSession) -> None:
    """Of the certificate, and of who has the address."""
    async with http.post(f"{collector.url}/slack/commands", data={"ssl_check": "1", "token": "x"}) as answer:
        assert answer.status == 200
    body = b'{"type":"url_verification","challenge":"3eZbrw1aB","token":"x"}'
    headers = {**signed(slack.signing_secret, body), "Host": "tocsin.example.org"}
    async with http.post(f"{collector.url}/slack/events", data=body, headers=headers) as answer:
        assert (answer.status, (await answer.json())["challenge"]) == (200, "3eZbrw1aB")
    async with http.get(f"{collector.url}/slack/commands") as answer:
        assert answer.status in (401, 405)
    async with http.get(f"{collector.url}/api/v1/hosts") as answer:
        assert answer.status == 401  # everything else asks for the token as before


async def test_in_socket_mode_there_are_no_such_addresses(
    slack: FakeApp, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with office(tmp_path, "mqtt://127.0.0.1:1", slack) as running:
        body = form(slack.slash_payload("help", user="U1", channel=slack._channels["C00000001"]))
        headers = signed(slack.signing_secret, body)
        async with http.post(f"{running.url}/slack/commands", data=body, headers=headers) as answer:
            assert answer.status == 404
