"""The shipper sends what is committed, until the collector has it."""

from __future__ import annotations

import asyncio

import pytest

from agent.errors import TransportError
from agent.transport.inbox import Message
from agent.transport.shipper import WINDOW
from agent.transport.window import Bucket
from agent.transport.wire import Ack, Status, Topic, decode, encode
from tests.fakes.clock import settle
from tests.unit.rigs import ACK_TOPIC
from tests.unit.spools import EPOCH, HOST


async def test_birth_comes_first(make):
    """Each connection begins with a retained birth that carries its session number."""
    rig = await make()
    topic, payload, retain = rig.session.published[0]
    assert (topic, retain) == (f"tocsin/v1/{HOST}/status", True)
    assert decode(payload, Status) == Status("online", EPOCH, 100)
    rig.link.down()
    await settle()
    rig.link.up()
    await settle()
    assert decode(rig.session.published[0][1], Status).session == 101


async def test_committed_envelopes_are_sent_and_acknowledged_ones_deleted(make):
    """The whole way: put, commit, publish, ack, gone."""
    rig = await make()
    rig.sample()
    rig.sample()
    await rig.spool.flush()
    assert await rig.sent(2) == [2, 1]
    rig.session.ack(upto=2)
    await settle()
    await rig.spool.flush()
    assert rig.spool.stats().pending == 0
    stats = rig.shipper.stats
    assert (stats.sent, stats.acked, stats.resent, stats.unacked_age) == (2, 2, 0, 0.0)


async def test_window_is_64(make):
    """Never more than 64 unacknowledged; each ack lets as many follow; incidents overtake."""
    rig = await make()
    for _ in range(100):
        rig.sample()
    await rig.spool.flush()
    first = await rig.sent(WINDOW)
    await rig.quiet()
    assert first == rig.session.envelopes == list(range(100, 36, -1))
    rig.incident()
    await rig.quiet()
    assert len(rig.session.envelopes) == WINDOW
    rig.session.ack(100, 99, 98)
    assert (await rig.sent(WINDOW + 3))[WINDOW:] == [101, 36, 35]


async def test_resends_after_patience_and_not_before(make):
    """Without an ack the same bytes go out again after max(30 s, 4 x round trip)."""
    rig = await make()
    rig.sample()
    await rig.spool.flush()
    await rig.sent(1)
    await rig.clock.advance(29)
    assert rig.session.envelopes == [1]
    await rig.clock.advance(2)
    assert rig.session.envelopes == [1, 1]
    assert rig.session.published[-1] == rig.session.published[-2]
    await rig.clock.advance(31)
    assert rig.session.envelopes == [1, 1, 1]
    assert rig.shipper.stats.resent == 2
    assert rig.shipper.stats.unacked_age == pytest.approx(62)


async def test_patience_follows_the_round_trip(make):
    """A collector that takes 20 s is waited for 80 s."""
    rig = await make()
    rig.sample()
    await rig.spool.flush()
    await rig.sent(1)
    await rig.clock.advance(20)
    rig.session.ack(1)
    await settle()
    assert rig.shipper.stats.rtt == pytest.approx(20)
    rig.sample()
    await rig.spool.flush()
    await rig.sent(2)
    await rig.clock.advance(75)
    assert rig.session.envelopes == [1, 2]
    await rig.clock.advance(6)
    assert rig.session.envelopes == [1, 2, 2]


async def test_patience_is_a_parameter(make):
    """Tests that kill things need not wait 30 s."""
    rig = await make(resend_after=1.0)
    rig.sample()
    await rig.spool.flush()
    await rig.sent(1)
    await rig.clock.advance(1.01)
    assert rig.session.envelopes == [1, 1]


async def test_unacknowledged_are_sent_again_at_once_on_a_new_connection(make):
    """After a loss nobody knows what arrived: all of the window goes again, before anything new."""
    rig = await make()
    rig.sample()
    rig.incident()
    await rig.spool.flush()
    await rig.sent(2)
    rig.link.down()
    await settle()
    rig.sample()
    await rig.spool.flush()
    rig.link.up()
    assert await rig.sent(3) == [2, 1, 3]
    assert rig.shipper.stats.resent == 2
    rig.session.ack(upto=3)
    await settle()
    await rig.spool.flush()
    assert rig.spool.stats().pending == 0


async def test_hostile_acks_change_nothing(make):
    """Wrong epoch, retained, malformed, another topic, or beyond what was sent: nothing is deleted."""
    rig = await make()
    rig.sample()
    await rig.spool.flush()
    await rig.sent(1)
    rig.session.ack(1, epoch="f" * 32)
    rig.session.ack(1, retain=True)
    for payload in (b"", b"{", b'{"epoch":1}', b'{"epoch":"x","upto":"9"}', b"[" * 100_000, b"\xff"):
        rig.session.incoming.put_nowait(Message(ACK_TOPIC, payload, retain=False))
    rig.session.incoming.put_nowait(Message(f"tocsin/v1/{HOST}/commands", encode(Ack(EPOCH, 9)), retain=False))
    rig.session.ack(2, 3, 4)
    await settle()
    assert rig.spool.stats().pending == 1
    assert rig.shipper.stats.acked == 0
    assert rig.shipper.stats.ignored == 8
    rig.session.ack(upto=2**53)
    await settle()
    assert rig.shipper.stats.acked == 1


