"""`tocsin alert test` on the daemon's side: it ends, whatever is done to the clock meanwhile."""

from __future__ import annotations

from pathlib import Path

from agent.daemon.alert_test import HOLD, PATIENCE, REQUEST, AlertTest
from tests.fakes.clock import ManualClock


def test_a_clock_set_back_does_not_keep_it_open(clock: ManualClock, tmp_path: Path) -> None:
    """The breach of nothing is mended after its time, and the next test can begin."""
    emitted: list[float] = []
    test = AlertTest(tmp_path, clock, emitted.append, list)
    (tmp_path / REQUEST).touch()
    test.tick()
    clock.set_back(3600)
    clock.tick(HOLD)
    test.tick()
    assert emitted == [1.0], "nobody has told it yet"
    clock.tick(PATIENCE)
    test.tick()
    assert emitted == [1.0, 0.0]
    (tmp_path / REQUEST).touch()
    test.tick()
    assert emitted == [1.0, 0.0, 1.0]
