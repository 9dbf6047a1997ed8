"""The same facts as text, for where there is no Slack: on standard output, nothing is hidden on a first try."""

from __future__ import annotations

import sys
from typing import TextIO

from agent.alerting.messenger import TERMINAL, Posted
from agent.model import Incident, Transition
from agent.slack.facts import facts, headline, links, states, trend
from agent.slack.sparkline import sparkline
from agent.slack.text import plain, utc

_WIDTH = 16
_LINES = 10


class TerminalMessenger:
    """A `Messenger` that prints. `stream` None is standard output as it is when printing."""

    def __init__(self, dashboard_url: str = "", stream: TextIO | None = None) -> None:
        self._dashboard_url = dashboard_url
        self._stream = stream

    def warm(self) -> None:
        """Nothing to prepare."""

    async def post(
        self,
        incident: Incident,
        transition: Transition | None,
        channel: str,
        thread_ts: str | None,
        nonce: str,
        *,
        mention: str = "",
        small: bool = False,
    ) -> Posted:
        """A reply repeats what the edit before it has printed, so it prints nothing."""
        del channel, thread_ts, mention, small
        if transition is None:
            self._print(incident)
        return Posted(TERMINAL, nonce)

    async def edit(self, incident: Incident, channel: str, ts: str, *, mention: str = "", small: bool = False) -> None:
        del channel, ts, mention, small
        self._print(incident)

    async def find(
        self, channel: str, nonce: str, since: float, thread_ts: str | None = None, *, at: str = ""
    ) -> Posted | None:
        """What was printed before a restart is gone from nobody's eyes, but nobody can tell: print again."""
        del channel, nonce, since, thread_ts, at
        return None

    async def picture(self, png: bytes, title: str, channel: str, thread_ts: str, nonce: str) -> None:
        """A terminal shows none."""

    def _print(self, incident: Incident) -> None:
        print(block(incident, self._dashboard_url), file=self._stream or sys.stdout, flush=True)


def block(incident: Incident, dashboard_url: str = "") -> str:
    """The incident in one readable block of lines; no control character of a host's gets through."""
    rows: list[tuple[str, str]] = [*facts(incident), ("Since", utc(incident.started_at))]
    if incident.resolved_at is not None:
        rows.append(("Resolved", utc(incident.resolved_at)))
    if line := sparkline(incident.history):
        rows.append(("Hour before", f"{line}  {trend(incident)}"))
    rows += [*states(incident), *links(incident, dashboard_url), ("Incident", plain(incident.id, 80))]
    lines = [f"[{headline(incident)}]"]
    if summary := plain(incident.summary, 600):
        lines.append(f"  {summary}")
    lines += [f"  {name:<{_WIDTH}} {text}" for name, text in rows]
    for evidence in incident.evidence:
        lines.append(f"  {plain(evidence.title, 80)}")
        lines += [f"    {plain(line, 120)}" for line in evidence.lines[:_LINES]]
    return "\n".join(lines) + "\n"
