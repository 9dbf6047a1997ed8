"""Storms and outages on a clock turned by hand: how many messages there are, and what they say."""

from __future__ import annotations

import itertools
import random
from typing import Any

import msgspec
import pytest

from agent.alerting.messenger import Posted
from agent.config.schema import SlackRoute
from agent.config.units import Duration
from agent.errors import AmbiguousError, DeliveryError, RetryError, TokenError
from agent.model import Incident, Severity, Transition
from agent.slack.blocks import message, reply
from tests.fakes.clock import ManualClock
from tests.fakes.slack_rules import check_message
from tests.unit.test_outbox import NOW, Bench, Recorder, after, bench

__all__ = ["bench"]
HOUR, DAY = 3600, 86400


class Reader(Recorder):
    """Remembers what stands in the channel, as the real code would render it, and holds it to Slack's rules."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.standing: dict[str, Incident] = {}
        self.threads: dict[str, str | None] = {}
        self.said: list[tuple[str, str]] = []

    def read(self, incident: Incident) -> str:
        shown = message(incident)
        check_message(shown.text, shown.blocks, shown.attachments)
        return shown.text

    async def post(
        self,
        incident: Incident,
        transition: Transition | None,
        channel: str,
        thread_ts: str | None,
        *rest: Any,
        **keys: Any,
    ) -> Posted:
        posted = await super().post(incident, transition, channel, thread_ts, *rest, **keys)
        if transition is None:
            self.standing[posted.ts], self.threads[posted.ts] = incident, thread_ts
            self.read(incident)
        else:
            self.said.append((f"{keys['mention']} {reply(incident, transition).text}".strip(), str(thread_ts)))
        return posted

    async def edit(self, incident: Incident, channel: str, ts: str, **keys: Any) -> None:
        await super().edit(incident, channel, ts, **keys)
        self.standing[ts] = incident
        self.read(incident)


@pytest.fixture
async def reader(bench: Bench, clock: ManualClock) -> Reader:
    made = bench.slack = Reader(clock)
    bench.outbox._messenger = made
    return made


def many(number: int, clock: ManualClock, severity: Severity = Severity.WARNING, hosts: int = 100) -> Incident:
    now = clock.now()
    host, rule = f"web-{number % hosts}", f"rule-{number % 7}"
    return Incident(f"inc_{number:04}", host, rule, "cpu.used_percent", severity, severity, now, now, now, 1)


async def test_a_storm_is_one_message_with_a_thread(bench: Bench, clock: ManualClock, reader: Reader) -> None:
    """300 incidents of 100 hosts in 30 s: few messages in the first minute, all readable, each there in the end."""
    die = random.Random(1)
    for number in range(300):
        severity = Severity.CRITICAL if die.random() < 0.1 else Severity.WARNING
        await bench.desire(many(number, clock, severity))
        await clock.advance(0.1)
    await clock.advance(30)
    posts = [what for what, at, _ in reader.calls if what == "post" and at <= 60]
    print(f"{len(posts)} messages posted in the first minute of a storm of 300")
    assert len(posts) <= 10
    roots = [incident for ts, incident in reader.standing.items() if reader.threads[ts] is None]
    assert len(roots) <= 9
    [storm] = [incident for incident in roots if incident.metric == "storm"]
    assert "299 incidents in 29 s on 100 hosts" in storm.summary
    assert "critical" in storm.summary
    children = [incident for ts, incident in reader.standing.items() if reader.threads[ts] is not None]
    assert all(child.severity is Severity.CRITICAL for child in children)
    await clock.advance(300 * 10)
    assert all(row.state == "delivered" for row in bench.outbox.shown())
    assert {incident.id for incident in reader.standing.values()} >= {f"inc_{number:04}" for number in range(300)}


async def test_what_ends_before_its_turn_is_counted_only(bench: Bench, clock: ManualClock, reader: Reader) -> None:
    opened = [await bench.desire(many(number, clock)) for number in range(40)]
    await clock.advance(5)
    for incident in opened:
        await bench.desire(after(incident, None))
    await clock.advance(60)
    assert len([what for what in reader.whats if what == "post"]) <= 4
    [storm] = [incident for incident in reader.standing.values() if incident.metric == "storm"]
    assert storm.state == "resolved"
    assert "all of them are over" in storm.summary
    assert sum(incident.state == "open" for incident in reader.standing.values()) == 0


async def test_a_storm_survives_a_restart(bench: Bench, clock: ManualClock, reader: Reader) -> None:
    for number in range(20):
        await bench.desire(many(number, clock))
    await clock.advance(10)
    await bench.stop()
    bench.start()
    await bench.desire(many(20, clock))
    await clock.advance(20 * 10)
    storms = [incident for incident in reader.standing.values() if incident.metric == "storm"]
    assert len(storms) == 1
    assert "21 more" in storms[0].threshold or "20 more" in storms[0].threshold


async def test_eight_in_a_minute_are_no_storm(bench: Bench, clock: ManualClock, reader: Reader) -> None:
    for number in range(24):
        await bench.desire(many(number, clock))
        await clock.advance(7.6)
    assert not any(incident.metric == "storm" for incident in reader.standing.values())


async def test_a_storm_ends_though_the_clock_was_set_back(bench: Bench, clock: ManualClock, reader: Reader) -> None:
    """By weeks: five minutes of calm end it as ever, over a restart too."""
    for number in range(20):
        await bench.desire(many(number, clock))
    await clock.advance(20 * 10)
    clock.set_back(21 * DAY)
    await bench.stop()
    bench.start()
    await clock.advance(1)
    await bench.stop()
    await clock.advance(310)
    bench.start()
    await bench.desire(many(20, clock))
    await clock.advance(60)
    [(ts, _)] = [(ts, incident) for ts, incident in reader.standing.items() if incident.id == "inc_0020"]
    assert reader.threads[ts] is None
    assert len([incident for incident in reader.standing.values() if incident.metric == "storm"]) == 1


async def test_what_a_storm_is_may_change(bench: Bench, clock: ManualClock, reader: Reader) -> None:
    """At a reload, in both directions; what opened before it counts."""
    bench.outbox.reroute("#alerts", [], (4, 60.0))
    for number in range(4):
        await bench.desire(many(number, clock))
        await clock.advance(2)
    bench.outbox.reroute("#alerts", [], (5, 60.0))
    await bench.desire(many(4, clock))
    await clock.advance(2)
    assert not any(incident.metric == "storm" for incident in reader.standing.values())
    bench.outbox.reroute("#alerts", [], (3, 5.0))
    await bench.desire(many(5, clock))
    await clock.advance(10)
    assert not any(incident.metric == "storm" for incident in reader.standing.values())
    bench.outbox.reroute("#alerts", [], (3, 60.0))
    await bench.desire(many(6, clock))
    await clock.advance(10)
    assert any(incident.metric == "storm" for incident in reader.standing.values())


@pytest.mark.parametrize("error", [RetryError("unreachable"), AmbiguousError("http_503"), TokenError("token_revoked")])
async def test_after_six_hours_one_digest_and_what_still_stands(
    bench: Bench, clock: ManualClock, reader: Reader, error: DeliveryError
) -> None:
    """What opened and ended meanwhile is in the digest alone; what was told before is brought up to date."""
    old = await bench.desire(many(0, clock))
    reader.errors = [error] * 100_000
    gone: list[Incident] = []
    stands: list[Incident] = []
    for number in range(1, 31):
        incident = await bench.desire(many(number, clock))
        await clock.advance(300)
        later = after(incident, None if number % 3 else Severity.CRITICAL)
        later = await bench.desire(msgspec.structs.replace(later, updated_at=clock.now()))
        (gone if number % 3 else stands).append(later)
    flips = msgspec.structs.replace(after(old, Severity.CRITICAL), updated_at=clock.now(), version=3)
    await bench.desire(flips)
    await clock.advance(6 * 3600 - 30 * 300)
    print(f"down for {bench.outbox.down_for / 3600:.1f} h, {len(bench.outbox.waiting())} incidents wait")
    calls = len(reader.calls)
    reader.errors = []
    await clock.advance(300 + 60)
    digests = [incident for incident in reader.standing.values() if incident.metric == "digest"]
    assert len(digests) == 1
    assert "30 incidents opened; 20 are over" in digests[0].summary
    assert "11 critical" in digests[0].summary
    told = {incident.id: incident for incident in reader.standing.values()}
    assert not set(told) & {incident.id for incident in gone}
    assert {incident.id for incident in stands} <= set(told)
    for incident in [*stands, flips]:
        assert told[incident.id].severity == incident.severity, "nothing stale is shown as current"
    assert reader.whats[calls:][-len(stands) - 4 :].count("post") >= len(stands)
    assert bench.outbox.down_for == 0


async def test_what_arrived_after_all_turns_green_where_it_is(
    bench: Bench, clock: ManualClock, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slack showed it and did not say so: it is over by now, and the digest tells of it, but it must not stay red."""

    sought: list[tuple[str, str | None]] = []

    async def find(
        channel: str, nonce: str, since: float, thread_ts: str | None = None, *, at: str = ""
    ) -> Posted | None:
        sought.append((nonce, thread_ts))
        reader.note("find", nonce)
        return Posted("Calerts", "77") if nonce == sought[0][0] else None

    monkeypatch.setattr(reader, "find", find)
    reader.errors = [AmbiguousError("http_503")] * 100_000
    incident = await bench.desire(many(1, clock))
    await clock.advance(300)
    await bench.desire(msgspec.structs.replace(after(incident, None), updated_at=clock.now()))
    await clock.advance(600)
    calls, reader.errors = len(reader.calls), []
    await clock.advance(400)
    assert reader.whats[calls:] == ["find", "post", "find", "edit", "reply resolved"], "the digest, then the incident"
    assert reader.standing["77"].state == "resolved"
    assert {thread for _, thread in sought} <= {None, ""}, "where it was posted: in the channel"


