"""Pictures beside messages: once each, never twice, and nothing waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.alerting import pictures as module
from agent.alerting.messenger import TERMINAL
from agent.alerting.pictures import TRIES, WAITING, Pictures
from agent.alerting.state import State
from agent.errors import AmbiguousError, AnewError, DeliveryError, RetryError, TokenError
from agent.model import Incident, Severity
from agent.slack.samples import samples
from tests.fakes.clock import ManualClock
from tests.services import eventually

WARNING = samples(1_790_000_000.0)[0].incident
CRITICAL = replace(WARNING, severity=Severity.CRITICAL, peak=Severity.CRITICAL, version=2)
OVER = replace(CRITICAL, state="resolved", version=3)


class Rig:
    """Draws its own id; keeps what was sent; raises what it was told to."""

    def __init__(self, clock: ManualClock, state: State) -> None:
        self.clock = clock
        self.sent: list[tuple[str, str, str, str]] = []
        self.drawn: list[str] = []
        self.errors: list[DeliveryError | Exception] = []
        self.pictures = Pictures(state, self, self.draw, clock)
        self.task = asyncio.create_task(self.pictures.run())

    async def draw(self, incident: Incident) -> bytes:
        self.drawn.append(incident.id)
        return b"png"

    async def picture(self, png: bytes, title: str, channel: str, thread_ts: str, nonce: str) -> None:
        self.sent.append((title, channel, thread_ts, nonce))
        if self.errors:
            raise self.errors.pop(0)

    async def show(self, *incidents: Incident, channel: str = "C1") -> None:
        for incident in incidents:
            self.pictures.offer(incident, channel, "1.0")
        await self.clock.advance(200)


@pytest.fixture
async def rig(clock: ManualClock) -> AsyncIterator[Rig]:
    rig = Rig(clock, State(None))
    yield rig
    rig.task.cancel()


async def test_one_when_it_opens_and_one_for_a_rise(rig: Rig) -> None:
    """Whatever else is edited in between."""
    await rig.show(WARNING, replace(WARNING, version=2))
    await rig.show(replace(WARNING, version=3))
    await rig.show(CRITICAL)
    await rig.show(replace(CRITICAL, version=5), replace(WARNING, version=6), replace(CRITICAL, version=7))
    assert [nonce for *_, nonce in rig.sent] == [f"{WARNING.id}.2", f"{WARNING.id}.2"]
    assert rig.sent[0][:3] == ("WARNING: disk-space on web-1", "C1", "1.0")


@pytest.mark.parametrize(
    "incident",
    [OVER, replace(WARNING, muted="silenced"), replace(WARNING, history=()), replace(WARNING, history=(None,) * 60)],
)
async def test_some_get_none(rig: Rig, incident: Incident) -> None:
    """What is over, what is held back, and what has no past."""
    await rig.show(incident)
    assert rig.drawn == []


async def test_the_terminal_shows_no_pictures_nor_where_they_are_off(rig: Rig) -> None:
    await rig.show(WARNING, channel=TERMINAL)
    rig.pictures.on = False
    await rig.show(WARNING)
    assert rig.drawn == []


async def test_a_restart_sends_none_twice(clock: ManualClock, tmp_path: Path) -> None:
    """Not even one that was under way when the process was killed."""
    state = await State.open(tmp_path / "alerts.db")
    rig = Rig(clock, state)
    rig.pictures.offer(WARNING, "C1", "1.0")
    await eventually(lambda: rig.sent, "a picture")
    rig.task.cancel()
    await state.aclose()
    state = await State.open(tmp_path / "alerts.db")
    again = Rig(clock, state)
    again.pictures.offer(WARNING, "C1", "1.0")
    again.pictures.offer(OVER, "C1", "1.0")
    await clock.advance(100)
    again.task.cancel()
    assert again.sent == []
    assert state.read("picture", int) == {}
    await state.aclose()


async def test_what_was_not_shown_is_tried_again(rig: Rig) -> None:
    """A few times, and not before Slack allows it."""
    rig.errors = [RetryError("ratelimited", after=60.0), RetryError("unreachable")]
    rig.pictures.offer(WARNING, "C1", "1.0")
    await rig.clock.advance(59)
    assert len(rig.sent) == 1
    await rig.clock.advance(100)
    assert len(rig.sent) == 3
    rig.errors = [RetryError("unreachable") for _ in range(9)]
    await rig.show(CRITICAL)
    assert len(rig.sent) == 3 + TRIES


@pytest.mark.parametrize("error", [AmbiguousError("timeout"), AnewError("thread_not_found"), ValueError("a fault")])
async def test_what_may_have_arrived_is_left_alone(rig: Rig, error: Exception) -> None:
    """And the next incident gets its picture as if nothing had been."""
    rig.errors = [error]
    await rig.show(WARNING)
    await rig.show(replace(WARNING, id="inc_2"))
    assert [nonce for *_, nonce in rig.sent] == [f"{WARNING.id}.1", "inc_2.1"]


async def test_a_token_that_may_not_send_files_is_told_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.errors = [TokenError("missing_scope")]
    for number in range(5):
        await rig.show(replace(WARNING, id=f"inc_{number}"))
    assert len(rig.sent) == 1
    assert [record.message for record in caplog.records] == [
        "no pictures: the token may not send files (scope files:write)"
    ]
    rig.pictures.on = True  # a reload
    await rig.show(WARNING)
    assert len(rig.sent) == 2


async def test_a_storm_is_no_picture_book(rig: Rig) -> None:
    """A few, and with pauses between them."""
    for number in range(100):
        rig.pictures.offer(replace(WARNING, id=f"inc_{number:03}"), "C1", "1.0")
    await rig.clock.advance(2)
    assert len(rig.sent) == 1
    await rig.clock.advance(100)
    assert len(rig.sent) == WAITING


@given(st.lists(st.sampled_from([WARNING, CRITICAL, OVER]), max_size=12), st.data())
async def test_never_more_than_one_for_each_severity(steps: list[Incident], data: st.DataObject) -> None:
    """Whatever order versions are shown in, and whatever fails."""
    rig = Rig(ManualClock(), State(None))
    failures = [AmbiguousError("timeout"), RetryError("reset"), TokenError("invalid_auth")]
    for step in steps:
        rig.errors = data.draw(st.lists(st.sampled_from(failures), max_size=1))
        before = len(rig.drawn)
        await rig.show(step)
        assert len(rig.drawn) - before <= 1
        if step is OVER:
            break
    assert len(rig.drawn) <= 2
    rig.task.cancel()


async def test_what_nobody_resolves_is_forgotten_at_last(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest first; memory and file are bounded."""
    monkeypatch.setattr(module, "KEPT", 3)
    for number in range(5):
        await rig.show(replace(WARNING, id=f"inc_{number}"))
    assert set(rig.pictures._sent) == {"inc_2", "inc_3", "inc_4"}
    assert set(rig.pictures._state._facts) == {("picture", key) for key in rig.pictures._sent}
