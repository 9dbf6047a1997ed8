"""The fleet: who is online, who is not, and of whom nobody knows."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from agent.collector import fleet as fleet_module
from agent.collector.fleet import Fleet
from agent.collector.live import Hub, Subscription
from agent.collector.store import HostRow, IncidentRow, Received
from agent.model import ComponentHealth, DeliveryState, Health, Incident, Metric, Severity, Transition, TransitionKind
from agent.transport import wire
from tests.fakes.clock import ManualClock

EPOCH, NEXT = "a" * 32, "b" * 32


class Watched:
    """A fleet, and everything that it publishes."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.hub = Hub()
        self.fleet = Fleet(clock, self.hub, 45.0)
        self._events: Subscription = self.hub.subscribe()

    def state(self, host: str = "web-1") -> str | None:
        entry = self.fleet.host(host)
        return None if entry is None else entry["state"]

    def published(self) -> list[tuple[str, Any]]:
        events = [(event.kind, event.data) for event in self._events._events]
        self._events._events.clear()
        return events

    def birth(self, session: int = 1, epoch: str = EPOCH, *, retain: bool = False) -> None:
        status = wire.Status("online", epoch, session, "0.1", labels={"role": "web"})
        self.fleet.status("web-1", status, retain=retain)

    def will(self, session: int = 1, epoch: str = EPOCH, *, retain: bool = False) -> None:
        self.fleet.status("web-1", wire.Status("offline", epoch, session), retain=retain)


@pytest.fixture
def watched(clock: ManualClock) -> Watched:
    return Watched(clock)


def received(envelope: wire.AnyEnvelope) -> Received:
    payload = wire.encode(envelope)
    return Received(wire.Topic(envelope.host, "metrics", "cpu"), envelope, payload, wire.fingerprint(payload))


def sample(time: float, value: float = 1.0, probe: str = "cpu", *, epoch: str = EPOCH, seq: int = 1) -> Received:
    return received(
        wire.MetricsEnvelope(
            schema=1,
            host="web-1",
            epoch=epoch,
            seq=seq,
            time=time,
            probe=probe,
            status="ok",
            duration=0.1,
            metrics=(Metric("cpu.used_percent", value, "percent"),),
        )
    )


def incident(version: int, state: str = "open", severity: Severity = Severity.WARNING, name: str = "i-1") -> Received:
    what = Incident(
        name,
        "web-1",
        "busy",
        "cpu.used_percent",
        severity,
        severity,
        1.0,
        1.0,
        1.0,
        version,
        state=state,  # type: ignore[arg-type]
    )
    step = Transition(name, version, TransitionKind.OPENED, severity, 1.0)
    return received(
        wire.IncidentEnvelope(schema=1, host="web-1", epoch=EPOCH, seq=1, time=1.0, incident=what, transition=step)
    )


def test_birth_silence_and_return(watched: Watched) -> None:
    """Online at its birth, unknown after offline_after of silence, online again with any message; each told once."""
    watched.birth()
    assert watched.state() == "online"
    watched.clock.tick(45)
    watched.fleet.sweep()
    assert watched.state() == "online"
    watched.clock.tick(0.1)
    watched.fleet.sweep()
    watched.fleet.sweep()
    assert watched.state() == "unknown"
    watched.fleet.heard("web-1")
    watched.fleet.heard("web-1")
    assert [data["state"] for kind, data in watched.published() if kind == "host"] == ["online", "unknown", "online"]


def test_the_will_of_the_present_session_is_offline(watched: Watched) -> None:
    """At once; and messages that come after it prove life."""
    watched.birth(session=7)
    watched.will(session=7)
    assert watched.state() == "offline"
    watched.clock.tick(1000)
    watched.fleet.sweep()
    assert watched.state() == "offline"
    watched.fleet.heard("web-1")
    assert watched.state() == "online"


@pytest.mark.parametrize(("session", "epoch"), [(6, EPOCH), (6, NEXT), (7, NEXT)])
def test_the_will_of_another_session_is_ignored(watched: Watched, session: int, epoch: str) -> None:
    """An old connection that dies late, or another process under the same number, says nothing about this one."""
    watched.birth(session=7)
    watched.will(session=session, epoch=epoch)
    assert watched.state() == "online"


