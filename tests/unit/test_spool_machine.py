"""A plain model beside the real spool: whatever happens in whatever order, every envelope is accounted for."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.transport.item import Item, Priority
from agent.transport.spoolfile import SpoolFile, size_on_disk
from agent.transport.wire import Ack, fingerprint
from tests.fakes.clock import ManualClock
from tests.unit.spools import Bench, config, gap_sums

BOUND = 1024 * 1024


class SpoolMachine(RuleBasedStateMachine):
    """Puts, commits, takes, acks, evictions by a tight bound, clean stops and kills, in any order.

    The model is three sets of identities: committed, acknowledged, and the payload that each one was first seen with.
    """

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="spool-machine-"))
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.generation = 0
        self.bench: Bench
        self.sizes: list[int] = []
        self.trim_wal = SpoolFile.trim_wal
        SpoolFile.trim_wal = self.measure_and_trim
        self.uncommitted: set[tuple[str, int]] = set()
        self.committed: set[tuple[str, int]] = set()
        self.acked: dict[tuple[str, int], Item] = {}
        self.maybe_back: set[tuple[str, int]] = set()
        """Acknowledged, but killed before the deletion was on disk: they may come back, and that is no fault."""
        self.maybe_committed: set[tuple[str, int]] = set()
        """Put, but killed before anybody waited for the commit: there or not, both are right."""
        self.deletions: set[tuple[str, int]] = set()
        self.flying: dict[tuple[str, int], Item] = {}
        self.payloads: dict[tuple[str, int], bytes] = {}

    @property
    def measure_and_trim(self):
        """In the place of `SpoolFile.trim_wal`, which runs after every transaction."""

        def trim(file: SpoolFile) -> None:
            self.sizes.append(size_on_disk(file.path))
            self.trim_wal(file)

        return trim

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    @initialize()
    def start(self) -> None:
        self.bench = Bench(self.root / "0", self.clock, config(BOUND))
        self._open()

    def _open(self) -> None:
        self.generation += 1
        self.run(self.bench.open(f"{self.generation:032x}"))
        self.flying.clear()

    @rule(count=st.integers(1, 60), size=st.sampled_from([10, 500, 3000, 20_000]))
    def put_samples(self, count: int, size: int) -> None:
        async def put() -> None:
            self.uncommitted |= {(self.bench.epoch, self.bench.sample(size)) for _ in range(count)}

        self.run(put())

    @rule()
    def flood(self) -> None:
        """More than the bound holds: this evicts."""
        self.put_samples(45, 20_000)
        self.flush()

    @rule(size=st.sampled_from([10, 5000]), resolved=st.booleans(), name=st.sampled_from("abc"))
    def put_incident(self, size: int, resolved: bool, name: str) -> None:
        async def put() -> None:
            self.uncommitted.add((self.bench.epoch, self.bench.incident(name, resolved=resolved, size=size)))
            await self.bench.spool.flush()

        self.run(put())
        self._committed()

    @rule()
    def flush(self) -> None:
        self.run(self.bench.spool.flush())
        self._committed()

    def _committed(self) -> None:
        self.committed |= self.uncommitted
        self.uncommitted.clear()
        self.deletions.clear()

    @rule(limit=st.integers(1, 64), backlog=st.integers(0, 64))
    def send(self, limit: int, backlog: int) -> None:
        items = self.run(self.bench.send(limit, backlog))
        assert len(items) <= limit
        assert sum(self.bench.spool.is_backlog(item) for item in items) <= backlog
        for item in items:
            assert item.key not in self.flying
            self._see(item)
            self.flying[item.key] = item

    def _see(self, item: Item) -> None:
        """The same identity always has the same bytes; and what was acknowledged comes back only after a kill."""
        assert self.payloads.setdefault(item.key, fingerprint(item.payload)) == fingerprint(item.payload)
        assert item.key not in self.acked or item.key in self.maybe_back
        if item.priority == Priority.GAP:
            self.committed.add(item.key)
        assert item.key in self.committed | self.uncommitted | self.maybe_committed

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), upto=st.booleans())
    def ack(self, data: st.DataObject, upto: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.flying)))
        epoch, seq = key
        ack = Ack(epoch, seq) if upto else Ack(epoch, 0, (seq,))

        async def acknowledge() -> list[Item]:
            return self.bench.spool.ack(ack)

        hits = self.run(acknowledge())
        assert {item.key for item in hits} <= {
            flying for flying in self.flying if flying[0] == epoch and (flying[1] <= seq if upto else flying[1] == seq)
        }
        self._acknowledged(hits)

    def _acknowledged(self, items: list[Item]) -> None:
        for item in items:
            self.acked[item.key] = self.flying.pop(item.key)
            self.deletions.add(item.key)
            self.maybe_back.discard(item.key)

    @rule(epoch=st.sampled_from(["f" * 32, f"{1:032x}"]), upto=st.integers(0, 10**6))
    def forged_ack(self, epoch: str, upto: int) -> None:
        async def acknowledge() -> list[Item]:
            return self.bench.spool.ack(Ack(epoch, upto))

        hits = self.run(acknowledge())
        assert {item.key for item in hits} <= {flying for flying in self.flying if flying[0] == epoch}
        self._acknowledged(hits)

    @rule(seconds=st.sampled_from([1, 61, 3600]))
    def time_passes(self, seconds: int) -> None:
        self.clock.tick(seconds)

    @rule()
    def stop_and_start(self) -> None:
        self.run(self.bench.spool.aclose())
        self._committed()
        self._open()

    @rule()
    def kill_and_start(self) -> None:
        target = self.root / f"kill-{self.generation}"
        old = self.bench.directory
        self.run(self.bench.spool._idle())
        self.bench = self.run(self.bench.crash(target))
        shutil.rmtree(old)
        self.maybe_back |= self.deletions
        self.deletions.clear()
        self.maybe_committed |= self.uncommitted
        self.uncommitted.clear()
        self._open()

    @invariant()
    def files_are_within_the_bound(self) -> None:
        """At every moment: also right behind each transaction, when the WAL is at its largest."""
        if hasattr(self, "bench"):
            assert sum(file.stat().st_size for file in self.bench.directory.glob("spool.db*")) <= BOUND
        assert max(self.sizes, default=0) <= BOUND

    def teardown(self) -> None:
        if hasattr(self, "bench"):
            self._balance()
            self.run(self.bench.spool.aclose())
        SpoolFile.trim_wal = self.trim_wal
        self.loop.close()
        shutil.rmtree(self.root)

    def _balance(self) -> None:
        """Everything that was ever committed is still there, acknowledged, or in exactly one gap record."""
        self.flush()
        for item in self.run(self.bench.send()):
            self._see(item)
            self.flying[item.key] = item
        there = set(self.bench.spool.taken)
        records = {**self.acked, **{key: item for key, item in self.flying.items() if key in there}}
        told = {(epoch, seq) for epoch, numbers in gap_sums(records.values()).items() for seq in numbers}
        assert self.committed <= there | set(self.acked) | told
        assert not there & told
        assert not (set(self.acked) - self.maybe_back) & told
        assert told <= self.committed | self.maybe_committed
        self.stop_and_start()
        for item in self.run(self.bench.send()):
            self._see(item)


SpoolMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestSpoolMachine = SpoolMachine.TestCase
