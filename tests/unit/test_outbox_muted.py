"""What is held back and what comes of it; and a default channel that is shut for a moment."""

from __future__ import annotations

import msgspec

from agent.errors import ChannelError
from agent.model import Incident, Severity
from tests.fakes.clock import ManualClock
from tests.unit.test_outbox import Bench, after, bench, incident

__all__ = ["bench"]


def muted(before: Incident, words: str) -> Incident:
    return msgspec.structs.replace(before, version=before.version + 1, muted=words)


async def test_a_rise_while_muted_is_shown_and_not_called_out(bench: Bench, clock: ManualClock) -> None:
    """And when it is told again, the thread says how it stands by then."""
    seen = await bench.desire(incident())
    held = await bench.desire(muted(seen, "silenced"))
    risen = await bench.desire(after(held, Severity.CRITICAL))
    await clock.advance(60)
    assert set(bench.slack.whats[1:]) == {"edit"}
    await bench.desire(muted(risen, ""))
    await clock.advance(60)
    assert bench.slack.whats[-2:] == ["edit", "reply unmuted"]


async def test_what_was_muted_all_its_life_is_never_told(bench: Bench, clock: ManualClock) -> None:
    held = await bench.desire(incident(muted="silenced"))
    over = await bench.desire(after(held, None))
    await bench.desire(msgspec.structs.replace(over, version=3, muted=""))
    await clock.advance(60)
    assert bench.slack.calls == []
    assert bench.row.state == "untold"


async def test_many_that_are_unmuted_at_once_are_a_storm(bench: Bench, clock: ManualClock) -> None:
    """The end of a maintenance window."""
    held = [await bench.desire(incident(number, muted="maintenance")) for number in range(20)]
    await clock.advance(60)
    for each in held:
        await bench.desire(muted(each, ""))
    await clock.advance(30)
    assert len([what for what in bench.slack.whats if what == "post"]) <= 5


async def test_a_storm_in_progress_is_seen_after_a_restart(bench: Bench, clock: ManualClock) -> None:
    for number in range(8):
        now = clock.now()
        await bench.desire(msgspec.structs.replace(incident(number), fired_at=now, started_at=now))
        await clock.advance(1.2)
    await bench.stop()
    bench.start()
    await bench.desire(msgspec.structs.replace(incident(8), fired_at=clock.now()))
    await clock.advance(30)
    assert any(row.id.startswith("inc_storm") for row in bench.outbox._rows.values())


async def test_a_default_channel_that_is_shut_for_a_moment_gets_no_second_message(
    bench: Bench, clock: ManualClock
) -> None:
    seen = await bench.desire(incident())
    await clock.advance(20)
    bench.slack.errors = [ChannelError("is_archived")]
    await bench.desire(after(seen, Severity.CRITICAL))
    await clock.advance(400)
    assert bench.slack.whats == ["post", "edit", "edit", "reply escalated"]
