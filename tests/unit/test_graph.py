"""The course of a metric as a picture, and the road of it into a thread."""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from agent.clock import SystemClock
from agent.collector.chatops import easel as module
from agent.collector.chatops.answer import Mouth
from agent.collector.chatops.easel import WAITING, Easel, Place, draw, graph_of
from agent.collector.store import SeriesRow
from agent.config.secret import Secret
from agent.slack.graph import MOST_LINES, MOST_POINTS, TONES, Graph, Line, graph, marks
from agent.slack.sheet import BOTTOM, HEIGHT, LEFT, RIGHT, ROW, TOP, WIDTH
from agent.slack.web import Web
from tests.fakes.slack import Fault, html, rate_limited, refused, unanswered
from tests.fakes.slack_files import FakeFiles
from tests.services import eventually
from tests.unit.test_chart import near

NOW = 1_790_000_000.0
PLOT = (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)
PLACE, SHARE = "files.getUploadURLExternal", "files.completeUploadExternal"


def steady(value: float, gap: tuple[float, float] = (1, 1)) -> list[tuple[float, float]]:
    """An hour of a value, but for `gap`, in parts of it."""
    shares = [index / 240 for index in range(241)]
    return [(NOW - 3600 + share * 3600, value) for share in shares if not gap[0] < share < gap[1]]


def wanted(*lines: Line, **changes: Any) -> Graph:
    known = Graph("cpu.used_percent on web-1", "the last 1 h", "percent", NOW - 3600, NOW, 15.0, list(lines))
    return msgspec.structs.replace(known, **changes)


def pixels(png: bytes) -> Any:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return image.convert("RGB")


def test_each_series_has_its_line_and_its_words() -> None:
    """In a tone of its own, as the legend below says; two beside each other where their names are short."""
    image = pixels(graph(wanted(*(Line(f"core={core}", steady(10.0 + 20 * core)) for core in range(4)))))
    assert image.size == (WIDTH, HEIGHT + 2 * ROW)
    for tone in TONES[:4]:
        assert near(image, tone, PLOT) > 1000
        assert near(image, tone, (0, HEIGHT, WIDTH, HEIGHT + 2 * ROW)) > 200
    assert near(image, TONES[4], PLOT) == 0
    assert pixels(graph(wanted(*(Line("x" * 40, steady(1.0)) for _ in range(3))))).size[1] == HEIGHT + 3 * ROW


def test_one_series_needs_no_legend() -> None:
    assert pixels(graph(wanted(Line("", steady(50.0))))).size == (WIDTH, HEIGHT)


def test_a_gap_is_one() -> None:
    image = pixels(graph(wanted(Line("", steady(50.0, gap=(0.4, 0.6))))))
    plot = WIDTH - LEFT - RIGHT
    assert near(image, TONES[0], (LEFT + 0.42 * plot, TOP, LEFT + 0.58 * plot, HEIGHT - BOTTOM)) == 0
    assert near(image, TONES[0], (LEFT + 0.1 * plot, TOP, LEFT + 0.39 * plot, HEIGHT - BOTTOM)) > 500


def test_a_probe_that_is_rarer_than_the_step_has_no_gaps() -> None:
    image = pixels(graph(wanted(Line("", steady(50.0)[::20]))))
    assert near(image, TONES[0], (WIDTH / 2, TOP, WIDTH / 2 + 40, HEIGHT - BOTTOM)) > 50


@pytest.mark.parametrize(
    "points", [[], [(NOW - 5, math.nan), (NOW - 4, math.inf), (NOW - 3, 1e301)], [(NOW + 9, 1.0), (NOW - 3601, 1.0)]]
)
def test_nothing_to_draw_is_no_picture(points: list[tuple[float, float]]) -> None:
    assert graph(wanted(Line("", points))) == b""
    assert graph(wanted()) == b""


@given(st.floats(0, 1e10), st.floats(60, 90 * 86400))
def test_marks_of_time_are_few_round_and_apart(start: float, span: float) -> None:
    found = marks(start, start + span)
    assert 1 <= len(found) <= 6
    assert found == sorted(found)
    assert start <= found[0]
    assert found[-1] == start + span


@settings(deadline=None, max_examples=12)
@given(
    st.lists(
        st.tuples(st.text(max_size=40), st.lists(st.tuples(st.floats(NOW - 4000, NOW + 60), st.floats()), max_size=30)),
        max_size=12,
    ),
    st.sampled_from(["percent", "bytes", "bytes/s", "seconds", "", "1"]),
    st.floats(),
    st.text(max_size=40),
)
def test_whatever_stands_in_the_database_is_drawn_or_not_but_breaks_nothing(
    lines: list[tuple[str, list[tuple[float, float]]]], unit: str, step: float, text: str
) -> None:
    asked = wanted(*(Line(name, points) for name, points in lines), unit=unit, step=step, title=text, about=text)
    png = graph(asked)
    assert png == b"" or pixels(png).size[1] <= HEIGHT + MOST_LINES * ROW


