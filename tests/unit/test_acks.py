"""Acknowledgement: never for what is not known to be stored or reported as dropped."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.collector import acks
from agent.collector.acks import Acks, Track
from agent.collector.store import Received
from agent.model import Gap
from agent.transport import wire

EPOCH, OTHER = "a" * 32, "b" * 32


def item(seq: int, epoch: str = EPOCH, host: str = "web-1", gap: Gap | None = None) -> Received:
    head = {"schema": 1, "host": host, "epoch": epoch, "seq": seq, "time": 1.0}
    envelope: wire.AnyEnvelope = (
        wire.GapEnvelope(**head, gap=gap)
        if gap
        else wire.MetricsEnvelope(**head, probe="cpu", status="ok", duration=0.1, metrics=())
    )
    return Received(wire.Topic(host, "metrics", "cpu"), envelope, b"", b"")


def test_an_ack_names_what_was_in_the_batch_and_what_is_whole() -> None:
    """`also` is the batch, `upto` rises over it only without a hole, each epoch and host for itself."""
    book = Acks()
    assert book.of([item(2), item(1), item(5), item(1, OTHER), item(3, host="db-1")]) == [
        ("web-1", wire.Ack(EPOCH, 2, (1, 2, 5))),
        ("web-1", wire.Ack(OTHER, 1, (1,))),
        ("db-1", wire.Ack(EPOCH, 0, (3,))),
    ]
    assert book.of([item(4)]) == [("web-1", wire.Ack(EPOCH, 2, (4,)))]
    assert book.of([item(3)]) == [("web-1", wire.Ack(EPOCH, 5, (3,)))]


def test_a_collector_that_has_not_seen_the_start_vouches_for_nothing() -> None:
    """After our restart: only what is in the batch."""
    assert Acks().of([item(100), item(101)], 2.0) == [("web-1", wire.Ack(EPOCH, 0, (100, 101), 2.0))]


def test_reported_gaps_fill_holes() -> None:
    """Of the epoch that the gap record names, which may be an earlier one than its own."""
    book = Acks()
    gap = Gap(EPOCH, ((2, 2_000_000_000), (2_000_000_003, 2_000_000_003)), 2_000_000_000, "bytes", 0.0, 1.0)
    book.of([item(1), item(2_000_000_002), item(2_000_000_004)])
    assert book.of([item(1, OTHER, gap=gap)]) == [("web-1", wire.Ack(OTHER, 1, (1,)))]
    [(_, ack)] = book.of([item(2_000_000_001)])
    assert ack.upto == 2_000_000_004


def test_many_ranges_cost_no_square_of_time() -> None:
    """A gap record of the largest size, in the worst order: each range is looked at a few times, not once per other."""
    looks = 0

    class Counted(int):
        def __le__(self, other: int) -> bool:
            nonlocal looks
            looks += 1
            return int(self) <= int(other)

    track = Track()
    track.drop([(Counted(n), n) for n in range(1000, 0, -1)])
    assert track.advance() == 1000
    assert looks < 10_000


def test_memory_is_bounded(monkeypatch) -> None:
    """A track with too many holes stands still; too many tracks, and the oldest is forgotten."""
    monkeypatch.setattr(acks, "MAX_AHEAD", 10)
    monkeypatch.setattr(acks, "MAX_TRACKS", 3)
    track = Track()
    for seq in range(1, 100, 2):
        track.add(seq)
        track.advance()
    track.add(2)
    assert track.advance() == 1
    assert len(track._ahead) <= 10
    book = Acks()
    for n in range(10):
        book.of([item(1, f"{n:032x}")])
    assert len(book._tracks) == 3


@given(
    st.permutations(range(1, 30)),
    st.sets(st.integers(1, 29)),
    st.sets(st.integers(1, 29)),
    st.integers(1, 5),
)
def test_upto_never_covers_what_is_not_known(order: list[int], lost: set[int], dropped: set[int], step: int) -> None:
    """In any order, with any losses and gap records: `upto` is exactly the longest known start."""
    track = Track()
    known: set[int] = set()
    for start in range(0, len(order), step):
        for seq in order[start : start + step]:
            if seq in dropped:
                track.drop([(seq, seq)])
            elif seq not in lost:
                track.add(seq)
            if seq in dropped or seq not in lost:
                known.add(seq)
        expected = next(n for n in range(31) if n + 1 not in known)
        assert track.advance() == expected