async def test_a_short_outage_needs_no_digest(bench: Bench, clock: ManualClock, reader: Reader) -> None:
    reader.errors = [RetryError("unreachable")] * 4
    await bench.desire(many(1, clock))
    await clock.advance(120)
    assert [incident.metric for incident in reader.standing.values()] == ["cpu.used_percent"]


ROUTE = SlackRoute(
    escalate_after=Duration(900), escalate_to="U0BOSS", remind_every=Duration(3600), channel="#alerts", mention="@here"
)


async def test_reminders_back_off_and_one_goes_to_others(bench: Bench, clock: ManualClock, reader: Reader) -> None:
    """Nobody has acknowledged: others are called once, and the thread is reminded ever more seldom."""
    bench.outbox.reroute("#alerts", [ROUTE])
    await bench.desire(msgspec.structs.replace(many(1, clock), fired_at=NOW, started_at=NOW))
    moments = []
    for _ in range(int(3 * 86400 / 300)):
        before = len(reader.said)
        await clock.advance(300)
        if len(reader.said) > before:
            moments.append(clock.monotonic())
    assert "U0BOSS" in reader.said[0][0]
    assert all("U0BOSS" not in said for said, _ in reader.said[1:])
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert moments[0] <= 1200
    assert gaps == sorted(gaps)
    assert len(moments) <= 7


