"""Incidents about hosts that are gone."""

import random
from datetime import UTC, datetime

import pytest

from agent.alerting.state import State
from agent.collector.fleet import Gone
from agent.collector.hostwatch import HostWatch
from agent.config.schema import MaintenanceConfig
from agent.model import Severity, TransitionKind

LOST, SILENT, STOPPED = Gone("lost", 1.0), Gone("silent", 46.0), Gone("stopped", 1.0)


@pytest.fixture
def watch(clock):
    return HostWatch(State(None), clock, random.Random(1))


def kinds(pairs):
    return [(incident.host, transition.kind, incident.severity) for incident, transition in pairs]


def test_a_broken_connection_is_told_after_the_time_of_a_reconnect(watch, clock):
    assert watch.look({"web-1": LOST}, {"web-2"}) == []
    clock.tick(2.9)
    assert watch.look({"web-1": LOST}, {"web-2"}) == []
    clock.tick(0.2)
    [(incident, _)] = pairs = watch.look({"web-1": LOST}, {"web-2"})
    assert kinds(pairs) == [("web-1", TransitionKind.OPENED, Severity.CRITICAL)]
    assert "gone" in incident.summary
    assert watch.look({"web-1": LOST}, {"web-2"}) == []


def test_a_reconnect_is_nothing_to_tell(watch, clock):
    watch.look({"web-1": LOST}, ())
    clock.tick(2)
    assert watch.look({}, {"web-1"}) == []
    clock.tick(2)
    assert watch.look({"web-1": LOST}, ()) == []


def test_silence_is_told_at_once_as_it_has_lasted_already(watch):
    [(incident, _)] = watch.look({"web-1": SILENT}, ())
    assert incident.severity is Severity.CRITICAL
    assert "46 s" in incident.summary
    assert incident.fired_at - incident.started_at == pytest.approx(46)


def test_a_stop_may_be_a_restart(watch, clock):
    watch.look({"web-1": STOPPED}, ())
    clock.tick(100)
    assert watch.look({"web-1": STOPPED}, ()) == []
    clock.tick(21)
    assert kinds(watch.look({"web-1": STOPPED}, ())) == [("web-1", TransitionKind.OPENED, Severity.WARNING)]


def test_it_is_over_only_when_the_host_speaks(watch, clock):
    """A host that is neither gone nor there is one that nothing was heard of since our start."""
    watch.look({"web-1": SILENT}, ())
    clock.tick(5)
    assert watch.look({}, ()) == []
    [(incident, transition)] = watch.look({}, {"web-1"})
    assert (incident.state, transition.kind) == ("resolved", TransitionKind.RESOLVED)
    assert watch.incidents == []
    assert watch.look({}, {"web-1"}) == []


def test_worse_news_escalate_and_better_ones_do_not_calm(watch, clock):
    watch.look({"web-1": STOPPED}, ())
    clock.tick(121)
    watch.look({"web-1": STOPPED}, ())
    watch.look({"web-1": LOST}, ())
    clock.tick(4)
    assert kinds(watch.look({"web-1": LOST}, ())) == [("web-1", TransitionKind.ESCALATED, Severity.CRITICAL)]
    clock.tick(200)
    assert watch.look({"web-1": STOPPED}, ()) == []


async def test_everything_survives_a_restart(clock, tmp_path):
    state = await State.open(tmp_path / "state.db")
    watch = HostWatch(state, clock)
    [(incident, _)] = watch.look({"web-1": SILENT}, ())
    await state.aclose()

    state = await State.open(tmp_path / "state.db")
    again = HostWatch(state, clock)
    assert again.incidents == [incident]
    assert list(again.unsettled) == [f"{incident.id}.000001"]
    assert again.look({"web-1": SILENT}, ()) == []
    again.settled(incident.id, 1)
    await state.aclose()

    state = await State.open(tmp_path / "state.db")
    assert HostWatch(state, clock).unsettled == {}
    await state.aclose()


