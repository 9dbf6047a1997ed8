"""Who tells incidents: Slack where there is a token; else the terminal."""

from __future__ import annotations

from typing import TextIO

from agent.alerting.messenger import Messenger
from agent.config.schema import SlackConfig


def messenger(slack: SlackConfig, output: TextIO | None = None) -> Messenger:
    """`output` is the terminal; by default the standard output. Only what is used is imported."""
    if slack.bot_token is None:
        from agent.slack.terminal import TerminalMessenger  # noqa: PLC0415

        return TerminalMessenger(slack.dashboard_url, output)
    from agent.slack.sender import SlackMessenger  # noqa: PLC0415

    return SlackMessenger(slack)
