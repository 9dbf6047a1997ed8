"""Silences as many hosts say them: which are one, which are none, and how many are compared."""

from __future__ import annotations

from typing import Any

import pytest

from agent.alerting.silence import MOST
from agent.collector.chatops import silences
from agent.collector.chatops.fanout import HostState
from agent.collector.chatops.silences import holding, listed


def test_the_same_silence_on_many_hosts_is_one() -> None:
    def state(number: str, **changes: Any) -> HostState:
        values = {"match": "cpu", "author": "slack:U1", "reason": "x", "created_at": 100.0, "until": 4000.0}
        return HostState("done", data={"silences": [{"id": number, **values, **changes}, {"id": 7}, "x"]})

    found = listed(
        {"a": state("sil_1"), "b": state("sil_2"), "c": state("sil_3", author="slack:U2"), "d": HostState("silent")}
    )
    assert [silence.ids for silence in found] == [{"a": "sil_1", "b": "sil_2"}, {"c": "sil_3"}]
    assert holding(found, "sil_2") == found[0]
    assert holding(found, "sil_9") is None


def answered(*items: dict[str, Any]) -> HostState:
    return HostState("done", "", {"silences": list(items)})


def silence(number: int, **changes: Any) -> dict[str, Any]:
    made = {"id": f"sil_{number}", "match": "disk", "until": 9e3, "created_at": 1.0, "author": "a", "reason": "r"}
    return made | changes


def test_a_silence_without_a_time_is_none() -> None:
    """Texts that a lenient reader takes for numbers are no end of anything."""
    states = {"web-1": answered(silence(1, until="nan"), silence(2, created_at="-inf"), silence(3))}
    assert [one.id for one in listed(states)] == ["sil_3"]


def test_what_hosts_hold_is_compared_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host sends what it likes; the loop that reads it must turn on."""
    compared = []
    together = silences._together

    def counted(known: silences.Silenced, other: silences.HostSilence) -> bool:
        compared.append(other)
        return together(known, other)

    monkeypatch.setattr(silences, "_together", counted)
    items = [silence(number, until=1e3 * number) for number in range(3000)]
    states = {f"web-{number}": answered(*items) for number in range(4)}
    shown = listed(states)
    assert len(compared) <= 4 * MOST * silences.LOOKED_AT
    assert all(len(state.data["silences"]) == 3000 for state in states.values())
    assert MOST <= len(shown) <= 4 * MOST