def muted(watch):
    return [incident.muted.split(" ")[0] for incident in watch.incidents]


def test_it_is_acknowledged_once(watch, clock):
    [(incident, _)] = watch.look({"web-1": SILENT}, ())
    clock.tick(5)
    [(after, transition)] = watch.acknowledge(incident.id, "ada")
    assert (after.acknowledged_by, after.version, transition.kind) == ("ada", 2, TransitionKind.ACKNOWLEDGED)
    assert watch.acknowledge(incident.id, "bob") == []
    with pytest.raises(KeyError):
        watch.acknowledge("inc_other", "ada")
    assert watch.unsettled[f"{incident.id}.000002"] == (after, transition)


def test_a_silence_holds_back_what_is_open_and_what_comes(watch, clock):
    """Open already: it says so. Back and gone again: never told. When the silence ends, it is told."""
    watch.look({"web-1": SILENT, "db-1": SILENT}, ())
    _, pairs = watch.silence("host=web-1", 3600, "ada", "new disks")
    assert kinds(pairs) == [("web-1", TransitionKind.MUTED, Severity.CRITICAL)]
    watch.look({"db-1": SILENT}, {"web-1"})
    clock.tick(60)
    [(again, transition)] = watch.look({"web-1": SILENT, "db-1": SILENT}, ())
    assert (transition.kind, again.version) == (TransitionKind.OPENED, 1)
    assert "new disks" in again.muted
    assert watch.look({"web-1": SILENT, "db-1": SILENT}, ()) == []
    clock.tick(3600)
    pairs = watch.look({"web-1": SILENT, "db-1": SILENT}, ())
    assert kinds(pairs) == [("web-1", TransitionKind.UNMUTED, Severity.CRITICAL)]
    assert (watch.silences(), muted(watch)) == ([], ["", ""])


def test_a_silence_ends_before_its_time(watch):
    watch.look({"web-1": SILENT}, ())
    silence, _ = watch.silence("threshold=host", 3600, "ada", "a move")
    assert watch.silences() == [silence]
    assert kinds(watch.unsilence(silence.id, "ada")) == [("web-1", TransitionKind.UNMUTED, Severity.CRITICAL)]
    with pytest.raises(KeyError):
        watch.unsilence(silence.id, "ada")


def test_a_maintenance_window_mutes_while_it_holds(clock):
    now = clock.now()
    start, end = (datetime.fromtimestamp(now + seconds, UTC) for seconds in (100, 200))
    window = MaintenanceConfig(name="kernel", match="host=web-*", start=start, end=end)
    watch = HostWatch(State(None), clock, random.Random(1), maintenance=(window,))
    gone = {"web-1": SILENT, "db-1": SILENT}
    watch.look(gone, ())
    assert muted(watch) == ["", ""]
    clock.tick(101)
    assert kinds(watch.look(gone, ())) == [("web-1", TransitionKind.MUTED, Severity.CRITICAL)]
    assert sorted(muted(watch)) == ["", "maintenance:"]
    clock.tick(100)
    assert kinds(watch.look(gone, ())) == [("web-1", TransitionKind.UNMUTED, Severity.CRITICAL)]


async def test_silences_and_who_took_it_survive_a_restart(clock, tmp_path):
    state = await State.open(tmp_path / "state.db")
    watch = HostWatch(state, clock)
    [(incident, _)] = watch.look({"web-1": SILENT}, ())
    watch.acknowledge(incident.id, "ada")
    silence, _ = watch.silence("host=web-1", 3600, "ada", "new disks")
    await state.aclose()

    state = await State.open(tmp_path / "state.db")
    again = HostWatch(state, clock)
    assert again.silences() == [silence]
    assert [(one.acknowledged_by, one.version, bool(one.muted)) for one in again.incidents] == [("ada", 3, True)]
    assert again.look({"web-1": SILENT}, ()) == []
    await state.aclose()
