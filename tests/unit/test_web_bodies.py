"""What is sent to the collector's address, and how: torn, mislabelled, dribbled, or by a foreign page."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiohttp.test_utils import TestClient

from agent.collector.web import parts
from tests.unit.test_web_guard import open_site, site

__all__ = ["open_site", "site"]
OURS = {"X-Tocsin-Request": "1"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SILENCE = '{"match": "cpu", "duration": "2h", "reason": "x"}'


@pytest.mark.parametrize("scheme", ["Basic eDp5", "Digest x", "Bearer", "x"])
async def test_what_a_browser_sends_by_itself_is_no_token(open_site: TestClient, scheme: str) -> None:
    """Behind a proxy that asks for a password, a foreign page's form carries it: it must not make a silence."""
    headers = {"Authorization": scheme, "Content-Type": "text/plain"}
    async with open_site.post("/api/v1/silences", data=SILENCE, headers=headers) as answer:
        assert answer.status == 403
    async with open_site.delete("/api/v1/silences/sil_1", headers=headers) as answer:
        assert answer.status == 403


@pytest.mark.parametrize("path", ["/login", "/api/v1/silences"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"Content-Encoding": "gzip", **FORM},
        {"Content-Encoding": "deflate", **FORM},
        {"Content-Type": "text/plain; charset=nonsense"},
    ],
)
async def test_a_body_that_cannot_be_read_is_the_senders_fault(
    open_site: TestClient, path: str, wrong: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Said so, and no line in our log: nobody without a token may fill it with tracebacks."""
    with caplog.at_level(logging.WARNING, logger="agent"):
        async with open_site.post(path, data=b"not packed", headers=OURS | wrong, allow_redirects=False) as answer:
            assert answer.status in (303, 400)
            assert path == "/login" or answer.status == 400
    assert caplog.records == []


async def test_a_body_that_does_not_come_is_given_up(site: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has shown a token yet, and holds nothing for longer."""
    monkeypatch.setattr(parts, "READ_WITHIN", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(
        b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\ntok"
    )
    head = await asyncio.wait_for(reader.readline(), 20)
    assert head.split()[1] == b"408"
    writer.close()
