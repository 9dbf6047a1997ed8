"""The outbox on a clock turned by hand: what goes out when, and what is given up for what."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from agent.alerting.messenger import Posted
from agent.alerting.outbox import Outbox
from agent.alerting.pace import Pace
from agent.alerting.route import Destination, route
from agent.alerting.state import State
from agent.config.schema import SlackRoute
from agent.errors import AmbiguousError, ChannelError, DeliveryError, RetryError, ShrinkError, TokenError
from agent.model import DeliveryState, Incident, Severity, Transition
from agent.slack.errors import answer_error, error_of
from tests.fakes.clock import ManualClock, settle

NOW = 1_790_000_000.0


def incident(number: int = 1, severity: Severity = Severity.WARNING, **keys: Any) -> Incident:
    return Incident(f"inc_{number}", "web-1", "Disk", "disk.used_percent", severity, severity, NOW, NOW, NOW, 1, **keys)


def after(before: Incident, severity: Severity | None) -> Incident:
    """The next version: another severity, or resolved."""
    changes: dict[str, Any] = {"state": "resolved", "resolved_at": NOW} if severity is None else {"severity": severity}
    return msgspec.structs.replace(before, version=before.version + 1, **changes)


class Recorder:
    """Notes every call with its time; raises what it was told to."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.calls: list[tuple[str, float, str]] = []
        self.errors: list[DeliveryError | Exception] = []
        self.small: list[bool] = []

    def note(self, what: str, about: str) -> None:
        self.calls.append((what, self.clock.monotonic(), about))
        if self.errors:
            raise self.errors.pop(0)

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
        self.small.append(small)
        self.note("post" if transition is None else f"reply {transition.kind}", channel)
        return Posted("C" + channel.strip("#C"), str(len(self.calls)))

    async def edit(self, incident: Incident, channel: str, ts: str, *, mention: str = "", small: bool = False) -> None:
        self.note("edit", str(incident.version))

    async def find(
        self, channel: str, nonce: str, since: float, thread_ts: str | None = None, *, at: str = ""
    ) -> Posted | None:
        self.note("find", nonce)
        return None

    @property
    def whats(self) -> list[str]:
        return [what for what, _, _ in self.calls]


