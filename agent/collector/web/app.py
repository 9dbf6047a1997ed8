"""The web application: routes, and what holds for every request."""

from __future__ import annotations

import logging
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from agent.clock import Clock, SystemClock
from agent.collector.chatops.office import Office
from agent.collector.fleet import Fleet
from agent.collector.live import Hub
from agent.collector.stats import Stats
from agent.collector.store import Reader
from agent.collector.web import api, audit, gallery, login, prometheus, silences, slack, stream
from agent.collector.web.connections import CONNECTIONS, Connections
from agent.collector.web.guard import Guard, is_loopback, set_headers, wants_page
from agent.collector.web.pages import Files
from agent.collector.web.parts import PARTS, ApiError, Parts, error_answer
from agent.config.schema import Config
from agent.errors import ConfigError, StoreError

log = logging.getLogger(__name__)

MAX_BODY = 16 * 1024
"""Bytes; the login form is all that anybody sends."""

SERVER: dict[str, Any] = {"access_log": None, "auto_decompress": False}
"""For who serves it. Nobody sends us anything packed; unpacking what strangers send costs memory, and where it cannot
be unpacked a traceback each."""


def make_app(
    reader: Reader,
    fleet: Fleet,
    hub: Hub,
    config: Config,
    stats: Stats,
    *,
    clock: Clock | None = None,
    office: Office | None = None,
) -> web.Application:
    """Everything under one address. ConfigError where it would be open to others without a token.

    A token that is set is asked for on loopback too, as behind a proxy.
    """
    clock = clock or SystemClock()
    spoken = slack.routes(office)
    guard = Guard(token_of(config), clock, frozenset(route.path for route in spoken))
    connections = Connections(clock)
    app = web.Application(middlewares=[connections.watch, border], client_max_size=MAX_BODY)
    app[CONNECTIONS] = connections
    app[PARTS] = Parts(reader, fleet, hub, stats, clock, office)
    app[login.GUARD] = guard
    app[login.FILES] = files = Files()
    app[stream.STREAMS] = set()
    gallery.set_up(app, config.slack.dashboard_url)
    app.on_response_prepare.append(set_headers)
    app.on_shutdown.append(stream.end_streams)
    app.add_routes(
        [
            web.get("/api/v1/hosts", api.hosts),
            web.get("/api/v1/hosts/{host}", api.host),
            web.get("/api/v1/series", api.series),
            web.get("/api/v1/incidents", api.incidents),
            web.get("/api/v1/incidents/{incident}", api.incident),
            web.get("/api/v1/gaps", api.gaps),
            web.get("/api/v1/gallery", gallery.gallery),
            web.get("/api/v1/gallery/chart", gallery.chart),
            web.get("/api/v1/audit", audit.audit),
            web.get("/api/v1/slack", audit.slack),
            web.get("/api/v1/silences", silences.silences),
            web.post("/api/v1/silences", silences.silence),
            web.delete("/api/v1/silences/{id}", silences.unsilence),
            web.get("/api/v1/stream", stream.stream),
            web.get("/metrics", prometheus.metrics),
            web.get("/healthz", prometheus.healthz),
            web.get("/login", login.form),
            web.post("/login", login.login),
            web.post("/logout", login.logout),
            web.get("/static/{name:.+}", files.static),
            web.get("/", files.shell),
            web.get("/hosts/{host}", files.shell),
            web.get("/incidents", files.shell),
            web.get("/incidents/{incident}", files.shell),
            web.get("/gallery", files.shell),
            web.get("/audit", files.shell),
            *spoken,
        ]
    )
    return app


def token_of(config: Config) -> str:
    """The token that readers must show, "" where none is needed."""
    secret = config.collector.token
    if secret is not None:
        try:
            return secret.reveal()
        except ValueError as error:
            raise ConfigError([f"collector.token: {error}"]) from error
    if not is_loopback(config.collector.listen):
        raise ConfigError(
            [f"collector.token: required, because {config.collector.listen!r} can be reached from other machines"]
        )
    return ""


@web.middleware
async def border(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets in who may come in, and turns every error into the API's own form."""
    try:
        await request.app[login.GUARD].check(request)
        return await handler(request)
    except ApiError as error:
        return refusal(request, error)
    except web.HTTPException as error:
        return refusal(request, ApiError(error.status, "not_found" if error.status == 404 else "refused", error.reason))
    except StoreError:
        return error_answer(ApiError(503, "store_unavailable", "the database cannot be reached; try again later"))
    except Exception:  # a request is a border: the reader is told, the log has the traceback
        log.exception("request failed", extra={"path": request.path})
        return error_answer(ApiError(500, "internal", "this should not have happened; the collector's log says more"))


def refusal(request: web.Request, error: ApiError) -> web.Response:
    if error.status == 401 and wants_page(request):
        return web.Response(status=303, headers={"Location": "/login", "Cache-Control": "no-store"})
    response = error_answer(error)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="tocsin"'
    return response
