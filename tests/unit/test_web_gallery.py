"""The gallery's two answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient, TestServer

from agent.collector.live import Hub
from agent.collector.stats import Stats
from agent.collector.web import make_app
from agent.config.schema import Config, SlackConfig
from agent.model import Incident
from agent.slack import picture
from agent.slack.samples import samples
from tests.fakes.clock import ManualClock
from tests.fakes.collector import FakeFleet, FakeReader
from tests.fakes.slack_rules import check_message, texts


@pytest.fixture
async def client(clock: ManualClock) -> AsyncIterator[TestClient]:
    config = Config(slack=SlackConfig(dashboard_url="https://tocsin.example.org"))
    app = make_app(FakeReader(), FakeFleet(clock), Hub(), config, Stats(), clock=clock)
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_it_serves_what_slack_would_be_given(client: TestClient, clock: ManualClock) -> None:
    """Every sample, as of now, with this collector's own links; Slack would take each of them."""
    found = await (await client.get("/api/v1/gallery")).json()
    assert [message["name"] for message in found["messages"]] == [sample.name for sample in samples(clock.now())]
    for message in found["messages"]:
        check_message(message["text"], message["blocks"], message["attachments"])
    assert "https://tocsin.example.org/incidents/" in "".join(texts(found["messages"][0]["attachments"]))
    assert found["picture"] is True
    assert (await client.get("/api/v1/gallery", params={"x": "y"})).status == 400


async def test_the_picture_is_drawn_once(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    async def draw(incident: Incident) -> bytes:
        drawn.append(incident.id)
        return b"png"

    monkeypatch.setattr(picture, "draw", draw)
    for _ in range(3):
        answer = await client.get("/api/v1/gallery/chart")
        assert (answer.status, answer.content_type, await answer.read()) == (200, "image/png", b"png")
    assert len(drawn) == 1


async def test_without_the_library_there_is_no_picture(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the gallery says so instead of showing a broken one."""
    monkeypatch.setattr(picture, "able", lambda: False)
    assert (await (await client.get("/api/v1/gallery")).json())["picture"] is False
    answer = await client.get("/api/v1/gallery/chart")
    assert answer.status == 404
    assert (await answer.json())["error"]["code"] == "no_picture"