def test_a_retained_will_of_a_birth_that_we_missed(watched: Watched) -> None:
    """We were away while the host started anew and died: its last will is later than the birth we know."""
    watched.fleet.restore([HostRow("web-1", 1.0, 2.0, "online", EPOCH, 7)])
    watched.will(session=9, epoch=NEXT, retain=True)
    assert watched.state() == "offline"


def test_an_old_birth_does_not_overtake_a_new_one(watched: Watched) -> None:
    """Of one epoch the higher session counts; a new epoch counts whatever its number (a clock was set back)."""
    watched.birth(session=7)
    watched.birth(session=6)
    watched.will(session=6)
    assert watched.state() == "online"
    watched.birth(session=2, epoch=NEXT)
    watched.will(session=2, epoch=NEXT)
    assert watched.state() == "offline"


def test_retained_messages_are_no_sign_of_life(watched: Watched) -> None:
    """After our restart: unknown, with last_seen from the database, until something live comes."""
    watched.fleet.restore([HostRow("web-1", 1.0, 2.0, "online", EPOCH, 7, "0.1", {"role": "db"}, {"score": 50.0})])
    watched.birth(session=7, retain=True)
    entry = watched.fleet.host("web-1")
    assert entry is not None
    assert (entry["state"], entry["last_seen"], entry["first_seen"]) == ("unknown", 2.0, 1.0)
    assert (entry["labels"], entry["health"]) == ({"role": "web"}, {"score": 50.0})
    watched.fleet.heard("web-1")
    assert watched.state() == "online"
    assert watched.fleet.host("nobody") is None


def test_restored_state_does_not_replace_what_is_heard(watched: Watched) -> None:
    """The database may come up after the broker: the live birth stays, first_seen is the older."""
    watched.birth(session=9)
    watched.fleet.restore([HostRow("web-1", 1.0, 2.0, "offline", NEXT, 3)])
    entry = watched.fleet.host("web-1")
    assert entry is not None
    assert (entry["state"], entry["first_seen"], entry["last_seen"]) == ("online", 1.0, watched.clock.now())


def test_health_is_shown_and_told(watched: Watched) -> None:
    """With its components, unknown ones as None, in the entry and as an event."""
    health = Health(5.0, 93.0, "GOOD", {"cpu": ComponentHealth(90.0, "A"), "cache": ComponentHealth(None)})
    watched.fleet.health("web-1", wire.HealthMessage(1, "web-1", health), retain=False)
    [*_, (kind, entry)] = watched.published()
    assert kind == "host"
    assert (entry["health"]["score"], entry["health"]["status"]) == (93.0, "GOOD")
    assert entry["health"]["components"] == {
        "cpu": {"score": 90.0, "grade": "A"},
        "cache": {"score": None, "grade": ""},
    }


def test_samples_are_told_newest_only(watched: Watched) -> None:
    """A backlog on its way in is no live picture; `latest` holds the newest run of each probe."""
    watched.fleet.committed([sample(10.0, 1.0), sample(30.0, 3.0), sample(20.0, 2.0), sample(5.0, 9.0, probe="load")])
    told = [(data["probe"], data["time"]) for kind, data in watched.published() if kind == "sample"]
    assert told == [("cpu", 10.0), ("cpu", 30.0), ("load", 5.0)]
    latest = watched.fleet.latest("web-1")
    assert [(run["probe"], run["time"], run["metrics"][0].value) for run in latest] == [
        ("cpu", 30.0, 3.0),
        ("load", 5.0, 9.0),
    ]
    assert watched.fleet.latest("nobody") == []


def test_a_clock_that_was_ahead_freezes_no_picture(watched: Watched) -> None:
    """Once a host's clock is set right, its samples are news again: in the same process, and after a new start."""
    watched.birth(1)
    watched.fleet.committed([sample(90_000.0, 1.0, seq=5), sample(100.0, 2.0, seq=6), sample(50.0, 9.0, seq=4)])
    assert [run["time"] for run in watched.fleet.latest("web-1")] == [100.0]
    watched.fleet.committed([sample(90_000.0, 1.0, seq=7)])
    watched.birth(2, NEXT)
    watched.fleet.committed([sample(200.0, 3.0, epoch=NEXT), sample(90_010.0, 1.0, seq=8)])
    assert [run["time"] for run in watched.fleet.latest("web-1")] == [200.0]