@pytest.mark.parametrize("told_before", [False, True])
async def test_a_clock_set_back_costs_one_period(
    bench: Bench, clock: ManualClock, reader: Reader, told_before: bool
) -> None:
    """By weeks, before the first reminder or after it: the next comes one period later, and others are called."""
    bench.outbox.reroute("#alerts", [ROUTE])
    await bench.desire(msgspec.structs.replace(many(1, clock), fired_at=NOW, started_at=NOW))
    await clock.advance(4600 if told_before else 60)
    before = len(reader.said)
    assert bool(before) is told_before
    clock.set_back(21 * DAY)
    if told_before:
        await clock.advance(2 * HOUR - 300)
        assert len(reader.said) == before, "the second comes two hours after the first"
        await clock.advance(900)
    else:
        await clock.advance(1300)
        assert "U0BOSS" in reader.said[0][0]
        await clock.advance(2 * HOUR + 600)
    assert len(reader.said) == before + (1 if told_before else 2)


async def test_it_goes_on_telling_that_it_flaps(bench: Bench, clock: ManualClock, reader: Reader) -> None:
    incident = await bench.desire(many(1, clock))
    await clock.advance(20)
    flapping = msgspec.structs.replace(incident, version=2, flapping=True, updated_at=clock.now())
    await bench.desire(flapping)
    await clock.advance(60)
    said = len(reader.said)
    clock.set_back(21 * DAY)
    await clock.advance(HOUR + 600)
    assert len(reader.said) == said + 1


