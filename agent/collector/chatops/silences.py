"""Silences are made on each host; what was asked for at once is one here. Pure, but for the asking."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from agent.alerting.silence import MOST
from agent.collector.chatops.fanout import States

TOGETHER = 120.0
"""Seconds within which the same words on several hosts came from one request."""
LOOKED_AT = 32
"""Of silences in the same words, how many are compared: a host may send what takes for ever to compare."""
_ID = re.compile(r"sil_[0-9a-z]{1,40}")


class HostSilence(msgspec.Struct, frozen=True):
    """One silence of one host, as it is in the `data` of its answer to `silences`. Times are unix seconds."""

    id: str
    match: str
    until: float
    created_at: float = 0.0
    author: str = ""
    reason: str = ""


class Silenced(msgspec.Struct, frozen=True):
    """The same silence on one host or many: `ids` by host, `id` that of the first."""

    id: str
    match: str
    created_at: float
    until: float
    author: str
    reason: str
    ids: dict[str, str]


class Held(NamedTuple):
    """The silences that hosts say they hold; and by host, why it said nothing of its own."""

    silences: list[Silenced]
    unheard: dict[str, str]


def listed(states: States) -> list[Silenced]:
    """From the answers of hosts; what is not understood is left out."""
    found: list[Silenced] = []
    alike: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
    for host, silence in _all(states):
        places = alike[silence.match, silence.author, silence.reason]
        fitting = (place for place in places[-LOOKED_AT:] if host not in found[place].ids)
        place = next((place for place in fitting if _together(found[place], silence)), None)
        if place is None:
            places.append(len(found))
            values = {name: getattr(silence, name) for name in silence.__struct_fields__}
            found.append(Silenced(**values, ids={host: silence.id}))
        else:
            found[place] = msgspec.structs.replace(found[place], ids={**found[place].ids, host: silence.id})
    return sorted(found, key=lambda silence: silence.until)


def holding(silences: Iterable[Silenced], number: str) -> Silenced | None:
    """The one that has this id on any host."""
    return next((silence for silence in silences if number in silence.ids.values()), None)


def _all(states: States) -> Iterable[tuple[str, HostSilence]]:
    for host, state in sorted(states.items()):
        items: Any = state.data.get("silences")
        for item in items[:MOST] if isinstance(items, list) else ():
            try:
                silence = msgspec.convert(item, HostSilence)
            except msgspec.ValidationError:
                continue
            if _ID.fullmatch(silence.id):
                yield host, silence


def _together(known: Silenced, other: HostSilence) -> bool:
    return abs(known.created_at - other.created_at) < TOGETHER and abs(known.until - other.until) < TOGETHER
