"""How a message is looked for in a channel with much in it, by a Slack that gives little of it at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agent.alerting.messenger import Posted
from agent.config.schema import SlackConfig
from agent.config.secret import Secret
from agent.config.units import Duration
from agent.errors import RetryError
from agent.slack.sender import EVENT_TYPE, SlackMessenger
from tests.fakes.slack import Channel, FakeSlack, Said, rate_limited, slow

SINCE = 1_790_000_000.0


@pytest.fixture
async def slack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as server:
        monkeypatch.setenv("FAKE_SLACK_TOKEN", server.token)
        server.longest_page = 15
        yield server


@pytest.fixture
def alerts(slack: FakeSlack) -> Channel:
    return slack.add_channel("#alerts")


@pytest.fixture
def messenger(slack: FakeSlack) -> SlackMessenger:
    return SlackMessenger(
        SlackConfig(bot_token=Secret("env", "FAKE_SLACK_TOKEN"), base_url=slack.url, timeout=Duration(5))
    )


def said(channel: Channel, number: int, *, count: int = 1, thread_ts: str | None = None) -> str:
    """Messages with the marks "n<number>" and on, a second apart; the ts of the first."""
    for index in range(number, number + count):
        metadata = {"event_type": EVENT_TYPE, "event_payload": {"nonce": f"n{index}"}}
        ts = f"{SINCE + index:.6f}"
        channel.said.append(Said(channel.id, ts, "text", [], [], metadata, thread_ts))
    return f"{SINCE + number:.6f}"


@pytest.mark.parametrize("threaded", [True, False])
async def test_what_has_a_ts_takes_one_call_wherever_it_stands(
    slack: FakeSlack, alerts: Channel, messenger: SlackMessenger, threaded: bool
) -> None:
    thread = said(alerts, 0) if threaded else None
    said(alerts, 1, count=400, thread_ts=thread)
    ts = said(alerts, 401, thread_ts=thread)
    said(alerts, 402, count=400, thread_ts=thread)
    assert await messenger.find(alerts.id, "n401", SINCE, thread, at=ts) == Posted(alerts.id, ts)
    alerts.said = [message for message in alerts.said if message.ts != ts]
    assert await messenger.find(alerts.id, "n401", SINCE, thread, at=ts) is None
    assert len(slack.calls) == 2


async def test_a_search_goes_on_where_slack_broke_it_off(
    slack: FakeSlack, alerts: Channel, messenger: SlackMessenger
) -> None:
    """Where each second page is refused it would begin anew for ever."""
    ts = said(alerts, 0)
    said(alerts, 1, count=40)
    for _ in range(2):
        slack.fail(slow(0), rate_limited(60))
        with pytest.raises(RetryError):
            await messenger.find(alerts.id, "n0", SINCE)
        slack.calm()
    slack.fail(slow(0), rate_limited(60))
    assert await messenger.find(alerts.id, "n0", SINCE) == Posted(alerts.id, ts)