class Bench:
    """An outbox that runs, with a state that outlives it."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.state = State(None)
        self.slack = Recorder(clock)
        self.changes = 0
        self.routes: tuple[SlackRoute, ...] = ()
        self.start()

    def start(self) -> None:
        self.outbox = Outbox(self.state, self.slack, self.clock, routes=self.routes, on_change=self.changed)
        self.worker = asyncio.create_task(self.outbox.run())

    def changed(self) -> None:
        self.changes += 1

    async def desire(self, incident: Incident) -> Incident:
        self.outbox.desire(incident)
        await settle()
        return incident

    async def stop(self) -> None:
        self.worker.cancel()
        await asyncio.gather(self.worker, return_exceptions=True)

    @property
    def row(self) -> DeliveryState:
        return self.outbox.shown()[0]


@pytest.fixture
async def bench(clock: ManualClock) -> AsyncIterator[Bench]:
    made = Bench(clock)
    yield made
    await made.stop()


async def test_the_first_message_goes_out_at_once(bench: Bench) -> None:
    """Without any time passing."""
    await bench.desire(incident())
    assert bench.slack.calls == [("post", 0.0, "#alerts")]
    assert (bench.row.state, bench.row.version, bench.row.channel) == ("delivered", 1, "Calerts")
    assert bench.changes > 0


async def test_posts_to_one_channel_keep_a_second_apart(bench: Bench, clock: ManualClock) -> None:
    """The worst first; another channel does not wait."""
    bench.outbox.reroute("#alerts", (SlackRoute(match={"mount": "/db"}, channel="#db"),))
    for number, severity in enumerate((Severity.WARNING, Severity.WARNING, Severity.CRITICAL)):
        bench.outbox.desire(incident(number, severity))
    bench.outbox.desire(incident(9, labels={"mount": "/db"}))
    await clock.advance(10)
    alerts = [at for what, at, channel in bench.slack.calls if "alerts" in channel]
    assert all(later - earlier >= 1 for earlier, later in itertools.pairwise(alerts))
    assert [at for _, at, channel in bench.slack.calls if channel == "#db"] == [0.0]
    assert len(bench.slack.calls) == 4


async def test_a_fall_waits_and_a_rise_does_not(bench: Bench, clock: ManualClock) -> None:
    """Edits that can wait are ten seconds from the last call; rise and recovery go out at once."""
    seen = await bench.desire(incident(severity=Severity.CRITICAL))
    seen = await bench.desire(after(seen, Severity.WARNING))
    await clock.advance(9.9)
    assert bench.slack.whats == ["post"]
    await clock.advance(0.2)
    assert bench.slack.whats == ["post", "edit"]
    seen = await bench.desire(after(seen, Severity.CRITICAL))
    assert bench.slack.whats == ["post", "edit", "edit", "reply escalated"]
    await clock.advance(2)
    await bench.desire(after(seen, None))
    assert bench.slack.whats[4:] == ["edit", "reply resolved"]


async def test_news_of_the_same_severity_does_not_take_back_a_rise(bench: Bench, clock: ManualClock) -> None:
    """Evidence that comes right behind a rise leaves its reply to be told; a fall takes it back."""
    first = await bench.desire(incident())
    risen = after(first, Severity.CRITICAL)
    bench.outbox.desire(risen)
    bench.outbox.desire(after(risen, Severity.CRITICAL))
    await clock.advance(30)
    assert bench.slack.whats == ["post", "edit", "reply escalated"]
    again = after(after(after(risen, Severity.CRITICAL), Severity.WARNING), Severity.CRITICAL)
    bench.outbox.desire(msgspec.structs.replace(again, version=7))
    bench.outbox.desire(msgspec.structs.replace(again, version=8, severity=Severity.WARNING))
    await clock.advance(30)
    assert bench.slack.whats[3:] == ["edit"]


async def test_what_was_told_is_offered_with_its_place(bench: Bench, clock: ManualClock) -> None:
    """A post, and a reply behind it; an edit tells nobody."""
    shown: list[tuple[str, int, str]] = []
    bench.outbox._on_shown = lambda one, channel, ts: shown.append((channel, one.version, ts))
    first = await bench.desire(incident())
    risen = await bench.desire(after(first, Severity.CRITICAL))
    assert shown == [("Calerts", 1, "1")]
    await clock.advance(5)
    assert shown[1:] == [("Calerts", 2, "1")]
    await bench.desire(after(risen, Severity.WARNING))
    await clock.advance(30)
    assert bench.slack.whats[-1] == "edit"
    assert len(shown) == 2


async def test_a_storm_of_transitions_is_one_edit(bench: Bench, clock: ManualClock) -> None:
    """Only what stands in the end is shown."""
    seen = await bench.desire(incident(severity=Severity.CRITICAL))
    for severity in [Severity.WARNING, Severity.INFO] * 5:
        seen = after(seen, severity)
        bench.outbox.desire(seen)
    bench.outbox.desire(after(seen, Severity.INFO))
    await clock.advance(15)
    assert [about for what, _, about in bench.slack.calls if what == "edit"] == ["12"]


async def test_what_is_over_before_it_was_told_is_told_once(bench: Bench, clock: ManualClock) -> None:
    """Opened and resolved while Slack was away: one green message, no reply."""
    bench.slack.errors = [RetryError("unreachable")]
    seen = await bench.desire(incident())
    await bench.desire(after(seen, None))
    await clock.advance(5)
    assert bench.slack.whats == ["post", "post"]
    assert (bench.row.state, bench.row.version) == ("delivered", 2)


async def test_retry_after_holds_for_every_post_and_over_a_restart(bench: Bench, clock: ManualClock) -> None:
    """Other incidents keep the window, too, and so does the next process."""
    bench.slack.errors = [RetryError("ratelimited", after=30)]
    await bench.desire(incident(1))
    await bench.desire(incident(2))
    await clock.advance(10)
    await bench.stop()
    bench.start()
    await clock.advance(19.9)
    assert bench.slack.whats == ["post"]
    await clock.advance(5)
    assert bench.slack.whats == ["post", "post", "post"]


async def test_back_off_doubles_up_to_five_minutes_and_never_ends(bench: Bench, clock: ManualClock) -> None:
    """An outage of a day: some hundred tries, and the message at its end."""
    bench.slack.errors = [RetryError("unreachable")] * 200
    await bench.desire(incident())
    await clock.advance(40_000)
    times = [at for _, at, _ in bench.slack.calls]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] <= 1.05  # the pace of the channel
    assert max(gaps) <= 300
    assert min(gaps[12:]) >= 240
    bench.slack.errors = []
    await clock.advance(305)
    assert bench.row.state == "delivered"


async def test_a_success_frees_the_others(bench: Bench, clock: ManualClock) -> None:
    """When Slack is back, nobody waits for the rest of a long back-off."""
    bench.slack.errors = [RetryError("unreachable")] * 12
    await bench.desire(incident(1))
    await clock.advance(400)
    assert bench.row.state == "pending"
    bench.slack.errors = [RetryError("unreachable")]
    await bench.desire(incident(2))
    await clock.advance(5)
    assert [row.state for row in bench.outbox.shown()] == ["delivered", "delivered"]


async def test_a_refused_token_parks_all_until_it_is_tried_again(bench: Bench, clock: ManualClock) -> None:
    """One try in five minutes, for all incidents together."""
    bench.slack.errors = [TokenError("invalid_auth")] * 2
    await bench.desire(incident(1))
    await bench.desire(incident(2))
    await clock.advance(299)
    assert bench.slack.whats == ["post"]
    await clock.advance(2)
    assert bench.slack.whats == ["post", "post"]
    await clock.advance(305)
    assert [row.state for row in bench.outbox.shown()] == ["delivered", "delivered"]


async def test_a_default_channel_at_fault_is_tried_again(bench: Bench, clock: ManualClock) -> None:
    """Somebody may invite us yet."""
    bench.slack.errors = [ChannelError("not_in_channel")]
    await bench.desire(incident())
    await clock.advance(299)
    assert bench.slack.whats == ["post"]
    await clock.advance(2)
    assert bench.row.state == "delivered"


async def test_what_cannot_be_looked_for_is_sent_again(bench: Bench, clock: ManualClock) -> None:
    """Without the right to read history, rather twice than never."""
    bench.slack.errors = [AmbiguousError("timeout"), TokenError("missing_scope")]
    await bench.desire(incident())
    await clock.advance(5)
    assert bench.slack.whats == ["post", "find", "post"]


async def test_refused_even_when_small_is_dead_until_there_is_news(bench: Bench, clock: ManualClock) -> None:
    """No endless loop over a message that Slack will not have; the next transition is a new try."""
    bench.slack.errors = [ShrinkError("invalid_blocks")] * 2
    seen = await bench.desire(incident())
    await clock.advance(1000)
    assert bench.slack.small == [False, True]
    assert bench.row.state == "dead"
    await bench.desire(after(seen, Severity.CRITICAL))
    await clock.advance(2)
    assert bench.row.state == "delivered"


async def test_a_fault_of_ours_does_not_end_delivery(bench: Bench, clock: ManualClock) -> None:
    """A bug in one message: the others go out, and this one is tried again."""
    bench.slack.errors = [RuntimeError("bug")]
    await bench.desire(incident(1))
    await bench.desire(incident(2))
    await clock.advance(10)
    assert [row.state for row in bench.outbox.shown()] == ["delivered", "delivered"]


async def test_old_deliveries_are_forgotten(bench: Bench, clock: ManualClock) -> None:
    """What was resolved a day ago is not listed; what is open is, however old."""
    seen = await bench.desire(incident(1))
    await bench.desire(after(seen, None))
    await clock.advance(2)
    await bench.desire(incident(2))
    await clock.advance(90_000)
    await bench.desire(incident(3))
    await clock.advance(2)
    assert [row.incident for row in bench.outbox.shown()] == ["inc_2", "inc_3"]


def test_routes_go_by_severity_and_labels() -> None:
    """The first that matches; none is the default channel without a mention."""
    routes = [
        SlackRoute(severity="critical", match={"mount": "/db*"}, channel="#db", mention="@here"),
        SlackRoute(severity="critical", mention="U012345"),
    ]
    critical = incident(severity=Severity.CRITICAL, labels={"mount": "/db1"})
    assert route(routes, critical, "#a", NOW) == Destination("#db", "@here")
    assert route(routes, incident(severity=Severity.CRITICAL), "#a", NOW) == Destination("#a", "U012345")
    assert route(routes, incident(labels={"mount": "/db1"}), "#a", NOW) == Destination("#a", "")
    assert route([SlackRoute(match={"host": "web-*"}, channel="#web")], incident(), "#a", NOW) == Destination("#web")


def test_edits_keep_below_forty_a_minute() -> None:
    """A short burst, and then the pace."""
    pace, now, made = Pace(), 0.0, 0
    while now < 60:
        now = max(now, pace.ready("edit", "C1", now))
        pace.spend("edit", "C1", now)
        made += 1
    assert 40 <= made <= 49


@pytest.mark.parametrize(
    ("status", "retry_after", "code", "kind"),
    [
        (429, "3", "ratelimited", RetryError),
        (429, None, "", RetryError),
        (500, None, "", AmbiguousError),
        (200, None, "", AmbiguousError),
        (200, None, "fatal_error", AmbiguousError),
        (200, None, "service_unavailable", RetryError),
        (200, None, "channel_not_found", ChannelError),
        (200, None, "token_revoked", TokenError),
        (200, None, "msg_too_long", ShrinkError),
        (200, None, "never_heard_of", DeliveryError),
    ],
)
def test_every_answer_has_its_consequence(
    status: int, retry_after: str | None, code: str, kind: type[DeliveryError]
) -> None:
    """The API's word, or its silence, becomes one of our errors."""
    assert type(answer_error(status, retry_after, code)) is kind


def test_retry_after_is_read() -> None:
    """And half a minute kept where it cannot be."""
    assert isinstance(first := answer_error(429, "3", ""), RetryError)
    assert isinstance(second := answer_error(429, "soon", ""), RetryError)
    assert (first.after, second.after) == (3, 30)
    assert str(error_of("invalid_auth")) == "invalid_auth"