async def test_it_is_drawn_in_a_process_of_its_own() -> None:
    asked = wanted(Line("a=1", steady(5.0)), Line("a=2", steady(7.0)))
    assert await draw(asked, "req_1") == graph(asked)
    many = wanted(*(Line("x" * 300, [(NOW - n, 1.0) for n in range(10 * MOST_POINTS)]) for _ in range(30)))
    assert 0 < len(await draw(many, "req_1")) < 200_000


# -- what is drawn of the answers of the database


def row(labels: dict[str, str]) -> SeriesRow:
    return SeriesRow("disk.used_percent", "percent", "gauge", labels, [(NOW - 1, 5.0)])


def test_what_all_have_in_common_is_said_once() -> None:
    found = graph_of(
        [row({"fs": "ext4", "mount": "/"}), row({"fs": "ext4", "mount": "/var"})], "w", start=0, end=3600, step=15
    )
    assert (found.title, found.about) == ("disk.used_percent on w", "the last 1 h, fs=ext4")
    assert [line.name for line in found.lines] == ["mount=/", "mount=/var"]
    [alone] = graph_of([row({"mount": "/"})], "w", start=0, end=3600, step=15).lines
    assert alone.name == ""


def test_of_too_many_series_some_are_drawn_and_that_is_said() -> None:
    found = graph_of([row({"mount": str(n)}) for n in range(20)], "w", start=0, end=3600, step=15)
    assert len(found.lines) == MOST_LINES
    assert "8 of 20 series" in found.about


# -- into a thread


@pytest.fixture
async def slack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeFiles]:
    async with FakeFiles() as slack:
        slack.add_channel("#ops")
        monkeypatch.setenv("FAKE_SLACK_TOKEN", slack.token)
        monkeypatch.setattr(module, "PAUSE", 0.05)
        yield slack
        assert not slack.violations


@pytest.fixture
async def web(slack: FakeFiles) -> AsyncIterator[Web]:
    web = Web(Secret("env", "FAKE_SLACK_TOKEN"), slack.url, 1.0)
    yield web
    await web.aclose()


async def at_hand(graph: Graph, about: str) -> bytes:
    return b"\x89PNG" + about.encode()


async def posted(web: Web) -> Place:
    answer = await web.call("chat.postMessage", {"channel": "#ops", "text": "x"})
    return Place(answer["channel"], answer["ts"])


def easel(slack: FakeFiles, web: Web, draw: Any = at_hand) -> Easel:
    return Easel(Mouth(web, SystemClock(), slack.url), on=True, draw=draw)


async def test_it_stands_in_the_thread(slack: FakeFiles, web: Web) -> None:
    place = await posted(web)
    await easel(slack, web).put(wanted(title="cpu\x1b on web-1"), "req_1", place)
    (shown,) = slack.pictures("#ops")
    assert (shown.thread_ts, shown.name, shown.title) == (place.thread_ts, "req_1.png", "cpu  on web-1")


@pytest.mark.parametrize(
    ("fault", "shown"),
    [
        (html(500, PLACE), 1),
        (rate_limited(1, SHARE), 1),
        (unanswered(SHARE), 1),
        (refused("not_in_channel", SHARE), 0),
    ],
)
async def test_what_goes_wrong_ends_in_one_picture_or_none(
    slack: FakeFiles, web: Web, fault: Fault, shown: int
) -> None:
    """Tried again where nothing was shown; never twice."""
    place = await posted(web)
    slack.fail(fault)
    await easel(slack, web).put(wanted(), "req_1", place)
    assert len(slack.pictures("#ops")) == shown


async def test_without_the_scope_it_is_asked_for_once(slack: FakeFiles, web: Web) -> None:
    slack.scopes -= {"files:write"}
    place, one = await posted(web), easel(slack, web)
    for number in range(3):
        await one.put(wanted(), f"req_{number}", place)
    assert not one.on
    assert len(slack.called(PLACE)) == 1


async def test_one_is_drawn_at_a_time_and_few_wait(slack: FakeFiles, web: Web) -> None:
    """However many ask; the rest have their text."""
    busy, most, go = 0, 0, asyncio.Event()

    async def slow(graph: Graph, about: str) -> bytes:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await go.wait()
        busy -= 1
        return b""

    one = easel(slack, web, slow)
    tasks = [asyncio.create_task(one.put(wanted(), str(n), Place("C1", "1.1"))) for n in range(30)]
    await eventually(lambda: sum(task.done() for task in tasks) == 30 - WAITING, "refusals")
    go.set()
    await asyncio.gather(*tasks)
    assert most == 1
