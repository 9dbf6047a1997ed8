"""The shipper against a connection that a test holds in its hands; the spool under it is real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from agent.config.schema import SpoolConfig
from agent.errors import DeniedError, TransportError
from agent.transport.inbox import Message
from agent.transport.shipper import WINDOW, Shipper
from agent.transport.window import Bucket
from agent.transport.wire import Ack, Status, Topic, decode, encode
from tests.fakes.clock import ManualClock, settle
from tests.services import eventually
from tests.unit.test_spool import EPOCH, HOST, LATER, Bench, config

ACK_TOPIC = f"tocsin/v1/{HOST}/ack"


class FakeSession:
    """Records what is published; a test brings the PUBACKs and the messages."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.published: list[tuple[str, bytes, bool]] = []
        self.futures: list[asyncio.Future[None]] = []
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.puback = True

    def post(self, topic: str, payload: bytes, *, retain: bool = False) -> asyncio.Future[None]:
        self.published.append((topic, payload, retain))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.futures.append(future)
        if self.puback:
            future.set_result(None)
        return future

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        await self.post(topic, payload, retain=retain)

    def listen(self, topic: str) -> None:
        raise AssertionError(f"nothing here comes from another host: {topic}")

    async def messages(self) -> AsyncIterator[Message]:
        while True:
            yield await self.incoming.get()

    @property
    def envelopes(self) -> list[int]:
        """Numbers of the envelopes published, in order."""
        return [
            decode(payload, dict)["seq"]
            for topic, payload, _ in self.published
            if payload and topic.split("/")[3] in ("metrics", "incidents", "gaps")
        ]

    def ack(self, *seqs: int, upto: int = 0, epoch: str = EPOCH, slow_down: float = 0, retain: bool = False) -> None:
        self.incoming.put_nowait(Message(ACK_TOPIC, encode(Ack(epoch, upto, seqs, slow_down)), retain))


class FakeLink:
    """Serves one session after another, as the test says."""

    def __init__(self) -> None:
        self.sessions: list[FakeSession] = []
        self.reconnects = 0
        self._lost = asyncio.Event()
        self._next = asyncio.Event()
        self.up()

    def up(self) -> None:
        self._next.set()

    def down(self) -> None:
        self._lost.set()

    async def reconnect(self) -> None:
        self.reconnects += 1

    async def run(self, on_session) -> None:
        while True:
            await self._next.wait()
            self._next.clear()
            self._lost.clear()
            session = FakeSession(100 + len(self.sessions))
            self.sessions.append(session)
            handler = asyncio.ensure_future(on_session(session))
            lost = asyncio.ensure_future(self._lost.wait())
            try:
                await asyncio.wait({handler, lost}, return_when=asyncio.FIRST_COMPLETED)
                if handler.done():
                    handler.result()
            finally:
                for task in (handler, lost):
                    task.cancel()
                await asyncio.wait({handler, lost})


class Rig(Bench):
    def __init__(self, directory, clock: ManualClock, settings: SpoolConfig) -> None:
        super().__init__(directory, clock, settings)
        self.link = FakeLink()
        self.shipper: Shipper

    async def start(self, **more) -> None:
        await self.open()
        self.shipper = Shipper(
            self.spool, self.link, HOST, EPOCH, self.clock, lambda n: Status("online", EPOCH, n), **more
        )
        self.task = asyncio.create_task(self.shipper.run())
        await settle()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})
        if not self.task.cancelled():
            self.task.result()
        await self.spool.aclose()

    @property
    def session(self) -> FakeSession:
        return self.link.sessions[-1]

    async def sent(self, count: int) -> list[int]:
        """Wait until the present session has published so many envelopes."""
        await eventually(lambda: len(self.session.envelopes) >= count, f"{count} envelopes", 10)
        await settle()
        return self.session.envelopes

    async def quiet(self) -> None:
        """Until the spool's thread has nothing to do and the shipper waits."""
        for _ in range(5):
            await self.spool._worker.run(lambda: None)
            await settle()


@pytest.fixture
async def make(tmp_path, clock):
    rigs = []

    async def make(settings: SpoolConfig | None = None, **more) -> Rig:
        rig = Rig(tmp_path / "spool", clock, settings or config())
        rigs.append(rig)
        await rig.start(**more)
        return rig

    yield make
    for rig in rigs:
        await rig.stop()


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
