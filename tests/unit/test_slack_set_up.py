"""The manifest is within Slack's limits and asks for what is used; the check says what is missing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.cli import main
from agent.config.rules import faults
from agent.config.schema import Config, SlackConfig, SlackRoute
from agent.config.secret import Secret
from agent.config.units import Duration
from agent.slack.check import Finding, findings
from agent.slack.manifest import BOT_SCOPES, as_yaml, manifest
from tests.fakes.slack import html, refused
from tests.fakes.slack_app import FakeApp


@pytest.mark.parametrize("mode", ["socket", "http"])
def test_the_manifest_is_within_the_limits(mode: Any) -> None:
    made = manifest(mode, "https://tocsin.example.org/")
    assert len(made["display_information"]["name"]) <= 35
    assert len(made["features"]["bot_user"]["display_name"]) <= 35
    assert len(made["display_information"]["description"]) <= 140
    [command] = made["features"]["slash_commands"]
    assert command["command"].startswith("/")
    assert len(command["command"]) <= 32
    assert len(command["description"]) <= 2000
    assert len(command["usage_hint"]) <= 1000
    assert made["settings"]["socket_mode_enabled"] is (mode == "socket")
    assert ("url" in command) is (mode == "http")
    assert ("request_url" in made["settings"]["interactivity"]) is (mode == "http")
    assert ("request_url" in made["settings"]["event_subscriptions"]) is (mode == "http")
    needed = {"chat:write", "chat:write.public", "commands", "files:write", "users:read", "usergroups:read"}
    assert needed | {"channels:history", "groups:history", "app_mentions:read"} <= set(
        made["oauth_config"]["scopes"]["bot"]
    )
    assert yaml.safe_load(as_yaml(made)) == made


def test_what_no_manifest_can_be_made_of() -> None:
    for mode, url, name in (("http", "", "x"), ("http", "http://x", "x"), ("socket", "", ""), ("socket", "", "x" * 36)):
        with pytest.raises(ValueError):
            manifest(mode, url, name)  # type: ignore[arg-type]


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """In the mode of agent.toml, or as asked for; as YAML or JSON."""
    config = tmp_path / "agent.toml"
    config.write_text("")
    assert main(["slack", "-c", str(config), "manifest"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["settings"]["socket_mode_enabled"] is True
    arguments = ["manifest", "--mode", "http", "--url", "https://x.org", "--format", "json"]
    assert main(["slack", "-c", str(config), *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["socket_mode_enabled"] is False
    assert main(["slack", "-c", str(config), "manifest", "--mode", "http"]) == 2


@pytest.fixture
async def slack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApp]:
    async with FakeApp() as server:
        monkeypatch.setenv("TEST_BOT", server.token)
        monkeypatch.setenv("TEST_APP", server.app_token)
        server.add_channel("#alerts")
        yield server


def configured(slack: FakeApp, **changes: Any) -> SlackConfig:
    values: dict[str, Any] = {
        "bot_token": Secret("env", "TEST_BOT"),
        "app_token": Secret("env", "TEST_APP"),
        "base_url": slack.url,
        "timeout": Duration(2),
    }
    return SlackConfig(**(values | changes))


async def looked(config: SlackConfig, *, commands: bool = True) -> list[Finding]:
    return await asyncio.to_thread(lambda: list(findings(config, commands)))


async def test_where_all_is_there_nothing_is_found_wanting(slack: FakeApp) -> None:
    found = await looked(configured(slack))
    assert [finding.state for finding in found] == ["ok"] * 4
    assert "#alerts" in found[-1].text


async def test_each_thing_that_is_missing_is_named_with_what_to_do(
    slack: FakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    slack.add_channel("#old", archived=True)
    slack.add_channel("#away", member=False)
    slack.scopes -= {"files:write", "commands"}
    slack.socket_enabled = False
    routes = tuple(SlackRoute(channel=name) for name in ("#old", "#away", "#none", "#alerts"))
    found = await looked(configured(slack, routes=routes))
    said = [
        (finding.state, finding.text.replace(" is missing", "").split(", ")[0], bool(finding.hint)) for finding in found
    ]
    assert said == [
        ("ok", "bot token: tocsin in Fake", False),
        ("note", "scope files:write: send charts as pictures", True),
        ("fault", "scope commands: the slash command", True),
        ("fault", "app token: socket_mode_not_enabled", True),
        ("ok", "channel #alerts: C00000001", False),
        ("fault", "channel #old: C00000002", True),
        ("note", "channel #away: C00000003", True),
        ("fault", "channel #none: not found", True),
    ]
    slack.scopes.discard("chat:write.public")
    assert [f.state for f in await looked(configured(slack, channel="#away")) if "#away" in f.text] == ["fault"]
    monkeypatch.setenv("TEST_BOT", "xoxb-other")
    [wrong] = await looked(configured(slack))
    assert (wrong.state, wrong.text) == ("fault", "bot token: invalid_auth")
    assert [finding.state for finding in await looked(SlackConfig())] == ["fault"]


async def test_a_hint_belongs_to_what_slack_said_of_the_channel(slack: FakeApp) -> None:
    """An invitation helps where the bot cannot see the channel, and against nothing else."""
    slack.add_channel("#hidden")
    for word, invites in (("channel_not_found", True), ("ratelimited", False), ("missing_scope", False)):
        slack.fail(refused(word, "conversations.info"))
        [finding] = [finding for finding in await looked(configured(slack)) if "#alerts" in finding.text]
        assert (word in finding.text, "/invite" in finding.hint) == (True, invites)


async def test_a_slack_that_does_not_answer_is_a_finding(slack: FakeApp) -> None:
    slack.fail(html(500, "auth.test"))
    [finding] = await looked(configured(slack))
    assert finding.state == "fault"
    [finding] = await looked(configured(slack, base_url="http://127.0.0.1:1/"))
    assert "cannot be asked" in finding.text


async def test_the_command_ends_by_what_it_finds(
    slack: FakeApp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(
        f'[slack]\nbot_token = {{ env = "TEST_BOT" }}\napp_token = {{ env = "TEST_APP" }}\nbase_url = "{slack.url}"\n'
    )
    assert await asyncio.to_thread(main, ["slack", "-c", str(config), "check"]) == 0
    assert "all is there" in capsys.readouterr().out
    slack.scopes.discard("chat:write")
    assert await asyncio.to_thread(main, ["slack", "-c", str(config), "check"]) == 1
    out = capsys.readouterr().out
    assert "FAULT scope chat:write is missing" in out
    assert "Reinstall" in out
    assert slack.token not in out
    assert len(BOT_SCOPES) == 12


@pytest.mark.parametrize(
    ("slack", "place", "hint"),
    [
        ({"mode": "http"}, ("slack", "mode"), "slack.signing_secret"),
        ({"app_token": Secret("env", "X")}, ("slack", "app_token"), "slack.bot_token"),
        ({"mode": "http", "signing_secret": Secret("env", "X")}, None, ""),
        ({}, None, ""),
    ],
)
def test_what_a_mode_needs_is_asked_for(slack: dict[str, Any], place: tuple[str, str] | None, hint: str) -> None:
    found = [fault for fault in faults(Config(slack=SlackConfig(**slack))) if fault.keys[0] == "slack"]
    assert [fault.keys for fault in found] == ([place] if place else [])
    assert all(hint in fault.text for fault in found)
