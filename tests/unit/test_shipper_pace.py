"""How fast a backlog goes, what stops it, and who has the last word."""

from __future__ import annotations

from agent.config.schema import SpoolConfig
from agent.errors import DeniedError
from agent.transport.shipper import WINDOW
from agent.transport.wire import decode
from tests.fakes.clock import settle
from tests.services import eventually
from tests.unit.spools import EPOCH, LATER, Bench, config


async def test_backlog_has_its_own_rate(make, clock):
    """What is old goes at `backlog_rate`; what is new does not wait behind it."""
    rig = await make(SpoolConfig(backlog_rate=20))
    rig.link.down()
    await settle()
    for _ in range(200):
        rig.sample()
    await rig.spool.flush()
    clock.tick(120)
    rig.link.up()
    await eventually(lambda: len(rig.link.sessions) == 2, "the session")
    done = 0
    for second in range(1, 6):
        await rig.quiet()
        for seq in rig.session.envelopes[done:]:
            rig.session.ack(seq)
        done = len(rig.session.envelopes)
        assert done <= 20 * second
        for _ in range(10):
            await rig.clock.advance(0.1)
            await rig.quiet()
    assert done >= 60
    fresh = rig.sample()
    await rig.spool.flush()
    await eventually(lambda: fresh in rig.session.envelopes, "the fresh one")


async def test_a_slow_backlog_still_moves(make, clock):
    """A rate below one handful is slow, not never."""
    rig = await make(SpoolConfig(backlog_rate=5))
    rig.link.down()
    await settle()
    for _ in range(20):
        rig.sample()
    await rig.spool.flush()
    clock.tick(120)
    rig.link.up()
    await eventually(lambda: len(rig.link.sessions) == 2, "the session")
    for _ in range(20):
        await rig.clock.advance(0.1)
        await rig.quiet()
    assert 5 <= len(rig.session.envelopes) <= 15


async def test_a_backlog_that_nobody_acknowledges_stops_no_news(make, clock):
    """Of another host id, or not understood by this collector: it waits, and what is measured now goes on."""
    rig = await make()
    rig.link.down()
    await settle()
    for _ in range(100):
        rig.sample()
    await rig.spool.flush()
    clock.tick(120)
    rig.link.up()
    await eventually(lambda: len(rig.link.sessions) == 2, "the session")
    for _ in range(30):
        await rig.clock.advance(0.1)
        await rig.quiet()
    fresh = rig.sample()
    await rig.spool.flush()
    await eventually(lambda: fresh in rig.session.envelopes, "the fresh one")


async def test_slow_down_pauses_the_backlog_only(make, clock):
    """The collector can ask for a pause; alerts and fresh samples go on."""
    rig = await make()
    for _ in range(100):
        rig.sample()
    await rig.spool.flush()
    await rig.sent(WINDOW)
    clock.tick(70)
    rig.session.ack(upto=100, slow_down=20)
    await rig.quiet()
    assert len(rig.session.envelopes) == WINDOW
    fresh = rig.sample()
    await rig.spool.flush()
    await eventually(lambda: fresh in rig.session.envelopes, "the fresh one")
    assert len(rig.session.envelopes) == WINDOW + 1
    await rig.clock.advance(21)
    await rig.sent(101)


async def test_silence_of_the_collector_gives_up_the_connection(make, caplog):
    """No ack for 60 s with data under way: a new connection and a log line; ever less often if that does not help."""
    rig = await make()
    await rig.clock.advance(300)
    assert rig.link.reconnects == 0
    rig.sample()
    await rig.spool.flush()
    await rig.sent(1)
    await rig.clock.advance(59)
    assert rig.link.reconnects == 0
    await rig.clock.advance(2)
    assert rig.link.reconnects == 1
    assert "does not acknowledge" in caplog.text
    await rig.clock.advance(100)
    assert rig.link.reconnects == 1
    await rig.clock.advance(30)
    assert rig.link.reconnects == 2
    rig.session.ack(1)
    await settle()
    await rig.clock.advance(1000)
    assert rig.link.reconnects == 2


async def test_broker_acknowledges_where_there_is_no_collector(make):
    """With `ack = "broker"` the PUBACK deletes, and silence is no fault."""
    rig = await make(SpoolConfig(ack="broker"))
    rig.session.puback = False
    rig.sample()
    await rig.spool.flush()
    await rig.sent(1)
    await rig.clock.advance(10)
    assert rig.spool.stats().pending == 1
    rig.session.futures[-1].set_result(None)
    await settle()
    await rig.spool.flush()
    assert rig.spool.stats().pending == 0
    assert rig.shipper.stats.acked == 1
    await rig.clock.advance(500)
    assert rig.link.reconnects == 0


async def test_a_denied_publish_deletes_nothing(make, caplog):
    """The broker's "not authorized" leaves the envelope where it is, in both modes, and is told once."""
    rig = await make(SpoolConfig(ack="broker"))
    rig.session.puback = False
    rig.sample()
    rig.sample()
    await rig.spool.flush()
    await rig.sent(2)
    for future in rig.session.futures[-2:]:
        future.set_exception(DeniedError("not authorized"))
    await settle()
    assert rig.spool.stats().pending == 2
    assert rig.shipper.stats.refused == 2
    assert caplog.text.count("broker refuses a publish") == 1


async def test_backlog_of_an_earlier_process(make, clock, tmp_path):
    """Rows of an earlier epoch go out as they are and are acknowledged under their own epoch."""
    earlier = Bench(tmp_path / "spool", clock, config())
    await earlier.open(LATER)
    earlier.sample()
    await earlier.spool.aclose()
    rig = await make()
    rig.sample()
    await rig.spool.flush()
    await rig.sent(2)
    assert [decode(p, dict)["epoch"] for _, p, _ in rig.session.published[1:]] == [EPOCH, LATER] or [
        decode(p, dict)["epoch"] for _, p, _ in rig.session.published[1:]
    ] == [LATER, EPOCH]
    rig.session.ack(1, epoch=LATER)
    await settle()
    await rig.spool.flush()
    assert rig.spool.stats().pending == 1
