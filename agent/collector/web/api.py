"""The JSON API: hosts, series, incidents, gaps. Reads only."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from agent.collector.store import IncidentRow
from agent.collector.web import query as q
from agent.collector.web.parts import PARTS, Parts, answer, refuse
from agent.collector.web.usage import usage


def host_entry(parts: Parts, entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "usage": usage(parts.fleet.latest(entry["host"]))}


def incident_entry(parts: Parts, row: IncidentRow) -> dict[str, Any]:
    """`delivery` is "unknown" where the host has told nothing about it."""
    entry: dict[str, Any] = msgspec.to_builtins(row)
    entry["delivery"] = parts.fleet.delivery(row.host, row.id) or {"state": "unknown"}
    return entry


async def hosts(request: web.Request) -> web.Response:
    q.known(request.query)
    parts = request.app[PARTS]
    return answer({"hosts": [host_entry(parts, entry) for entry in parts.fleet.hosts()]})


async def host(request: web.Request) -> web.Response:
    """One host with the latest run of each probe, values included where they came since our start."""
    q.known(request.query)
    parts = request.app[PARTS]
    name = request.match_info["host"]
    entry = parts.fleet.host(name)
    if entry is None:
        refuse(404, "unknown_host", f"nothing was ever heard of {name[:80]!r}")
    probes = await parts.reader.probes(name)
    return answer({"host": host_entry(parts, entry), "probes": probes, "latest": parts.fleet.latest(name)})


async def series(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    wanted = q.series(request.query, parts.clock.now())
    if parts.fleet.host(wanted.host) is None:
        refuse(404, "unknown_host", f"nothing was ever heard of {wanted.host!r}")
    rows = await parts.reader.series(wanted.host, wanted.metric, wanted.start, wanted.end, wanted.step)
    return answer({"series": rows})


async def incidents(request: web.Request) -> web.Response:
    """Newest first; `next` is the cursor of the page after this, "" on the last."""
    q.known(request.query, "host", "state", "limit", "cursor")
    parts = request.app[PARTS]
    name, state, limit = q.host(request.query), q.state(request.query), q.limit(request.query)
    try:
        rows, following = await parts.reader.incidents(name, state, limit, request.query.get("cursor", ""))
    except ValueError:
        refuse(400, "bad_cursor", "cursor: expected the `next` of an earlier page")
    return answer({"incidents": [incident_entry(parts, row) for row in rows], "next": following})


async def incident(request: web.Request) -> web.Response:
    q.known(request.query)
    parts = request.app[PARTS]
    name = request.match_info["incident"]
    row = await parts.reader.incident(name) if q.INCIDENT.fullmatch(name) else None
    if row is None:
        refuse(404, "unknown_incident", "there is no incident of this id")
    timeline = await parts.reader.transitions(name)
    return answer({"incident": incident_entry(parts, row), "transitions": timeline})


async def gaps(request: web.Request) -> web.Response:
    q.known(request.query, "host", "limit")
    parts = request.app[PARTS]
    rows = await parts.reader.gaps(q.host(request.query), q.limit(request.query))
    return answer({"gaps": rows})
