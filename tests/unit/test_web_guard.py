"""Who may read, what every answer carries, and the files of the dashboard."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import CookieJar
from aiohttp.test_utils import TestClient, TestServer

from agent.collector.live import Hub
from agent.collector.stats import Stats
from agent.collector.web import guard, make_app
from agent.collector.web.app import SERVER
from agent.collector.web.pages import STATIC
from agent.collector.web.parts import ApiError
from agent.config.schema import CollectorConfig, Config
from agent.config.secret import Secret
from agent.errors import ConfigError
from tests.fakes.clock import ManualClock
from tests.fakes.collector import FakeFleet, FakeReader

TOKEN = "correct horse battery staple"


def config(tmp_path: Path, listen: str = "0.0.0.0:8420", token: str = TOKEN) -> Config:
    path = tmp_path / "token"
    path.write_text(token)
    return Config(collector=CollectorConfig(listen=listen, token=Secret("file", str(path))))


async def client_of(settings: Config, clock: ManualClock) -> TestClient:
    app = make_app(FakeReader(), FakeFleet(clock), Hub(), settings, Stats(store_up=True, broker_up=True), clock=clock)
    server = TestServer(app)
    await server.start_server(**SERVER)
    client = TestClient(server, cookie_jar=CookieJar(unsafe=True))
    await client.start_server()
    return client


@pytest.fixture
async def open_site(clock: ManualClock) -> AsyncIterator[TestClient]:
    client = await client_of(Config(), clock)
    yield client
    await client.close()


@pytest.fixture
async def site(clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TestClient]:
    monkeypatch.setattr(guard, "FAILURE_PAUSE", 0.0)
    client = await client_of(config(tmp_path), clock)
    yield client
    await client.close()


@pytest.mark.parametrize(
    ("listen", "loopback"),
    [
        ("127.0.0.1:8420", True),
        ("127.9.9.9:1", True),
        ("localhost:8420", True),
        ("[::1]:8420", True),
        ("0.0.0.0:8420", False),
        ("[::]:8420", False),
        (":8420", False),
        ("192.0.2.7:8420", False),
        ("localhost.example.com:80", False),
        ("127.0.0.1.example.com:80", False),
        ("127.0.0.1@example.com", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_loopback_is_told_from_the_rest(listen: str, loopback: bool) -> None:
    """Whatever is not surely this machine counts as outside."""
    assert guard.is_loopback(listen) is loopback


@pytest.mark.parametrize("listen", ["0.0.0.0:8420", "[::]:8420", "192.0.2.7:8420"])
def test_off_loopback_without_a_token_refuses_to_start(listen: str, clock: ManualClock) -> None:
    """An open collector is a fault of the configuration, named by its key."""
    settings = Config(collector=CollectorConfig(listen=listen))
    with pytest.raises(ConfigError, match=r"collector\.token: required"):
        make_app(FakeReader(), FakeFleet(clock), Hub(), settings, Stats())


async def test_the_api_wants_the_bearer_token(site: TestClient) -> None:
    """Without it, and with a wrong one: 401 and how to do it; with it: the answer."""
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        answer = await site.get("/api/v1/hosts", headers=headers)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert (await answer.json())["error"]["code"] == "unauthorized"
    assert (await site.get("/api/v1/hosts", headers={"Authorization": f"Bearer {TOKEN}"})).status == 200


@pytest.mark.parametrize(
    "path",
    ["/api/v1/hosts", "/api/v1/stream", "/api/v1/gaps", "/metrics", "/healthz", "/api/v1/incidents/x", "/nothing"],
)
async def test_no_door_is_open_beside_the_login(site: TestClient, path: str) -> None:
    """Every path but the login and the public files asks for the token."""
    assert (await site.get(path)).status == 401


async def test_a_person_is_led_to_the_login_and_in(site: TestClient) -> None:
    """Page -> login -> wrong token -> right token -> page, by a cookie that no script and no other site gets."""
    page = await site.get("/hosts/web-1", headers={"Accept": "text/html"}, allow_redirects=False)
    assert (page.status, page.headers["Location"]) == (303, "/login")
    assert (await site.get("/login")).status == 200
    assert (await site.get("/static/css/login.css")).status == 200
    wrong = await site.post("/login", data={"token": "<b>no"}, allow_redirects=False)
    assert wrong.status == 401
    assert "This is not the collector" in await wrong.text()
    assert "<b>" not in await wrong.text()
    right = await site.post("/login", data={"token": TOKEN}, allow_redirects=False)
    assert (right.status, right.headers["Location"]) == (303, "/")
    cookie = right.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN.split(maxsplit=1)[0] not in cookie
    assert (await site.get("/api/v1/hosts")).status == 200
    await site.post("/logout", allow_redirects=False)
    assert (await site.get("/api/v1/hosts")).status == 401


async def test_a_session_ends_and_cannot_be_stretched(site: TestClient, clock: ManualClock, tmp_path: Path) -> None:
    """A cookie with another end, of another token, or past its end opens nothing."""
    keeper = guard.Guard(TOKEN, clock)
    end, proof = keeper.session().split(".")
    cookies = {
        "stretched": f"{int(end) + 1}.{proof}",
        "of another token": guard.Guard("other", clock).session(),
        "no proof": f"{end}.",
        "nonsense": "x.y",
        "not a number": f"+{end}.{proof}",
    }
    for why, value in cookies.items():
        answer = await site.get("/api/v1/hosts", headers={"Cookie": f"{guard.COOKIE}={value}"})
        assert answer.status == 401, why
    good = {"Cookie": f"{guard.COOKIE}={end}.{proof}"}
    assert (await site.get("/api/v1/hosts", headers=good)).status == 200
    clock.tick(guard.SESSION_AGE)
    assert (await site.get("/api/v1/hosts", headers=good)).status == 401


async def test_wrong_tokens_are_answered_late_one_by_one_and_not_without_bound(clock: ManualClock) -> None:
    """Guessing is slow, does not slow down who knows the token, and cannot fill the memory."""
    keeper = guard.Guard(TOKEN, clock)
    tries = [asyncio.create_task(keeper.verify(f"guess {n}")) for n in range(guard.MAX_WAITING)]
    await clock.advance(0)
    with pytest.raises(ApiError) as refused:
        await keeper.verify("one more")
    assert refused.value.status == 429
    await keeper.verify(TOKEN)
    await clock.advance(guard.FAILURE_PAUSE * 3)
    assert sum(attempt.done() for attempt in tries) == 3
    await clock.advance(guard.FAILURE_PAUSE * guard.MAX_WAITING)
    assert all(isinstance(attempt.exception(), ApiError) for attempt in tries)


async def test_the_cookie_is_secure_behind_https(site: TestClient) -> None:
    """A proxy that says https makes the cookie stricter."""
    for scheme, secure in (("https", True), ("http", False)):
        answer = await site.post(
            "/login", data={"token": TOKEN}, headers={"X-Forwarded-Proto": scheme}, allow_redirects=False
        )
        assert ("Secure" in answer.headers["Set-Cookie"]) is secure


@pytest.mark.parametrize(
    "host", ["evil.example.com", "evil.example.com:8420", "127.0.0.1.evil.example.com", "localhost@evil.com"]
)
async def test_a_foreign_name_on_loopback_is_refused(open_site: TestClient, host: str) -> None:
    """A page whose name was rebound to this machine cannot read us."""
    answer = await open_site.get("/api/v1/hosts", headers={"Host": host})
    assert answer.status == 421


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:1", "[::1]:8420"])
async def test_loopback_names_are_served_on_any_port(open_site: TestClient, host: str) -> None:
    """A forwarded port (ssh -L) still works."""
    assert (await open_site.get("/api/v1/hosts", headers={"Host": host})).status == 200


@pytest.mark.parametrize("path", ["/", "/login", "/static/js/main.js", "/api/v1/hosts", "/api/v1/nothing", "/metrics"])
async def test_every_answer_carries_the_strict_headers(open_site: TestClient, path: str) -> None:
    """Errors and files as well: no inline code, no frames, no guessing of types, no library's name."""
    headers = (await open_site.get(path)).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Server" not in headers


