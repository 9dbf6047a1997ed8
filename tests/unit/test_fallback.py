"""The second route: when Slack has been away for long, and not a moment before; each thing once."""

from __future__ import annotations

import http.server
import json
import threading
import traceback

import pytest

from agent.alerting.fallback import Fallback, send
from agent.alerting.state import State
from agent.config.schema import FallbackConfig
from agent.config.secret import Secret
from agent.model import Severity
from tests.unit.test_outbox import after, incident


class Outage:
    """Stands for an outbox."""

    def __init__(self) -> None:
        self.down_for = 0.0
        self.rows = []

    def waiting(self):
        return self.rows


@pytest.fixture
def outage():
    return Outage()


def fallback(outage, clock, config, state=None):
    return Fallback(outage, state or State(None), clock, lambda: config, lambda i: f"{i.id} {i.state}")


@pytest.fixture
def mail(tmp_path):
    """A command that appends what it reads to a file, and the file."""
    file = tmp_path / "mail"
    return ("/bin/sh", "-c", f"cat >> {file}; echo >> {file}"), file


def lines(file):
    return file.read_text().split("\n")[:-1] if file.exists() else []


async def test_only_after_long_and_each_thing_once(outage, clock, mail):
    argv, file = mail
    told = fallback(outage, clock, FallbackConfig(command=argv))
    bad = incident(1, Severity.CRITICAL)
    outage.rows = [bad, incident(2, Severity.WARNING), incident(3, Severity.CRITICAL, muted="silenced")]
    outage.down_for = 599
    await told.look()
    assert lines(file) == []
    outage.down_for = 601
    await told.look()
    await told.look()
    assert lines(file) == ["inc_1 open"]
    outage.rows = [after(bad, None), after(incident(4, Severity.CRITICAL), None)]
    await told.look()
    assert lines(file) == ["inc_1 open", "inc_1 resolved"]


async def test_a_restart_tells_nothing_twice_and_the_next_outage_tells_anew(outage, clock, mail):
    argv, file = mail
    state, config = State(None), FallbackConfig(command=argv)
    outage.rows, outage.down_for = [incident(1, Severity.CRITICAL)], 700
    await fallback(outage, clock, config, state).look()
    again = fallback(outage, clock, config, state)
    await again.look()
    assert lines(file) == ["inc_1 open"]
    outage.down_for = 0
    await again.look()
    outage.down_for = 700
    await again.look()
    assert lines(file) == ["inc_1 open"] * 2


async def test_a_way_that_fails_is_tried_again(outage, clock, tmp_path, mail):
    argv, file = mail
    outage.rows, outage.down_for = [incident(1, Severity.CRITICAL)], 700
    for broken in (("/bin/false",), (str(tmp_path / "nothing"),)):
        with pytest.raises(OSError):
            await fallback(outage, clock, FallbackConfig(command=broken)).look()
    await fallback(outage, clock, FallbackConfig(command=argv)).look()
    assert lines(file) == ["inc_1 open"]


async def test_an_incoming_webhook(outage, clock, monkeypatch):
    """Slack's own, of another workspace perhaps: JSON with a text."""
    bodies = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HOOK", f"http://127.0.0.1:{server.server_port}/x")
    outage.rows, outage.down_for = [incident(1, Severity.CRITICAL)], 700
    await fallback(outage, clock, FallbackConfig(webhook=Secret("env", "HOOK"))).look()
    server.shutdown()
    server.server_close()
    assert bodies == [{"text": "inc_1 open"}]


@pytest.mark.parametrize("address", ["hooks.slack.example/T0/SECRET", "https://hooks.slack.example/T0/SECRET x"])
async def test_a_webhook_that_is_no_address_is_not_told(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the secret: neither the log nor a traceback may show it."""
    monkeypatch.setenv("WEBHOOK", address)
    with pytest.raises(OSError) as caught:
        await send(FallbackConfig(webhook=Secret("env", "WEBHOOK")), "text")
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))
