"""The picture of what `graph` answers: drawn apart, and put into the thread of the answer, which waits for nothing.

It is worth less than the text that is there already: whatever goes wrong here is told in the log alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from agent.alerting.figure import duration
from agent.collector.chatops.answer import Mouth
from agent.collector.store import SeriesRow
from agent.errors import AmbiguousError, DeliveryError, RetryError, TokenError
from agent.slack import picture
from agent.slack.blocks import Message
from agent.slack.graph import MOST_LINES, Graph, Line
from agent.slack.text import plain
from agent.slack.upload import upload

log = logging.getLogger(__name__)

WAITING = 8
"""Graphs that may wait for theirs, as one is drawn at a time; the others stay text."""
TRIES, PAUSE = 3, 5.0
"""How often one is sent of which nothing was shown, and the seconds between, if Slack asks for no more."""
LONGEST_PAUSE = 60.0
UPLOAD_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Illustrated(Message):
    """An answer of which there is a picture too."""

    graph: Graph | None = None


@dataclass(frozen=True, slots=True)
class Place:
    channel: str
    thread_ts: str


def graph_of(rows: Sequence[SeriesRow], host: str, *, start: float, end: float, step: float) -> Graph:
    """`rows` are series of one metric; what all have in common is said once."""
    shown = rows[:MOST_LINES]
    common = set.intersection(*(set(row.labels.items()) for row in shown))
    about = [f"the last {duration(end - start)}", _written(common)]
    if len(rows) > len(shown):
        about.append(f"{len(shown)} of {len(rows)} series")
    return Graph(
        title=f"{shown[0].metric} on {host}",
        about=", ".join(filter(None, about)),
        unit=shown[0].unit,
        start=start,
        end=end,
        step=step,
        lines=[Line(_written(set(row.labels.items()) - common), row.points) for row in shown],
    )


def _written(labels: set[tuple[str, str]]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(labels))


async def draw(graph: Graph, about: str) -> bytes:
    """A PNG; b"" where there is none, which is in the log."""
    return await picture.drawn("agent.slack.graph", msgspec.json.encode(graph), about)


class Easel:
    """`on` goes out when Slack says that the token may send no files."""

    def __init__(self, mouth: Mouth, *, on: bool, draw: Callable[[Graph, str], Awaitable[bytes]] = draw) -> None:
        self.on = on
        self._mouth = mouth
        self._draw = draw
        self._free = asyncio.Lock()
        self._waiting = 0

    async def put(self, graph: Graph, about: str, place: Place) -> None:
        """After it is there, or given up. `about` is the request's id."""
        if not self.on or self._waiting >= WAITING:
            return
        self._waiting += 1
        try:
            async with self._free:
                png = await self._draw(graph, about)
                if png and self.on:
                    await self._send(png, graph.title, about, place)
        finally:
            self._waiting -= 1

    async def _send(self, png: bytes, title: str, about: str, place: Place) -> None:
        for attempt in range(1, TRIES + 1):
            try:
                await self._upload(png, title, about, place)
            except RetryError as error:
                if attempt == TRIES:
                    self._give_up(about, error)
                else:
                    await self._mouth.clock.sleep(min(LONGEST_PAUSE, max(PAUSE, error.after or 0.0)))
            except DeliveryError as error:
                self._give_up(about, error)
                return
            else:
                log.info("graph sent", extra={"request": about, "bytes": len(png), "attempts": attempt})
                return

    async def _upload(self, png: bytes, title: str, about: str, place: Place) -> None:
        """A file counts as a post of its channel's."""
        await self._mouth.turn("post", place.channel)
        await upload(
            self._mouth.web.call,
            png,
            name=f"{about}.png",
            title=plain(title, 200),
            channel=place.channel,
            thread_ts=place.thread_ts,
            timeout=UPLOAD_WITHIN,
        )

    def _give_up(self, about: str, error: DeliveryError) -> None:
        if isinstance(error, TokenError) and error.code in ("missing_scope", "not_allowed_token_type"):
            self.on = False
            log.warning("no graphs as pictures: the token may not send files (scope files:write)")
            return
        told = "it may be there" if isinstance(error, AmbiguousError) else ""
        log.warning("graph not sent", extra={"request": about, "error": str(error)[:200], "note": told})