@pytest.mark.parametrize("path", ["/", "/hosts/web-1", "/incidents", "/incidents/inc-1"])
async def test_every_page_is_the_one_shell(open_site: TestClient, path: str) -> None:
    """A link into the dashboard works when it is opened from outside."""
    answer = await open_site.get(path)
    assert answer.content_type == "text/html"
    assert 'src="/static/js/main.js"' in await answer.text()


async def test_files_have_etags_and_are_compressed(open_site: TestClient) -> None:
    """A file is sent once, asked for again, and confirmed with 304; HEAD has no body."""
    plain = await open_site.get("/static/js/main.js", headers={"Accept-Encoding": "identity"})
    body, etag = await plain.read(), plain.headers["ETag"]
    assert body == (STATIC / "js/main.js").read_bytes()
    assert plain.content_type == "text/javascript"
    packed = await open_site.get("/static/js/main.js", headers={"Accept-Encoding": "gzip"}, auto_decompress=False)
    assert gzip.decompress(await packed.read()) == body
    for given in (etag, f'W/{etag}, "other"'):
        again = await open_site.get("/static/js/main.js", headers={"If-None-Match": given})
        assert (again.status, await again.read()) == (304, b"")
    head = await open_site.head("/static/js/main.js")
    assert (head.status, head.headers["ETag"], await head.read()) == (200, etag, b"")


@pytest.mark.parametrize(
    "name", ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "js/none.js", "vendor/uplot/LICENSE", ""]
)
async def test_nothing_else_is_served(open_site: TestClient, name: str) -> None:
    """Only files read at the start exist; no path leads out."""
    assert (await open_site.get(f"/static/{name}")).status == 404


def test_no_page_has_inline_code_or_style() -> None:
    """What the policy forbids is not in the files either."""
    for page in STATIC.glob("*.html"):
        text = page.read_text()
        assert "<style" not in text
        assert " style=" not in text
        assert text.count("<script") == text.count("<script src=")
    for script in (STATIC / "js").glob("*.js"):
        text = script.read_text()
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "http://",
            'setAttribute("style"',
        ):
            assert word not in text, f"{script.name}: {word}"


def test_vendored_files_are_those_that_were_decided_on() -> None:
    """What is served of somebody else's is byte for byte what the record names, and has its licence beside it."""
    record = (Path(__file__).parents[2] / "docs/decisions/0004-uplot-vendored.md").read_text()
    sums = dict(re.findall(r"\| `(\S+)` \| `([0-9a-f]{64})` \|", record))
    folder = STATIC / "vendor/uplot"
    assert {path.name for path in folder.iterdir()} == {*sums, "LICENSE"}
    for name, wanted in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == wanted, name
