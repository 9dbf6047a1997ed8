"""Silences over HTTP: held by the hosts, asked for here, signed like every other command and audited as `api`."""

from __future__ import annotations

import json
import secrets
from typing import Any

from aiohttp import web

from agent.collector.chatops.fanout import States
from agent.collector.chatops.grants import EVERYTHING
from agent.collector.chatops.orders import Order, outcome_of
from agent.collector.web import query as q
from agent.collector.web.audit import office_of
from agent.collector.web.parts import answer, reading, refuse
from agent.errors import CommandError

CSRF = "X-Tocsin-Request"
"""A header that no foreign page can make a visitor's browser send; asked for where no token is in the request.

A token is what follows "Bearer". "Basic", for a proxy before us, a browser sends by itself, wherever a page sends it.
"""
WITHIN = 10.0
STATUS = {"unknown_silence": 404, "no_grant": 404}


async def silences(request: web.Request) -> web.Response:
    """What the hosts hold, as they say it now, and what the collector holds."""
    q.known(request.query)
    office = office_of(request)
    order = order_of("silences", (), "silences")
    try:
        return answer((await office.orders.silences(order, EVERYTHING))._asdict())
    except CommandError as error:
        if error.code == "no_grant":  # no host was ever heard
            return answer({"silences": [], "unheard": {}})
        return refused(error)


async def silence(request: web.Request) -> web.Response:
    """{"match", "duration": "2h", "reason"} to every host that it may concern."""
    permitted(request)
    async with reading():
        text = await request.text()
    try:
        body = json.loads(text)
        match, duration, reason = (body[name] for name in ("match", "duration", "reason"))
    except (ValueError, KeyError, TypeError, RecursionError):
        refuse(400, "bad_body", 'expected {"match": …, "duration": "2h", "reason": …}')
    if not all(isinstance(value, str) and value for value in (match, duration, reason)):
        refuse(400, "bad_body", "match, duration and reason: expected texts that are not empty")
    return await given(request, order_of("silence", (match, duration, reason), f"silence {match} {duration} {reason}"))


async def unsilence(request: web.Request) -> web.Response:
    permitted(request)
    number = request.match_info["id"][:80]
    return await given(request, order_of("unsilence", (number,), f"unsilence {number}"))


async def given(request: web.Request, order: Order) -> web.Response:
    """What became of it on every host: 200 where all did it, else 502; nothing was sent with any other status."""
    orders = office_of(request).orders
    try:
        plan = await orders.plan(order, EVERYTHING)
    except CommandError as error:
        orders.note(order, "refused", detail=f"{error.code}: {error.detail}")
        return refused(error)
    states = await orders.carry_out(order, plan, seconds=WITHIN)
    outcome = outcome_of(states)
    shown = {"outcome": outcome, "request": order.request, "hosts": hosts_of(states)}
    return answer(shown, status=200 if outcome == "done" else 502)


def permitted(request: web.Request) -> None:
    """The guard has let it in. Without a token in the request itself it may come from a foreign page all the same."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if not (scheme.lower() == "bearer" and token.strip()) and request.headers.get(CSRF) is None:
        refuse(403, "header_missing", f"send the header {CSRF}: 1, or the collector's token")


def order_of(verb: str, words: tuple[str, ...], text: str) -> Order:
    key = f"api {secrets.token_hex(16)}"
    return Order(f"req_{secrets.token_hex(12)}", key, "api", "api", verb, words, text)


def hosts_of(states: States) -> dict[str, Any]:
    return {
        host: {"state": state.state, "text": state.text, "data": dict(state.data)}
        for host, state in sorted(states.items())
    }


def refused(error: CommandError) -> web.Response:
    shown = {"error": {"code": error.code, "message": error.detail}}
    return answer(shown, status=STATUS.get(error.code, 400))
