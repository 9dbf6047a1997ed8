"""What the collector's own verbs say, as lines; pure."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from agent.alerting.figure import counted, duration, figure, standing
from agent.collector.chatops.fanout import HostState, States
from agent.collector.chatops.grants import Rights
from agent.collector.chatops.plan import Plan, usage_of
from agent.collector.store import AuditRow, IncidentRow, SeriesRow
from agent.commands.verbs import VERBS
from agent.model import Labels
from agent.slack.text import plain

_BARS = "▁▂▃▄▅▆▇█"
_SIGNS = {"done": "✓", "refused": "✗", "silent": "…", "offline": "✗", "unsent": "✗", "interrupted": "✗"}
SPARK = 60
"""Characters of a drawn line."""
_MOST = 1e300
"""What is larger has no bar of its own: sums and differences must stay numbers, whatever a host sends."""
_WHOLE = 60
"""Lines of a host's own text where it is the only one; of several each gets its share."""

Labelled = tuple[str, frozenset[tuple[str, str]]]
"""A series of one host: its metric and its labels."""


def help_lines(rights: Rights) -> list[str]:
    lines = [
        f"{usage_of(verb.name):<46} {verb.summary}" for verb in sorted(VERBS.values(), key=lambda verb: verb.name)
        if rights.uses(verb.name)
    ]  # fmt: skip
    if not rights:
        lines.append("You have no grant yet: whoever keeps agent.toml adds your user id to [[commands.grants]].")
    return lines


def host_lines(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line a host: name, state, health, open incidents."""
    width = max((len(entry["host"]) for entry in entries), default=0)
    return [
        f"{entry['host']:<{width}}  {entry['state']:<8} {_health(entry):<14} {_incidents(entry)}" for entry in entries
    ]


def fleet_lines(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """How all do together, then those that do not well."""
    states = Counter(entry["state"] for entry in entries)
    bad = [entry for entry in entries if entry["state"] != "online" or entry["incidents"]]
    total = sum(entry["incidents"] for entry in entries)
    summary = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no host was ever heard"
    return [f"{summary}; open incidents: {total}", *host_lines(bad[:50])]


def incident_lines(rows: Sequence[IncidentRow], now: float) -> list[str]:
    found = []
    for row in rows:
        value = f" {standing(row.value, row.unit, row.op)}".rstrip()
        seen = f", {row.acknowledged_by} looks after it" if row.acknowledged_by else ""
        what = plain(row.summary or row.threshold, 120)
        found.append(f"{row.severity.upper():<8} {row.host}: {what} ({row.threshold}{value})")
        found.append(f"         for {duration(now - row.started_at)}{seen}  {row.id}")
    return found


def state_lines(plan: Plan, states: States) -> list[str]:
    """How far each host is, with what it said. The newest of a single host whole, of several in part."""
    share = max(2, _WHOLE // max(1, len(plan.hosts)))
    lines = []
    for host in sorted(plan.hosts):
        lines += _state(host, states.get(host, HostState("sent")), share)
    if plan.left_out:
        lines.append(f"not asked, for there is no grant: {counted(len(plan.left_out), 'host')}")
    return lines


def count_words(states: States) -> str:
    """As in "3 done, 1 no answer": the states, most frequent first."""
    counts = Counter(_word(state) for state in states.values())
    return ", ".join(f"{count} {word}" for word, count in counts.most_common())


def graph_lines(rows: Sequence[SeriesRow], newest: Mapping[Labelled, float], points: int = SPARK) -> list[str]:
    """A drawn line per series with its newest, least and greatest value; `newest` as measured, where that is known:
    the points are means, of a long while perhaps.
    """
    lines = []
    for row in rows:
        values = [value for _, value in row.points]
        labels = " ".join(f"{key}={value}" for key, value in sorted(row.labels.items()))
        last = newest.get(labelled(row.metric, row.labels), values[-1])
        told = [figure(value, row.unit) for value in (last, min(*values, last), max(*values, last))]
        lines += [
            *(plain(f"{row.metric} {labels}", 120), spark(values, points)),
            f"newest {told[0]}, between {told[1]} and {told[2]}",
        ]
    return lines


def labelled(name: str, labels: Labels) -> Labelled:
    return name, frozenset(labels.items())


def spark(values: Sequence[float], points: int = SPARK) -> str:
    """Means of equal portions, from the lowest bar to the highest; level values are a low line."""
    values = [min(max(value, -_MOST), _MOST) for value in values]
    if len(values) > points:
        edges = [round(index * len(values) / points) for index in range(points + 1)]
        portions = [values[start:end] for start, end in pairwise(edges) if end > start]
        values = [sum(portion) / len(portion) for portion in portions]
    low, high = min(values), max(values)
    room = high - low
    return "".join(_BARS[min(7, int((value - low) / room * 8))] if room > 0 else _BARS[0] for value in values)


def audit_lines(rows: Sequence[AuditRow]) -> list[str]:
    lines = []
    for row in rows:
        entry = row.entry
        when = time.strftime("%m-%d %H:%M:%S", time.gmtime(entry.time))
        where = ", ".join(entry.hosts[:3]) + (f" and {len(entry.hosts) - 3} more" if len(entry.hosts) > 3 else "")
        detail = f": {plain(entry.detail, 80)}" if entry.detail else ""
        lines.append(f"{when}  {entry.actor:<18} {entry.outcome:<10} {plain(entry.text, 80)}  [{where or '-'}]{detail}")
    return lines


def _state(host: str, state: HostState, share: int) -> list[str]:
    said = state.text.splitlines()
    sign = "✗" if state.state == "done" and not state.good else _SIGNS.get(state.state, "·")
    lines = [f"{sign} {host}  {_headed(state, *said[:1])}", *(f"    {line}" for line in said[1:share])]
    return [*lines, f"    … {counted(len(said) - share, 'more line')}"] if len(said) > share else lines


def why(state: HostState) -> str:
    """Of a host that did not do it: how far it is, and what was said of that."""
    return plain(_headed(state, state.text), 200)


def _headed(state: HostState, text: str = "") -> str:
    """How far it is before what was said, unless that begins with the same word."""
    word = _word(state)
    return text if text.startswith(word) else ": ".join(filter(None, (word, text)))


def _word(state: HostState) -> str:
    if state.state == "sent":
        return "asked"
    if state.state == "silent":
        return "no answer"
    return "failed" if state.state == "done" and not state.good else state.state


def _health(entry: Mapping[str, Any]) -> str:
    health = entry.get("health") or {}
    score = health.get("score")
    return "-" if score is None else f"{health.get('status', '')} {score:.0f}"


def _incidents(entry: Mapping[str, Any]) -> str:
    count = entry["incidents"]
    return f"{count} open, worst {entry['worst']}" if count else "nothing open"
