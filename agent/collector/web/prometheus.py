"""GET /metrics: the collector's counters and the state of its hosts, as Prometheus reads them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping

from aiohttp import web

from agent.collector.chatops.office import Office
from agent.collector.store import Counts
from agent.collector.web.parts import PARTS, Parts
from agent.errors import StoreError

TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_INCIDENTS = 500
"""Open incidents whose delivery is looked at."""
SETTLED = ("delivered", "untold")
"""States in which nothing is left to be done."""

TOTALS = {
    "envelopes": "Envelopes committed to the database.",
    "samples": "Metric values committed to the database.",
    "duplicates": "Envelopes that were in the database already.",
    "conflicts": "Envelopes under a known identity with other content.",
    "quarantined": "Envelopes set aside because they could not be stored.",
    "batches": "Transactions committed.",
    "commit_seconds": "Time spent in transactions.",
    "acks": "Acknowledgements sent to hosts.",
    "store_errors": "Transactions that failed.",
    "connects": "Connections made to the broker.",
}
ROWS = {
    "hosts": "Hosts ever heard.",
    "series": "Series known.",
    "envelopes": "Envelopes kept at full resolution.",
    "incidents": "Incidents kept.",
    "incidents_open": "Incidents open now.",
    "gaps": "Gap records kept.",
    "quarantine": "Envelopes in quarantine.",
}

Sample = tuple[Mapping[str, str], float]


@dataclasses.dataclass(slots=True)
class Page:
    lines: list[str] = dataclasses.field(default_factory=list)

    def add(self, name: str, kind: str, text: str, samples: Iterable[Sample]) -> None:
        self.lines.append(f"# HELP tocsin_{name} {text}")
        self.lines.append(f"# TYPE tocsin_{name} {kind}")
        self.lines.extend(f"tocsin_{name}{written(labels)} {value:.17g}" for labels, value in samples)

    def one(self, name: str, kind: str, text: str, value: float) -> None:
        self.add(name, kind, text, [({}, value)])


def written(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items()) + "}" if labels else ""


def escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


async def metrics(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    page = Page()
    own(page, parts)
    fleet(page, parts)
    if parts.office is not None:
        asked(page, parts.office)
    try:  # what we know without the database is worth most when it is away
        rows(page, await parts.reader.counts())
        await deliveries(page, parts)
    except StoreError:
        pass
    body = ("\n".join(page.lines) + "\n").encode()
    return web.Response(body=body, headers={"Content-Type": TYPE, "Cache-Control": "no-store"})


def own(page: Page, parts: Parts) -> None:
    stats = parts.stats
    for name, text in TOTALS.items():
        page.one(f"collector_{name}_total", "counter", text, getattr(stats, name))
    page.one("collector_store_up", "gauge", "Whether the database took the last transaction.", stats.store_up)
    page.one("collector_broker_up", "gauge", "Whether the broker is connected.", stats.broker_up)
    page.one("collector_waiting", "gauge", "Envelopes received and not yet committed.", stats.waiting)
    page.one("collector_streams", "gauge", "Readers of the live stream.", parts.hub.listeners)
    page.one("collector_streams_cut_total", "counter", "Readers cut because they were slow.", parts.hub.cut)


def fleet(page: Page, parts: Parts) -> None:
    hosts = parts.fleet.hosts()
    now = parts.clock.now()
    up = [({"host": entry["host"]}, float(entry["state"] == "online")) for entry in hosts]
    page.add("host_up", "gauge", "1 where the host is online, 0 where it is offline or unknown.", up)
    ages = [({"host": entry["host"]}, max(0.0, now - entry["last_seen"])) for entry in hosts]
    page.add("host_last_seen_age_seconds", "gauge", "Seconds since the host was last heard.", ages)
    opened = [({"host": entry["host"]}, float(entry["incidents"])) for entry in hosts]
    page.add("host_incidents_open", "gauge", "Open incidents of the host.", opened)


def asked(page: Page, office: Office) -> None:
    """What people ask for, and whether Slack can reach us."""
    outcomes = [({"outcome": name}, float(count)) for name, count in sorted(office.auditor.outcomes.items())]
    page.add("commands_total", "counter", "Audited facts by outcome.", outcomes)
    page.one("commands_sent_total", "counter", "Signed commands published to hosts.", office.fanout.sent)
    page.one("audit_waiting", "gauge", "Audit entries that wait for the database.", office.auditor.waiting)
    if office.desk is not None:
        page.one("slack_requests_total", "counter", "Requests from Slack taken up.", office.desk.taken)
        page.one("slack_requests_repeated_total", "counter", "Repeated requests left out.", office.desk.repeated)
    socket = office.socket
    if socket is not None:
        page.one("slack_socket_up", "gauge", "Whether the Socket Mode connection stands.", socket.state.connected)
        page.one("slack_socket_connects_total", "counter", "Socket Mode connections made.", socket.state.connects)
        if (age := socket.age()) is not None:
            page.one("slack_socket_frame_age_seconds", "gauge", "Seconds since its last frame.", age)


def rows(page: Page, counts: Counts) -> None:
    for name, text in ROWS.items():
        page.one(f"store_{name}", "gauge", text, getattr(counts, name))


async def deliveries(page: Page, parts: Parts) -> None:
    """How many incidents' messages are in which state; "unknown" where the host has not told. Of those that are over,
    the ones whose end is not in Slack.
    """
    found, _ = await parts.reader.incidents(None, "open", MAX_INCIDENTS)
    there = {incident.id for incident in found}
    over = (str(fields["state"]) for incident, fields in parts.fleet.told().items() if incident not in there)
    states = Counter(state for state in over if state not in SETTLED)
    for incident in found:
        delivery = parts.fleet.delivery(incident.host, incident.id)
        states[str(delivery["state"]) if delivery else "unknown"] += 1
    samples = [({"state": state}, float(count)) for state, count in sorted(states.items())]
    text = "Incidents that are open, or not yet shown as over, by the state of their Slack message."
    page.add("deliveries", "gauge", text, samples)


async def healthz(request: web.Request) -> web.Response:
    """200 while data can flow: broker connected, database writable. Else 503 with what is wrong."""
    stats = request.app[PARTS].stats
    state = {"store": "up" if stats.store_up else "down", "broker": "up" if stats.broker_up else "down"}
    good = stats.store_up and stats.broker_up
    return web.json_response(
        {"status": "ok" if good else "degraded", **state},
        status=200 if good else 503,
        headers={"Cache-Control": "no-store"},
    )
