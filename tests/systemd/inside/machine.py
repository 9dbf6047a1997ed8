"""What the examination does to the booted machine, with Python's standard library alone."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
AGENT, COLLECTOR, BROKER = "tocsin-agent.service", "tocsin-collector.service", "mosquitto.service"
HOST = "booted-1"
DASHBOARD_TOKEN = "of-the-dashboard-" + "t" * 32
STATE = Path("/var/lib/tocsin")
CONFIG = Path("/etc/tocsin/agent.toml")
LEVEL, BLOCK = Path("/run/tocsin-level"), Path("/run/tocsin-block")


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
    return done.stdout + done.stderr


def show(unit: str, name: str) -> str:
    """A property of the unit, such as ActiveState, MainPID, NRestarts."""
    return run("systemctl", "show", "--value", f"--property={name}", unit).strip()


def journal(unit: str, since: float = 0.0) -> str:
    return run("journalctl", "--no-pager", "--output=cat", f"--since=@{since:.6f}", f"--unit={unit}")


def until(condition: Callable[[], T], what: str, seconds: float = 20.0) -> T:
    """Polls until `condition` gives something true."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out after {seconds:g} s waiting for {what}")
        time.sleep(0.1)


def api(path: str, **query: str) -> Any:
    """The collector's answer, {} while it does not answer."""
    url = f"http://127.0.0.1:8420/api/v1/{path}?{urllib.parse.urlencode(query)}"
    try:
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {DASHBOARD_TOKEN}"})
        with urllib.request.urlopen(request, timeout=5) as response:
            return json.load(response)
    except (OSError, ValueError):
        return {}


def points(metric: str) -> list[list[float]]:
    """What the collector has of this metric from the last ten minutes: [unix seconds, value]."""
    answer = api("series", host=HOST, metric=metric, **{"from": str(time.time() - 600), "to": str(time.time() + 5)})
    return [point for series in answer.get("series", []) for point in series["points"]]


def configure(text: str, replace: tuple[str, str] = ("", "")) -> None:
    CONFIG.write_text(text.replace(*replace) if replace[0] else text)


class Slack:
    """Takes every call, says yes, and remembers method, bearer token and text; its history has all that was posted."""

    def __init__(self, port: int) -> None:
        self.calls: list[tuple[str, str, str]] = []
        calls = self.calls
        shown: list[dict[str, object]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                method = self.path.rsplit("/", 1)[-1]
                token = self.headers.get("Authorization", "")
                calls.append((method, token, urllib.parse.unquote_plus(body)))
                ts = f"{len(calls)}.000100"
                if method == "chat.postMessage":
                    shown.append({"ts": ts, "metadata": json.loads(body).get("metadata")})
                answer = json.dumps({"ok": True, "channel": "C1", "ts": ts, "messages": shown}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST  # noqa: N815 # the base class's name

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def posts(self, rule: str) -> list[tuple[str, str, str]]:
        """New messages (not edits) that speak of this rule."""
        return [call for call in self.calls if call[0] == "chat.postMessage" and rule in call[2]]
