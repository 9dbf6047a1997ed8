"""What a new process says once more of what is open, for a broker that has lost what it retained."""

from __future__ import annotations

from agent.alerting.state import State
from agent.model import TransitionKind
from tests.fakes.clock import ManualClock
from tests.unit.test_engine import disk, engine, observe, rule


def test_what_is_open_can_be_shipped_again(clock: ManualClock) -> None:
    """By the next process: each once, as it stands, but for what waits to be shipped anyway."""
    state, rules = State(None), [rule(warning="80%", critical="90%")]
    first = engine(clock, *rules, state=state)
    observe(first, clock, disk(85, "/"), disk(85, "/var"), disk(85, "/home"))
    observe(first, clock, disk(95, "/"), disk(85, "/var"), disk(10, "/home"))
    for incident, transition in first.unshipped():
        first.mark_shipped(incident.id, transition.version)
    second = engine(clock, *rules, state=state)
    assert second.unshipped() == []
    second.ship_again(lambda incident, _: incident.labels["mount"] == "/var")
    [(incident, transition)] = second.unshipped()
    assert (incident.labels["mount"], incident.version, transition.version) == ("/", 2, 2)
    assert transition.kind == TransitionKind.ESCALATED
    second.mark_shipped(incident.id, 2)
    assert second.unshipped() == []
