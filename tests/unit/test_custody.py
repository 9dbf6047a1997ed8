"""What of a request is the collector's own: its incidents about hosts that are gone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from agent.alerting.state import State
from agent.clock import Clock
from agent.collector.chatops.auditor import Auditor
from agent.collector.chatops.custody import HERE, Custody
from agent.collector.chatops.fanout import Fanout
from agent.collector.chatops.grants import Rights
from agent.collector.chatops.mine import KEPT
from agent.collector.chatops.orders import Order, Orders
from agent.collector.chatops.plan import Plan, Planner
from agent.collector.fleet import Gone
from agent.collector.hostwatch import HostWatch
from agent.collector.lease import Lease
from agent.collector.store import Store
from agent.config.schema import CommandGrant
from agent.errors import CommandError
from agent.transport.wire import Heartbeat
from tests.fakes.clock import ManualClock
from tests.fakes.collector import FakeFleet, FakeReader, host_entry, incident_row

ALL = Rights([CommandGrant(verbs=("*",), hosts=("*",))])
WEB = Rights([CommandGrant(verbs=("*",), hosts=("web-*",))])


class Snoozes:
    """In the place of the outbox."""

    def __init__(self) -> None:
        self.known: dict[str, float] = {}

    def snooze(self, incident_id: str, seconds: float) -> None:
        self.known[incident_id] = seconds


class Room:
    """Orders of a collector that says web-2 is gone; db-1 and web-1 are there. `told` are the changes."""

    def __init__(self, store: Store, clock: Clock) -> None:
        fleet, reader = FakeFleet(ManualClock()), FakeReader()
        fleet.entries = [host_entry("db-1"), host_entry("web-1"), host_entry("web-2", state="offline")]
        reader.rows = [incident_row(1, id="inc_1", host="web-1", metric="disk.used_percent")]
        self.clock = clock
        self.lease = Lease("b", 10.0)
        self.watch = HostWatch(State(None), clock, random.Random(1))
        self.watch.look({"web-2": Gone("silent", 46.0)}, ())
        [self.incident] = self.watch.incidents
        self.outbox, self.told = Snoozes(), []
        self.orders = Orders(Planner(fleet, reader), Fanout(None, clock), Auditor(store.audit, "b", clock))
        self.orders.keep(Custody(self.watch, self.lease, self.outbox, clock, self.told.extend))

    def order(self, text: str, host: str = "") -> Order:
        verb, *words = text.split()
        return Order("req_1", text, "slack:U1", "slash", verb, words, text, host)

    async def plan(self, text: str, rights: Rights = ALL, host: str = "") -> Plan:
        return await self.orders.plan(self.order(text, host), rights)

    async def does(self, text: str, rights: Rights = ALL) -> dict[str, tuple[str, str]]:
        states = await self.orders.carry_out(self.order(text), await self.plan(text, rights))
        return {host: (state.state, state.text) for host, state in states.items()}


@pytest.fixture
def room(clock: ManualClock, tmp_path: Path) -> Room:
    return Room(Store(f"sqlite:///{tmp_path}/audit.db", None, clock), clock)


async def test_its_own_incident_is_taken_here_in_the_name_of_the_host(room: Room) -> None:
    number = room.incident.id
    assert await room.does(f"ack {number}", WEB) == {"web-2": ("done", f"{number}: slack:U1 looks after it")}
    [(taken, _)] = room.told
    assert taken.acknowledged_by == "slack:U1"
    assert await room.does(f"snooze {number} 1h") == {"web-2": ("done", f"{number}: no reminders for 1 h")}
    assert room.outbox.known == {number: 3600.0}
    [(state, text)] = (await room.does(f"silence {number} 1h pressed")).values()
    assert (state, "held back by it now: 1" in text) == ("done", True)


async def test_a_grant_on_the_host_is_needed(room: Room) -> None:
    """Whatever host the button names."""
    only_db = Rights([CommandGrant(verbs=("*",), hosts=("db-*",))])
    with pytest.raises(CommandError, match="no grant for ack on web-2"):
        await room.plan(f"ack {room.incident.id}", only_db, host="db-1")


async def test_what_is_not_its_own_goes_to_the_host(room: Room) -> None:
    plan = await room.plan("ack inc_1")
    assert (list(plan.args), dict(plan.own)) == (["web-1"], {})
    plan = await room.plan("silence mount=/var 1h why")
    assert (list(plan.args), dict(plan.own)) == (["db-1", "web-1"], {})
    assert plan.states["web-2"].text == "offline"


async def test_a_silence_is_held_here_beside_the_hosts(room: Room) -> None:
    plan = await room.plan("silence host=web-* 1h new kernel", WEB)
    assert (list(plan.args), list(plan.own)) == (["web-1"], [HERE])
    assert (plan.states["web-2"].state, plan.states["web-2"].text) == ("offline", KEPT)
    assert (await room.does("silence host=web-* 1h new kernel", WEB))[HERE][0] == "done"
    [silence], unheard = await room.orders.silences(room.order("silences"), WEB)
    assert list(silence.ids) == [HERE]
    assert unheard["web-2"] == "offline", "of whom nothing is known, that is said"
    assert set(unheard) == {"web-1", "web-2"}
    assert room.watch.incidents[0].muted
    assert (await room.does(f"unsilence {silence.id}", WEB))[HERE][0] == "done"
    assert not room.watch.incidents[0].muted


async def test_a_silence_over_more_than_the_grant_is_neither_held_nor_ended_here(room: Room) -> None:
    plan = await room.plan("silence threshold=host 1h why", WEB)
    assert (dict(plan.own), plan.left_out) == ({}, ("db-1", HERE))
    await room.does("silence threshold=host 1h why")
    [silence], _ = await room.orders.silences(room.order("silences"), WEB)
    with pytest.raises(CommandError, match="holds a silence"):
        await room.plan(f"unsilence {silence.id}", WEB)


async def test_who_does_not_lead_says_who_does(room: Room) -> None:
    room.lease.heard("a", Heartbeat("online", delivers=True), room.clock.monotonic())
    said = await room.does("silence host=web-2 1h why")
    assert said[HERE] == ("refused", "the collector a leads, and tells of hosts that are gone")
    assert room.watch.silences() == []
    plan = await room.plan("silence host=web-1 1h why")
    assert (list(plan.args), dict(plan.own)) == (["web-1"], {})
