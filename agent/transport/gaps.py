"""What was lost, to the envelope: sums that become gap records. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

import msgspec

from agent.model import Gap
from agent.transport.wire import GapEnvelope

Range = tuple[int, int]
Reason = Literal["bytes", "age", "disk", "corrupt"]
MAX_RANGES = 500
"""A gap record with more ranges than this is closed and a new one begun, so that none outgrows a payload."""


def merge(*several: Iterable[Range]) -> tuple[Range, ...]:
    """Inclusive ranges in any order -> sorted, with neighbours joined."""
    joined: list[Range] = []
    for first, last in sorted(pair for ranges in several for pair in ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(last, joined[-1][1])
        else:
            joined.append((first, last))
    return tuple(joined)


class Account(NamedTuple):
    """What one gap record can speak for."""

    host: str
    epoch: str
    reason: Reason


class Loss(msgspec.Struct, frozen=True):
    ranges: tuple[Range, ...]
    first_time: float
    last_time: float

    def __add__(self, other: Loss) -> Loss:
        return Loss(
            merge(self.ranges, other.ranges),
            min(self.first_time, other.first_time),
            max(self.last_time, other.last_time),
        )

    @property
    def count(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)


class Losses:
    """A sum of losses by account."""

    def __init__(self, other: Losses | None = None) -> None:
        self._sums: dict[Account, Loss] = dict(other or ())

    def add(self, account: Account, ranges: Iterable[Range], first_time: float, last_time: float) -> None:
        loss = Loss(merge(ranges), first_time, last_time)
        known = self._sums.get(account)
        self._sums[account] = known + loss if known else loss

    def extend(self, other: Losses) -> None:
        for account, loss in other:
            self.add(account, loss.ranges, loss.first_time, loss.last_time)

    @property
    def count(self) -> int:
        return sum(loss.count for loss in self._sums.values())

    def __iter__(self) -> Iterator[tuple[Account, Loss]]:
        return iter(self._sums.items())

    def __bool__(self) -> bool:
        return bool(self._sums)


class Record(msgspec.Struct, frozen=True):
    """A gap record on its way: `row` is its place in the file, 0 when it is new."""

    account: Account
    seq: int
    row: int
    loss: Loss

    def envelope(self, epoch: str, now: float) -> GapEnvelope:
        gap = Gap(
            epoch=self.account.epoch,
            ranges=self.loss.ranges,
            count=self.loss.count,
            reason=self.account.reason,
            first_time=self.loss.first_time,
            last_time=self.loss.last_time,
        )
        return GapEnvelope(schema=1, host=self.account.host, epoch=epoch, seq=self.seq, time=now, gap=gap)


class Ledger:
    """The records that may still grow. One that may have been sent never changes again: same identity, same bytes."""

    def __init__(self, next_seq: Callable[[], int]) -> None:
        self._next_seq = next_seq
        self._open: dict[Account, Record] = {}

    def book(self, losses: Losses) -> list[Record]:
        """The records that these losses make or make grow; nothing is changed before `settle`."""
        records = []
        for account, loss in losses:
            known = self._open.get(account)
            if known is not None and len(known.loss.ranges) < MAX_RANGES:
                records.append(Record(account, known.seq, known.row, known.loss + loss))
            else:
                records.append(Record(account, self._next_seq(), 0, loss))
        return records

    def settle(self, records: Iterable[Record]) -> None:
        """These are on disk, with their rows."""
        self._open.update((record.account, record) for record in records)

    def freeze(self, seq: int) -> None:
        """The record with this number is being sent."""
        self._open = {account: record for account, record in self._open.items() if record.seq != seq}

    def clear(self) -> Losses:
        """Forget all records, and return what they told."""
        losses = Losses()
        for account, record in self._open.items():
            losses.add(account, record.loss.ranges, record.loss.first_time, record.loss.last_time)
        self._open.clear()
        return losses

    @property
    def seqs(self) -> set[int]:
        return {record.seq for record in self._open.values()}

    @property
    def rows(self) -> set[int]:
        return {record.row for record in self._open.values()}
