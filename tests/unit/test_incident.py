"""The life of one incident, pure."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alerting.incident import Breach, Reading, advance, new_id, open_incident
from agent.model import Incident, Severity, TransitionKind

NOW = 1_790_000_000.0
BREACH = Breach("web-1", "Memory", "memory.used_percent", ">", NOW - 30, {}, "percent")
BAD = [Severity.INFO, Severity.WARNING, Severity.CRITICAL]


def reading(severity: Severity, value: float = 85.0, at: float = NOW) -> Reading:
    return Reading(severity, at, value, limit=80.0, peak=value)


def opened(severity: Severity = Severity.WARNING) -> Incident:
    return open_incident("inc_1", BREACH, reading(severity))[0]


def test_it_opens_with_when_the_breach_began() -> None:
    """`started_at` is before `fired_at` by what `for` asked."""
    incident, transition = open_incident("inc_1", BREACH, reading(Severity.WARNING))
    assert (incident.started_at, incident.fired_at, incident.version) == (NOW - 30, NOW, 1)
    assert (transition.kind, transition.version, transition.severity) == (TransitionKind.OPENED, 1, Severity.WARNING)


def test_it_does_not_open_without_a_breach() -> None:
    """An incident that is ok makes no sense."""
    with pytest.raises(ValueError, match="breach"):
        open_incident("inc_1", BREACH, reading(Severity.OK))


def test_the_same_severity_says_nothing() -> None:
    """A breach that lasts is no news."""
    assert advance(opened(), reading(Severity.WARNING, 89)) is None


def test_rise_fall_and_end() -> None:
    """Each step has its kind, and the peak stays."""
    kinds = []
    incident = opened()
    for severity in (Severity.CRITICAL, Severity.WARNING, Severity.OK):
        step = advance(incident, reading(severity))
        assert step is not None
        incident, transition = step
        kinds.append(transition.kind)
    assert kinds == [TransitionKind.ESCALATED, TransitionKind.DEESCALATED, TransitionKind.RESOLVED]
    assert (incident.state, incident.peak, incident.severity) == ("resolved", Severity.CRITICAL, Severity.WARNING)
    assert (incident.resolved_at, incident.limit) == (NOW, 80.0)


def test_what_is_resolved_stays_resolved() -> None:
    """A new breach is a new incident."""
    step = advance(opened(), reading(Severity.OK))
    assert step is not None
    with pytest.raises(ValueError, match="resolved"):
        advance(step[0], reading(Severity.CRITICAL))


@given(st.sampled_from(BAD), st.lists(st.sampled_from([*BAD, Severity.OK]), max_size=20))
def test_versions_grow_by_one_with_every_transition(first: Severity, then: list[Severity]) -> None:
    """The version counts transitions, the peak is the worst so far, and nothing follows the end."""
    incident, _ = open_incident("inc_1", BREACH, reading(first))
    worst, count = first, 1
    for severity in then:
        step = advance(incident, reading(severity))
        if step is None:
            assert severity is incident.severity
            continue
        after, transition = step
        count += 1
        assert transition.version == after.version == count
        worst = max(worst, severity, key=lambda s: s.rank)
        assert after.peak is worst
        assert (transition.kind is TransitionKind.ESCALATED) == (severity.rank > incident.severity.rank)
        incident = after
        if incident.state == "resolved":
            break


def test_ids_are_unique_and_sort_by_time() -> None:
    """Ten thousand in one millisecond differ, and later ones come later."""
    rng = random.Random(1)
    same = {new_id(NOW, rng) for _ in range(10_000)}
    assert len(same) == 10_000
    assert max(same) < min(new_id(NOW + 0.001, rng), new_id(NOW + 86400 * 365 * 30, rng))
    assert all(len(name) == 20 and name.replace("_", "").isalnum() for name in same)
