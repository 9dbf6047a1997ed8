"""What the collector answers by itself: help, hosts, status, incidents, graph, silences, who."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from difflib import get_close_matches
from typing import Any

from agent.alerting.figure import counted, duration
from agent.clock import Clock
from agent.collector.chatops import words
from agent.collector.chatops.easel import Illustrated, graph_of
from agent.collector.chatops.grants import Rights
from agent.collector.chatops.orders import Order, Orders
from agent.collector.chatops.plan import remembered, usage_of
from agent.collector.fleet import Fleet
from agent.collector.store import AuditLog, Reader
from agent.commands import verbs
from agent.errors import CommandError
from agent.slack.answers import answer
from agent.slack.blocks import Message
from agent.slack.graph import MOST_LINES

HOUR = 3600.0
GRAPH_POINTS = 240
"""Of each series, for its picture; the line of bars takes means of them."""
MOST_ROWS = 50

Inquiry = Callable[[Order, Rights], Awaitable[Message]]


class Inquiries:
    """Each answers with a message; CommandError where it cannot, or may not."""

    def __init__(self, fleet: Fleet, reader: Reader, audit: AuditLog, orders: Orders, clock: Clock) -> None:
        self._fleet = fleet
        self._reader = reader
        self._audit = audit
        self._orders = orders
        self._clock = clock
        self._all: Mapping[str, Inquiry] = {
            "help": self._help,
            "hosts": self._hosts,
            "incidents": self._incidents,
            "graph": self._graph,
            "silences": self._silences,
            "who": self._who,
        }

    def find(self, order: Order) -> Inquiry | None:
        """None: hosts must be asked."""
        return self._summary if order.verb == "status" and not order.words else self._all.get(order.verb)

    async def _help(self, _: Order, rights: Rights) -> Message:
        return answer("What you can ask for", words.help_lines(rights), code=True)

    async def _hosts(self, order: Order, rights: Rights) -> Message:
        verbs.parse("hosts", order.words)
        entries = self._entries("hosts", rights)
        return answer(counted(len(entries), "host"), words.host_lines(entries), code=True)

    async def _summary(self, _: Order, rights: Rights) -> Message:
        return answer("How the hosts do", words.fleet_lines(self._entries("status", rights)), code=True)

    async def _incidents(self, order: Order, rights: Rights) -> Message:
        verbs.parse("incidents", order.words)
        may = {entry["host"] for entry in self._entries("incidents", rights)}
        rows, more = await remembered(self._reader.incidents(None, "open", 500))
        rows = [row for row in rows if row.host in may]
        title = f"{len(rows)}{' and more' if more else ''} open" if rows else "Nothing is wrong"
        return answer(title, words.incident_lines(rows[:MOST_ROWS], self._clock.now()), code=True)

    async def _graph(self, order: Order, rights: Rights) -> Message:
        if not order.words:
            raise CommandError("bad_arguments", f"usage: {usage_of('graph')}")
        host, *rest = order.words
        args = verbs.parse("graph", rest, usage_of("graph"))
        _permit(rights, "graph", host)
        if self._fleet.host(host) is None:
            raise CommandError("unknown_host", f"no host is called {host[:63]!r}; `hosts` lists them")
        metric, _, labels = str(args["metric"]).partition("{")
        span = float(args.get("span", HOUR))
        end, step = self._clock.now(), span / GRAPH_POINTS
        rows = await remembered(self._reader.series(host, metric, end - span, end, step))
        wanted = dict(pair.split("=", 1) for pair in labels.rstrip("}").split(",") if "=" in pair)
        rows = [row for row in rows if wanted.items() <= row.labels.items()]
        if not rows:
            there = {known.name for sample in self._fleet.latest(host) for known in sample["metrics"]}
            close = ", ".join(get_close_matches(metric, there, n=3))
            hint = f"; did you mean {close}?" if close and metric not in there else ""
            raise CommandError("no_data", f"nothing came of {metric} from {host} in the last {duration(span)}{hint}")
        lines = words.graph_lines(rows[:MOST_LINES], self._newest(host))
        if len(rows) > MOST_LINES:
            lines.append(f"and {len(rows) - MOST_LINES} more series; metric{{label=value}} picks some")
        said = answer(f"{metric} on {host}, the last {duration(span)}", lines, code=True)
        graph = graph_of(rows, host, start=end - span, end=end, step=step)
        return Illustrated(said.text, said.blocks, graph=graph)

    def _newest(self, host: str) -> dict[words.Labelled, float]:
        measured = [metric for sample in self._fleet.latest(host) for metric in sample["metrics"]]
        return {words.labelled(one.name, one.labels): one.value for one in measured}

    async def _silences(self, order: Order, rights: Rights) -> Message:
        verbs.parse("silences", order.words)
        found, unheard = await self._orders.silences(order, rights)
        now = self._clock.now()
        lines = []
        for silence in found:
            where = _where(silence.ids)
            lines.append(f"{silence.id}  {silence.match}  for {duration(silence.until - now)} more, on {where}")
            lines.append(f"    {silence.author}: {silence.reason}")
        lines += [f"unknown of {host}: {told}" for host, told in sorted(unheard.items())[:MOST_LINES]]
        title = counted(len(found), "silence") if found else "No silence holds"
        return answer(title if not unheard else f"{title}, as far as hosts answer", lines, code=True)

    async def _who(self, order: Order, rights: Rights) -> Message:
        """About a person, a verb or a host; all, where it is not said."""
        if not rights.uses("who"):
            raise CommandError("no_grant", "you have no grant for who")
        about = str(verbs.parse("who", order.words).get("about", "")).lstrip("@")
        asked: dict[str, Any] = {}
        if about in verbs.VERBS:
            asked["verb"] = about
        elif about and self._fleet.host(about) is not None:
            asked["host"] = about
        elif about:
            asked["actor"] = about
        rows, _ = await remembered(self._audit.page(limit=MOST_ROWS, **asked))
        title = f"Who did what{f' ({about})' if about else ''}" if rows else f"Nothing is known of {about or 'anybody'}"
        return answer(title, words.audit_lines(rows), code=True)

    def _entries(self, verb: str, rights: Rights) -> list[dict[str, Any]]:
        """Of the hosts that may be seen; CommandError where there is no grant for any."""
        if not rights.uses(verb):
            raise CommandError("no_grant", f"you have no grant for {verb}")
        return [entry for entry in self._fleet.hosts() if rights.allows(verb, entry["host"])]


def _permit(rights: Rights, verb: str, host: str) -> None:
    if not rights.allows(verb, host):
        raise CommandError("no_grant", f"you have no grant for {verb} on {host[:63]}")


def _where(ids: Mapping[str, str]) -> str:
    hosts = list(ids)
    return ", ".join(hosts[:3]) + (f" and {len(hosts) - 3} more" if len(hosts) > 3 else "")