def test_open_incidents_are_counted_by_version(watched: Watched) -> None:
    """A late copy of an older version neither reopens nor recounts; the worst severity is that of the open ones."""
    watched.fleet.committed([incident(2, "resolved"), incident(1), incident(1, severity=Severity.CRITICAL, name="i-2")])
    entry = watched.fleet.host("web-1")
    assert entry is not None
    assert (entry["incidents"], entry["worst"]) == (1, "critical")
    told = [data for kind, data in watched.published() if kind == "incident"]
    assert [(data["id"], data["state"]) for data in told] == [("i-1", "resolved"), ("i-2", "open")]
    assert set(told[0]) == {*IncidentRow.__struct_fields__, "delivery"}


def test_incidents_from_the_database(watched: Watched) -> None:
    """What is open there counts, unless we know better; what is not open there any more does not."""
    watched.birth()
    watched.fleet.committed([incident(3, "resolved", name="over"), incident(1, name="gone"), incident(5, name="newer")])
    rows = [
        ("web-1", "over", 2, Severity.CRITICAL),
        ("web-1", "newer", 4, Severity.INFO),
        ("web-1", "other", 1, Severity.INFO),
    ]
    watched.fleet.restore_incidents(rows)
    entry = watched.fleet.host("web-1")
    assert entry is not None
    assert (entry["incidents"], entry["worst"]) == (2, "warning")


def test_deliveries_are_joined_and_told_when_they_change(watched: Watched) -> None:
    """The state of an incident's Slack message, per host; unchanged ones are not told again."""
    delivered = DeliveryState("i-1", 1, "delivered", "#alerts", "1.2", 1)
    pending = DeliveryState("i-2", 1, "pending", next_try=9.0, error="ratelimited")
    watched.fleet.deliveries("web-1", wire.DeliveriesMessage(1, "web-1", 1.0, (delivered, pending)), retain=False)
    assert watched.fleet.delivery("web-1", "i-1") == {
        "version": 1,
        "state": "delivered",
        "channel": "#alerts",
        "ts": "1.2",
        "attempts": 1,
        "error": "",
        "next_try": None,
    }
    assert watched.fleet.delivery("db-1", "i-1") is None
    assert [data["incident"] for kind, data in watched.published() if kind == "delivery"] == ["i-1", "i-2"]
    watched.fleet.deliveries("web-1", wire.DeliveriesMessage(1, "web-1", 2.0, (delivered,)), retain=False)
    assert [kind for kind, _ in watched.published() if kind == "delivery"] == []
    assert watched.fleet.delivery("web-1", "i-2") is None


def test_changed_hosts_are_handed_out_once(watched: Watched) -> None:
    """For the database: what changed since the last time, again if it could not be kept."""
    watched.birth(session=7)
    [row] = watched.fleet.take_changed()
    assert (row.host, row.state, row.epoch, row.session, row.labels) == ("web-1", "online", EPOCH, 7, {"role": "web"})
    assert watched.fleet.take_changed() == []
    watched.fleet.keep_changed([row])
    assert watched.fleet.take_changed() == [row]


async def test_who_goes_with_the_broker_is_given_the_time_to_come_back(watched: Watched, clock: ManualClock) -> None:
    """A broker gives all wills as it ends; that says nothing of hosts. Who goes later, or was gone, is gone at once."""
    fleet = watched.fleet
    fleet.connected()
    watched.birth()
    await clock.advance(1)
    watched.will()
    fleet.disconnected()
    await clock.advance(300)
    assert fleet.absent() == {}
    fleet.connected()
    await clock.advance(30)
    assert fleet.absent() == {}
    await clock.advance(6)
    assert fleet.absent()["web-1"].how == "lost"
    fleet.disconnected()
    fleet.connected()
    watched.birth(2)
    assert fleet.absent() == {}
    watched.will(2)
    assert fleet.absent()["web-1"].how == "lost"


async def test_a_collector_that_starts_with_the_broker_gives_hosts_the_same_time(
    watched: Watched, clock: ManualClock
) -> None:
    """The wills that the broker has kept, of a time when we were not there, say as little; neither does our wait."""
    fleet = watched.fleet
    fleet.restore([HostRow("web-1", 1.0, 2.0, "online", EPOCH, 7), HostRow("web-2", 1.0, 2.0, "online", EPOCH, 7)])
    await clock.advance(300)  # the broker is away
    fleet.connected()
    watched.will(7, retain=True)
    await clock.advance(30)
    assert fleet.absent() == {}
    await clock.advance(6)
    assert {name: gone.how for name, gone in fleet.absent().items()} == {"web-1": "lost", "web-2": "silent"}


