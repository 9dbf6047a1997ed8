"""What no store may be harmed by."""

from __future__ import annotations

import pytest

from agent.collector.store import Received
from agent.errors import RefusedError
from agent.model import Gap, Metric
from agent.transport import wire
from tests.contract.stores import EPOCH, T0, Opened, incident, received, roll, sample


@pytest.mark.parametrize(
    "bad",
    [
        sample(2, Metric("m", 1.0), time=1e300),
        pytest.param(sample(2, Metric("m", 1.0), time=1e17), id="time over 64 bits in milliseconds"),
        pytest.param(sample(2, time=1e17), id="the same without a metric"),
        pytest.param(sample(2, time=-1.0), id="time before 1970"),
    ],
)
async def test_what_the_database_refuses(db: Opened, bad: Received) -> None:
    """The batch fails as a whole with RefusedError, leaves nothing, and without the bad one it passes."""
    good = sample(1, Metric("m", 1.0))
    with pytest.raises(RefusedError):
        await db.store.write([good, bad])
    assert await db.all("SELECT COUNT(*) FROM envelopes") == [(0,)]
    assert (await db.store.write([good])).committed == [good]


HOSTILE = {
    "NUL bytes": sample(2, Metric("m\0", 1.0, "u\0", labels={"a\0": "\0"}), error="\0'\\"),
    "long name": sample(2, Metric("m" * 100_000, 1.0)),
    "long unit": sample(2, Metric("m", 1.0, "u" * 100_000)),
    "long error": sample(2, Metric("m", 1.0), error="e" * 500_000),
    "long probe": sample(2, Metric("m", 1.0), probe="p" * 1000),
    "many labels": sample(2, Metric("m", 1.0, labels={str(n): "x" for n in range(50_000)})),
    "four bytes": sample(2, Metric("\U0001f514", 1.0, labels={"\U0001f514": "\U0001f514"})),
    "smallest": sample(2, Metric("m", 5e-324), time=-0.0),
    "long ago": sample(2, Metric("m", -0.0), time=-1e12),
    "largest": sample(2, Metric("m", 1.7976931348623157e308), duration=1e308),
    "large seq": sample(2**63 - 1, Metric("m", 1.0)),
    "large version": incident(10**30, seq=2),
    "long id": incident(1, seq=2, id="i" * 100_000),
    "large time": incident(1, seq=2, started_at=1e308),
    "large gap": received(
        wire.GapEnvelope(
            schema=1,
            host="web-1",
            epoch=EPOCH,
            seq=2,
            time=T0,
            gap=Gap("e" * 1000, ((-(10**40), 10**40),), 10**40, "bytes", -1e308, 1e308),
        ),
        "gaps",
        "",
    ),
}


@pytest.mark.parametrize("bad", HOSTILE.values(), ids=HOSTILE)
async def test_nothing_hostile_is_taken_for_a_lost_database(db: Opened, bad: Received) -> None:
    """What can be decoded is stored or refused, and what came with it can be stored; roll-ups and reads go on."""
    good = sample(1, Metric("good", 1.0), host="db-1")
    wire.decode_envelope(bad.topic, bad.payload)
    try:
        await db.store.write([bad, good])
    except RefusedError:
        await db.store.write([good])
    await roll(db)
    assert await db.all(
        "SELECT COUNT(*) FROM samples_1m m JOIN series s ON s.id = m.series_id WHERE metric = 'good'"
    ) == [(1,)]
    await db.store.reader.series("web-1", "m*", 0, T0 * 2, 7200)
    await db.store.reader.gaps()
    await db.store.reader.incidents()
    await db.store.reader.probes("web-1")