async def test_a_snooze_ends_when_the_longest_would(bench: Bench, clock: ManualClock, reader: Reader) -> None:
    bench.outbox.reroute("#alerts", [ROUTE])
    await bench.desire(msgspec.structs.replace(many(1, clock), fired_at=NOW, started_at=NOW))
    await clock.advance(60)
    bench.outbox.snooze("inc_0001", HOUR)
    clock.set_back(365 * DAY)
    await clock.advance(30 * DAY - 600)
    assert reader.said == []
    await clock.advance(1200)
    assert len(reader.said) == 1


async def test_a_clock_that_was_behind_for_a_while_calls_nobody_early(
    bench: Bench, clock: ManualClock, reader: Reader
) -> None:
    bench.outbox.reroute("#alerts", [ROUTE])
    await bench.desire(msgspec.structs.replace(many(1, clock), fired_at=NOW, started_at=NOW))
    clock.set_back(365 * DAY)
    await clock.advance(590)
    clock.set_back(-365 * DAY)
    await clock.advance(280)
    assert reader.said == []
    await clock.advance(300)
    assert "U0BOSS" in reader.said[0][0]


async def test_a_clock_that_was_behind_for_a_while_ends_no_snooze(
    bench: Bench, clock: ManualClock, reader: Reader
) -> None:
    bench.outbox.reroute("#alerts", [ROUTE])
    await bench.desire(msgspec.structs.replace(many(1, clock), fired_at=NOW, started_at=NOW))
    bench.outbox.snooze("inc_0001", 10 * DAY)
    clock.set_back(365 * DAY)
    await clock.advance(600)
    clock.set_back(-365 * DAY)
    await clock.advance(9 * DAY)
    assert reader.said == []
    await clock.advance(DAY)
    assert len(reader.said) == 1


async def test_each_time_a_clock_is_set_back_costs_one_period(bench: Bench, clock: ManualClock, reader: Reader) -> None:
    """What was told just before the second time is not told again at once."""
    bench.outbox.reroute("#alerts", [SlackRoute(channel="#alerts", remind_every=Duration(HOUR))])
    await bench.desire(msgspec.structs.replace(many(1, clock), fired_at=NOW, started_at=NOW))
    clock.set_back(21 * DAY)
    await clock.advance(HOUR + 600)
    assert len(reader.said) == 1
    clock.set_back(DAY)
    await clock.advance(2 * HOUR - 600)
    assert len(reader.said) == 1
    await clock.advance(1200)
    assert len(reader.said) == 2


async def test_whoever_takes_it_hears_no_more(bench: Bench, clock: ManualClock, reader: Reader) -> None:
    bench.outbox.reroute("#alerts", [ROUTE])
    seen = await bench.desire(many(1, clock))
    await bench.desire(msgspec.structs.replace(seen, version=2, acknowledged_by="ada", acknowledged_at=NOW))
    await clock.advance(86400)
    assert reader.said == []


async def test_snoozed_for_a_while(bench: Bench, clock: ManualClock, reader: Reader) -> None:
    bench.outbox.reroute("#alerts", [ROUTE])
    await bench.desire(many(1, clock))
    await clock.advance(60)
    bench.outbox.snooze("inc_0001", 7200)
    await clock.advance(7000)
    assert reader.said == []
    await clock.advance(400)
    assert len(reader.said) == 1
    with pytest.raises(KeyError):
        bench.outbox.snooze("inc_9", 60)


async def test_the_most_pressing_goes_first(bench: Bench, clock: ManualClock, reader: Reader) -> None:
    """New critical > rise > recovery > new warning, whatever came first."""
    bench.outbox._weather._after = 100
    first, second = [await bench.desire(many(number, clock)) for number in (1, 2)]
    await clock.advance(20)
    await bench.outbox.hold()
    calls = len(reader.calls)
    await bench.desire(many(3, clock))
    await bench.desire(after(first, None))
    await bench.desire(after(second, Severity.CRITICAL))
    await bench.desire(many(4, clock, Severity.CRITICAL))
    bench.outbox.resume(gently=False)
    await clock.advance(20)
    order = [(what, about) for what, _, about in reader.calls[calls:]]
    assert [what for what, _ in order[:3]] == ["post", "edit", "edit"]
    posts = [incident.id for incident in reader.standing.values()][2:]
    assert posts == ["inc_0004", "inc_0003"]