async def test_a_connection_that_breaks_again_and_again_hides_nobody(watched: Watched, clock: ManualClock) -> None:
    """The time to come back is that with a broker, over all connections since the host was heard."""
    fleet = watched.fleet
    fleet.connected()
    watched.birth()
    watched.will()
    for _ in range(3):
        fleet.disconnected()
        await clock.advance(100)
        fleet.connected()
        assert fleet.absent() == {}
        await clock.advance(15)
    assert fleet.absent()["web-1"].how == "lost"
    watched.birth(2)
    fleet.disconnected()
    fleet.connected()
    await clock.advance(30)
    assert fleet.absent() == {}


def test_the_newest_runs_are_bounded_by_their_bytes(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand probes of a mebibyte each, from one host, must not be a gibibyte here."""
    size = len(sample(1.0).payload)
    monkeypatch.setattr(fleet_module, "MAX_LATEST", 3 * size)
    for number in range(10):
        watched.fleet.committed([sample(1.0, probe=f"p{number:02}")])
    assert 0 < len(watched.fleet.latest("web-1")) <= 3
    watched.fleet.committed([sample(2.0, 2.0, "p00", seq=2)])
    assert watched.fleet.latest("web-1")[0]["time"] == 2.0


def test_so_are_those_of_all_hosts(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    item = sample(1.0)
    monkeypatch.setattr(fleet_module, "ALL_LATEST", 3 * len(item.payload))
    for number in range(10):
        envelope = structs.replace(item.envelope, host=f"web-{number}")
        watched.fleet.committed([received(envelope)])
    assert sum(len(watched.fleet.latest(f"web-{number}")) for number in range(10)) == 3


def test_names_without_end_are_not_remembered(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "MAX_HOSTS", 5)
    watched.birth()
    for number in range(100):
        watched.fleet.heard(f"forged-{number}")
        watched.fleet.status(f"forged-{number}", wire.Status("offline", EPOCH, 1), retain=False)
    assert len(watched.fleet.hosts()) == 5
    assert watched.state() == "online"
    watched.will()
    assert watched.state() == "offline"


def test_a_run_too_large_to_remember_leaves_no_older_one(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there before would be shown as the present state for ever; and so would a backlog that comes late."""
    watched.fleet.committed([sample(1.0)])
    monkeypatch.setattr(fleet_module, "MAX_LATEST", len(sample(1.0).payload) + 10)
    large = sample(3.0, 1.0 / 3.0, "cpu", seq=3 * 10**9)
    assert len(large.payload) > fleet_module.MAX_LATEST
    watched.fleet.committed([large])
    watched.fleet.committed([sample(2.0, seq=2)])
    assert watched.fleet.latest("web-1") == []
    watched.fleet.committed([sample(4.0, seq=4 * 10**9)])
    assert [one["time"] for one in watched.fleet.latest("web-1")] == [4.0]


def test_hosts_that_are_not_shown_take_no_room_from_the_others(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.fleet.committed([sample(1.0)])
    monkeypatch.setattr(fleet_module, "MAX_HOSTS", 1)
    monkeypatch.setattr(fleet_module, "ALL_LATEST", 10 * len(sample(1.0).payload))
    for number in range(20):
        envelope = structs.replace(sample(1.0).envelope, host=f"forged-{number}")
        watched.fleet.committed([received(envelope)])
    watched.fleet.committed([sample(2.0, probe="disk", seq=2)])
    assert [one["probe"] for one in watched.fleet.latest("web-1")] == ["cpu", "disk"]


def test_what_is_open_is_remembered_longer_than_what_is_over(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "MAX_INCIDENTS", 5)
    watched.fleet.committed([incident(1, severity=Severity.CRITICAL)])
    for number in range(10):
        watched.fleet.committed([incident(1, name=f"i{number}"), incident(2, "resolved", name=f"i{number}")])
    entry = watched.fleet.host("web-1")
    assert entry is not None
    assert (entry["incidents"], entry["worst"]) == (1, "critical")
