"""A picture into a thread: three calls, and what each of them may do to us."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agent.config.schema import SlackConfig
from agent.config.secret import Secret
from agent.config.units import Duration
from agent.errors import AmbiguousError, AnewError, DeliveryError, RetryError, TokenError
from agent.slack.sender import SlackMessenger
from tests.fakes.slack import Fault, empty, html, rate_limited, refused, reset, unanswered
from tests.fakes.slack_files import FakeFiles

PNG = b"\x89PNG" + bytes(5000)
PLACE, SHARE = "files.getUploadURLExternal", "files.completeUploadExternal"


@pytest.fixture
async def slack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeFiles]:
    async with FakeFiles() as slack:
        slack.add_channel("#alerts")
        monkeypatch.setenv("FAKE_SLACK_TOKEN", slack.token)
        yield slack


@pytest.fixture
def messenger(slack: FakeFiles) -> SlackMessenger:
    token = Secret("env", "FAKE_SLACK_TOKEN")
    return SlackMessenger(SlackConfig(bot_token=token, base_url=slack.url, timeout=Duration(1)))


async def thread(slack: FakeFiles, messenger: SlackMessenger) -> tuple[str, str]:
    """Where a message is that a picture can be put under."""
    answer = await messenger._call("chat.postMessage", {"channel": "#alerts", "text": "x"})
    return answer["channel"], answer["ts"]


async def test_a_picture_stands_in_its_thread(slack: FakeFiles, messenger: SlackMessenger) -> None:
    channel, ts = await thread(slack, messenger)
    await messenger.picture(PNG, "WARNING: disk\x1bon web-1", channel, ts, "inc_1.2")
    (shown,) = slack.pictures("#alerts")
    assert (shown.body, shown.name, shown.title) == (PNG, "inc_1.2.png", "WARNING: disk on web-1")
    assert shown.thread_ts == ts


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (html(500, PLACE), RetryError),
        (empty(PLACE), RetryError),
        (reset(PLACE), RetryError),
        (unanswered(PLACE), RetryError),
        (rate_limited(3, PLACE), RetryError),
        (refused("missing_scope", PLACE), TokenError),
        (refused("invalid_arguments", PLACE), DeliveryError),
        (rate_limited(3, SHARE), RetryError),
        (refused("thread_not_found", SHARE), AnewError),
        (html(503, SHARE), AmbiguousError),
        (reset(SHARE), AmbiguousError),
        (unanswered(SHARE), AmbiguousError),
    ],
)
async def test_only_the_last_call_may_have_shown_it(
    slack: FakeFiles, messenger: SlackMessenger, fault: Fault, error: type[DeliveryError]
) -> None:
    """So only its silence is ambiguous; before it nothing was shown, and all can be done again."""
    place = await thread(slack, messenger)
    slack.fail(fault)
    with pytest.raises(DeliveryError) as caught:
        await messenger.picture(PNG, "title", *place, "inc_1.1")
    assert type(caught.value) is error
    assert len(slack.pictures("#alerts")) == (fault == unanswered(SHARE))


async def test_bytes_that_do_not_arrive_can_be_sent_again(slack: FakeFiles, messenger: SlackMessenger) -> None:
    place = await thread(slack, messenger)
    slack.upload_status = 503
    with pytest.raises(RetryError):
        await messenger.picture(PNG, "title", *place, "inc_1.1")
    slack.upload_status = 200
    await messenger.picture(PNG, "title", *place, "inc_1.1")
    assert len(slack.pictures("#alerts")) == 1


async def test_without_the_scope_it_is_refused(slack: FakeFiles, messenger: SlackMessenger) -> None:
    place = await thread(slack, messenger)
    slack.scopes -= {"files:write"}
    with pytest.raises(TokenError, match="missing_scope"):
        await messenger.picture(PNG, "title", *place, "inc_1.1")


async def test_an_address_that_is_none_is_not_opened(slack: FakeFiles, messenger: SlackMessenger) -> None:
    """Nor a file of ours read, whatever an answer says."""
    place = await thread(slack, messenger)
    slack.url = slack.url.replace("http://", "file:///")
    with pytest.raises(RetryError, match="no address"):
        await messenger.picture(PNG, "title", *place, "inc_1.1")


async def test_buttons_are_shown_where_somebody_hears_them(slack: FakeFiles, messenger: SlackMessenger) -> None:
    token = Secret("env", "FAKE_SLACK_TOKEN")
    for given in ({"app_token": token}, {"signing_secret": token}):
        assert SlackMessenger(SlackConfig(bot_token=token, base_url=slack.url, **given))._actions
    assert not messenger._actions
