"""Who asked for what, and whether the chain of what was written still holds; and how Slack reaches us."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from agent.collector.chatops.office import Office
from agent.collector.store import AuditRow
from agent.collector.web import query as q
from agent.collector.web.parts import PARTS, answer, refuse


async def audit(request: web.Request) -> web.Response:
    """Newest first; `verify=1` reads every chain through as well. `next` is the cursor of the page after this."""
    q.known(request.query, "user", "verb", "host", "limit", "cursor", "verify")
    query, log = request.query, office_of(request).log
    host, limit = q.host(query), q.limit(query)
    if query.get("verify", "0") not in ("0", "1"):
        refuse(400, "bad_verify", "verify: expected 0 or 1")
    try:
        rows, following = await log.page(
            actor=query.get("user", "")[:191],
            verb=query.get("verb", "")[:63],
            host=host or "",
            limit=limit,
            cursor=query.get("cursor", ""),
        )
    except ValueError:
        refuse(400, "bad_cursor", "cursor: expected the `next` of an earlier page")
    shown: dict[str, Any] = {"audit": [entry_of(row) for row in rows], "next": following}
    if query.get("verify") == "1":
        shown["chains"] = await log.verify()
    return answer(shown)


async def slack(request: web.Request) -> web.Response:
    q.known(request.query)
    return answer(state_of(office_of(request)))


def state_of(office: Office) -> dict[str, Any]:
    """{"mode": socket | http | off, "socket": … | None, "requests", "repeated", "audit_waiting", "signs"}."""
    socket, desk = office.socket, office.desk
    mode = "off" if desk is None else "http" if socket is None else "socket"
    state = None
    if socket is not None:
        state = {
            "connected": socket.state.connected,
            "frame_age": socket.age(),
            "connects": socket.state.connects,
            "payloads": socket.state.payloads,
            "error": socket.state.last_error,
        }
    return {
        "mode": mode,
        "socket": state,
        "requests": desk.taken if desk else 0,
        "repeated": desk.repeated if desk else 0,
        "audit_waiting": office.auditor.waiting,
        "signs": office.fanout.able,
    }


def entry_of(row: AuditRow) -> dict[str, Any]:
    """An entry and its place, flat."""
    shown: dict[str, Any] = msgspec.to_builtins(row.entry)
    return {**shown, "chain": row.chain, "seq": row.seq, "hash": row.hash}


def office_of(request: web.Request) -> Office:
    office = request.app[PARTS].office
    if office is None:
        refuse(503, "no_office", "this collector takes no commands")
    return office
