"""The audit: only ever added to, held by its chain, found by who, what and where; and claims."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from agent.collector.store import AuditEntry
from tests.contract.stores import T0, Opened


def entry(number: int = 1, **changes: Any) -> AuditEntry:
    values: dict[str, Any] = {
        "time": T0 + number + 0.123456789,
        "request": f"req_{number}",
        "actor": "slack:U1",
        "source": "slash",
        "verb": "probe",
        "text": f"probe web-1 disk {number}",
        "hosts": ("web-1",),
        "outcome": "accepted",
    }
    return AuditEntry(**(values | changes))


async def test_what_is_added_is_found_again_and_the_chain_holds(db: Opened) -> None:
    log = db.store.audit
    await log.append("one", [entry(1), entry(2, actor="slack:U2", verb="ack", hosts=("db-1", "web-1"))])
    await log.append("one", [entry(3, hosts=("web-11",), outcome="refused", detail="no grant")])
    await log.append("two", [entry(4, actor="api", hosts=())])
    rows, following = await log.page()
    assert [row.entry.request for row in rows] == ["req_4", "req_3", "req_2", "req_1"]
    assert following == ""
    assert rows[-1].entry == entry(1)
    assert [(row.chain, row.seq) for row in rows] == [("two", 1), ("one", 3), ("one", 2), ("one", 1)]
    for asked, found in [
        ({"actor": "U2"}, ["req_2"]),
        ({"actor": "slack:U1"}, ["req_3", "req_1"]),
        ({"verb": "ack"}, ["req_2"]),
        ({"host": "web-1"}, ["req_2", "req_1"]),
        ({"host": "db-1", "verb": "probe"}, []),
        ({"actor": "%"}, []),
    ]:
        assert [row.entry.request for row in (await log.page(**asked))[0]] == found
    states = await log.verify()
    assert [(state.chain, state.rows, state.broken) for state in states] == [("one", 3, 0), ("two", 1, 0)]
    assert states[0].head == rows[1].hash


@pytest.mark.parametrize("asked", ["slack:U1 (ada.b)", "slack:U1", "U1", "ada.b"])
async def test_a_person_is_found_by_id_and_by_name(db: Opened, asked: str) -> None:
    """Nobody else is, whose id or name only looks like it."""
    for number, actor in enumerate(["slack:U1 (ada.b)", "slack:U12 (ada_b)", "slack:U2 (xada.b)", "api"]):
        await db.store.audit.append("one", [entry(number, actor=actor)])
    rows, _ = await db.store.audit.page(actor=asked)
    assert [row.entry.actor for row in rows] == ["slack:U1 (ada.b)"]


async def test_pages_follow_each_other(db: Opened) -> None:
    """Also where times are equal and chains are several."""
    for chain in ("one", "two"):
        await db.store.audit.append(chain, [entry(1, request=f"{chain}{n}") for n in range(7)])
    found, cursor = [], ""
    while True:
        rows, cursor = await db.store.audit.page(limit=3, cursor=cursor)
        found += [row.entry.request for row in rows]
        if not cursor:
            break
    assert found == [f"{chain}{n}" for chain in ("one", "two") for n in reversed(range(7))]
    for wrong in ("x", "nan~1~one", "1~x~one", "~"):
        with pytest.raises(ValueError):
            await db.store.audit.page(cursor=wrong)


@pytest.mark.parametrize(
    ("change", "broken", "why"),
    [
        ("UPDATE audit SET outcome = 'done' WHERE seq = 2", 2, "outcome"),
        ("UPDATE audit SET entry = REPLACE(entry, 'accepted', 'refused') WHERE seq = 2", 2, "hash"),
        ("DELETE FROM audit WHERE seq = 2", 2, "missing"),
        ("UPDATE audit SET seq = seq + 10 WHERE seq = 3", 3, "missing"),
        ("UPDATE audit SET hash = REPLACE(hash, 'a', 'b') WHERE seq = 1", 1, "hash"),
    ],
)
async def test_what_is_changed_breaks_the_chain(db: Opened, change: str, broken: int, why: str) -> None:
    """At the row that was changed, taken out or put elsewhere."""
    await db.store.audit.append("one", [entry(number) for number in range(1, 5)])
    async with db.store._engine.begin() as connection:
        await connection.execute(text(change))
    [state] = await db.store.audit.verify()
    if "'a', 'b'" in change and state.broken == 0:
        pytest.fail("a hash without the letter a")
    assert state.broken == broken
    assert why in state.why


async def test_two_writers_of_one_chain_take_turns(db: Opened) -> None:
    """Two collectors by mistake under one name: slower, and never broken."""
    log = db.store.audit
    await asyncio.gather(*(log.append("one", [entry(number)]) for number in range(1, 6)))
    [state] = await log.verify()
    assert (state.rows, state.broken) == (5, 0)


async def test_whatever_is_written_can_be_read(db: Opened) -> None:
    """Half characters, NUL, direction overrides, and more than there is room for."""
    await db.store.audit.append("one", [entry(1, text="a\ud800b\0c\u202ed😀" + "x" * 900, detail="y" * 5000)])
    [row], _ = await db.store.audit.page()
    assert row.entry.text.startswith("a b c d😀x")
    assert (len(row.entry.text), len(row.entry.detail)) == (500, 2000)
    [state] = await db.store.audit.verify()
    assert state.broken == 0


async def test_a_claim_is_given_once(db: Opened) -> None:
    """Of many who ask at the same time to one; after its window anew; old ones go."""
    log, now = db.store.audit, T0
    given = await asyncio.gather(*(log.claim("k", now, 5.0) for _ in range(6)))
    assert sorted(given) == [False] * 5 + [True]
    assert not await log.claim("k", now + 4.9, 5.0)
    assert await log.claim("k", now + 5.1, 5.0)
    assert await log.claim("other", now, 5.0)
    await log.prune(now + 90_000)
    assert await db.all("SELECT COUNT(*) FROM claims") == [(0,)]