async def test_lost_publishes_are_not_refusals(make):
    """A publish that failed with its connection is neither counted nor deleted."""
    rig = await make()
    rig.session.puback = False
    rig.sample()
    await rig.spool.flush()
    await rig.sent(1)
    rig.session.futures[-1].set_exception(TransportError("gone"))
    await settle()
    assert rig.shipper.stats.refused == 0
    assert rig.spool.stats().pending == 1


async def test_retained_messages_are_said_again_on_every_connection(make):
    """Only the latest of a topic, and again after a broker that forgot; an empty one is said once."""
    rig = await make()
    topic = Topic(HOST, "health")
    rig.shipper.publish_retained(topic, b"1")
    rig.shipper.publish_retained(topic, b"2")
    await settle()
    assert rig.session.published[1:] == [(str(topic), b"2", True)]
    rig.link.down()
    await settle()
    rig.shipper.publish_retained(topic, b"3")
    rig.link.up()
    await settle()
    assert rig.session.published[1:] == [(str(topic), b"3", True)]
    rig.shipper.publish_retained(topic, b"")
    await settle()
    assert rig.session.published[2:] == [(str(topic), b"", True)]
    rig.link.down()
    await settle()
    rig.link.up()
    await settle()
    assert rig.session.published[1:] == []


async def test_retained_incident_is_cleared_when_over(make):
    """Open: kept by the broker. Resolved and acknowledged: an empty retained message, until the broker has it."""
    rig = await make()
    topic = f"tocsin/v1/{HOST}/incidents/i1"
    rig.incident(version=1)
    await rig.sent(1)
    assert rig.session.published[-1][2] is True
    rig.incident(version=2, resolved=True)
    await rig.sent(2)
    assert rig.session.published[-1][2] is True
    rig.session.puback = False
    rig.session.ack(upto=2)
    await settle()
    assert rig.session.published[-1] == (topic, b"", True)
    rig.link.down()
    await settle()
    rig.link.up()
    await settle()
    assert rig.session.published[-1] == (topic, b"", True)
    await settle()
    assert rig.spool.clears == set()
    assert len(rig.session.published) == 2


async def test_an_older_version_is_sent_without_retain(make):
    """v1, sent again after v2, must not be what the broker keeps."""
    rig = await make()
    rig.incident(version=1)
    await rig.sent(1)
    rig.incident(version=2)
    await rig.sent(2)
    await rig.clock.advance(31)
    again = [(decode(payload, dict)["seq"], retain) for _, payload, retain in rig.session.published[3:]]
    assert sorted(again) == [(1, False), (2, True)]


async def test_idle_costs_nothing(make):
    """With nothing to send nobody is woken: no timer, no poll."""
    rig = await make()
    await rig.clock.advance(1)
    assert rig.clock.sleepers == 0
    woken = []
    wait = rig.shipper._wake.wait
    rig.shipper._wake.wait = lambda: (woken.append(1), wait())[1]
    await rig.clock.advance(1000)
    assert woken == []


async def test_waiting_for_acks_costs_nothing(make):
    """While acknowledgements are awaited, the next timer is the only thing that wakes anybody."""
    rig = await make()
    rig.sample()
    await rig.spool.flush()
    await rig.sent(1)
    await rig.quiet()
    turns = []
    resend = rig.shipper._resend
    rig.shipper._resend = lambda session: (turns.append(1), resend(session))
    await rig.clock.advance(29)
    for _ in range(50):
        await settle()
    assert turns == []
    await rig.clock.advance(2)
    assert 1 <= len(turns) <= 2


async def test_a_bug_in_the_receiver_is_not_hidden(make, monkeypatch):
    """What goes wrong while acks are read ends the shipper, instead of a silent halt."""
    rig = await make()
    monkeypatch.setattr(rig.shipper, "_acknowledge", lambda ack: 1 / 0)
    rig.session.ack(1)
    await asyncio.wait({rig.task}, timeout=5)
    assert isinstance(rig.task.exception(), ZeroDivisionError)
    rig.task = asyncio.create_task(asyncio.sleep(0))


def test_bucket():
    """One second's worth at most, refilled evenly."""
    bucket = Bucket(10, 0.0)
    assert bucket.available(0.0) == 10
    bucket.spend(10)
    assert bucket.available(0.5) == 5
    assert bucket.wait_for(8) == pytest.approx(0.3)
    assert bucket.available(100.0) == 10
