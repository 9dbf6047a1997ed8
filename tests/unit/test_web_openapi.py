"""docs/openapi.yaml says what the application does: every path, and the shape of every answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from aiohttp.test_utils import TestClient, TestServer

from agent.collector.live import Hub
from agent.collector.stats import Stats
from agent.collector.store import GapRow, ProbeRow, SeriesRow, TransitionRow
from agent.collector.web import make_app
from agent.config.schema import Config
from agent.model import DeliveryState, Gap, Health, ProbeStatus, Severity, TransitionKind
from tests.fakes.clock import ManualClock
from tests.fakes.collector import NOW, FakeFleet, FakeReader, host_entry, incident_row, sample

DOCUMENT: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "docs/openapi.yaml").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]
PAGES = {
    *("/", "/login", "/logout", "/hosts/{host}", "/incidents", "/incidents/{incident}"),
    *("/gallery", "/audit", "/static/{name}"),
}
"""For people, not part of the API."""


@pytest.fixture
async def client(clock: ManualClock) -> AsyncIterator[TestClient]:
    reader, fleet = FakeReader(), FakeFleet(clock)
    fleet.entries = [host_entry(), host_entry("db-1", health=None, worst="critical", state="unknown")]
    fleet.samples = [sample()]
    fleet.deliveries["web-1", "inc-2"] = {
        "state": "pending",
        "version": 0,
        "channel": "#alerts",
        "ts": "",
        "attempts": 2,
        "error": "ratelimited",
        "next_try": NOW + 3,
    }
    reader.rows = [incident_row(1, state="resolved", resolved_at=NOW), incident_row(2, value=None, limit=None)]
    reader.steps = [TransitionRow("inc-1", 1, "opened", "warning", NOW, None, "")]
    reader.runs = [ProbeRow("web-1", "cpu", NOW, "timeout", 8.0, "no answer")]
    reader.values = [SeriesRow("cpu.used_percent", "percent", "gauge", {"core": "0"}, [(NOW, 1.0)])]
    reader.lost = [GapRow("web-1", "0" * 32, 3, "bytes", [(4, 6)], NOW, NOW, NOW)]
    app = make_app(reader, fleet, Hub(), Config(), Stats(), clock=clock)
    async with TestClient(TestServer(app)) as client:
        yield client


def check(value: Any, schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


def schema_of(path: str, status: str) -> dict[str, Any]:
    answer = DOCUMENT["paths"][path]["get"]["responses"][status]
    if "$ref" in answer:
        answer = DOCUMENT["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]]
    schema: dict[str, Any] = answer["content"]["application/json"]["schema"]
    return schema


async def test_every_path_is_documented_and_nothing_else(client: TestClient) -> None:
    """A new path without its description fails here, and so does a description of nothing."""
    served = {route.resource.canonical for route in client.server.app.router.routes() if route.resource}
    assert served - PAGES == set(DOCUMENT["paths"])


@pytest.mark.parametrize(
    ("path", "asked", "status"),
    [
        ("/api/v1/hosts", "/api/v1/hosts", 200),
        ("/api/v1/hosts/{host}", "/api/v1/hosts/web-1", 200),
        ("/api/v1/hosts/{host}", "/api/v1/hosts/none", 404),
        ("/api/v1/series", "/api/v1/series?host=web-1&metric=cpu.*", 200),
        ("/api/v1/series", "/api/v1/series", 400),
        ("/api/v1/incidents", "/api/v1/incidents", 200),
        ("/api/v1/incidents", "/api/v1/incidents?state=shut", 400),
        ("/api/v1/incidents/{incident}", "/api/v1/incidents/inc-1", 200),
        ("/api/v1/gaps", "/api/v1/gaps", 200),
        ("/api/v1/gallery", "/api/v1/gallery", 200),
        ("/api/v1/stream", "/api/v1/stream?kind=none", 400),
        ("/healthz", "/healthz", 503),
    ],
)
async def test_answers_have_the_documented_shape(client: TestClient, path: str, asked: str, status: int) -> None:
    """Real answers validate against the schema that is promised for them."""
    answer = await client.get(asked)
    assert answer.status == status
    responses = DOCUMENT["paths"][path]["get"]["responses"]
    check(await answer.json(), schema_of(path, str(status) if str(status) in responses else "default"))


async def test_no_field_is_undocumented(client: TestClient) -> None:
    """What an incident and a host carry is what the document lists."""
    incidents = (await (await client.get("/api/v1/incidents")).json())["incidents"]
    assert set(incidents[0]) == set(SCHEMAS["Incident"]["properties"])
    hosts = (await (await client.get("/api/v1/hosts")).json())["hosts"]
    assert set(hosts[0]) == {*SCHEMAS["Host"]["properties"], "usage"}


def test_words_are_those_of_the_model() -> None:
    """Enumerations follow the types, so that a new word cannot be forgotten here."""
    assert SCHEMAS["Severity"]["enum"] == [str(severity) for severity in Severity]
    assert SCHEMAS["Transition"]["properties"]["kind"]["enum"] == [str(kind) for kind in TransitionKind]
    assert SCHEMAS["ProbeStatus"]["enum"] == list(ProbeStatus.__args__)
    fields = {field.name: field.type for kind in (Gap, Health, DeliveryState) for field in msgspec.structs.fields(kind)}
    assert set(SCHEMAS["Delivery"]["properties"]["state"]["enum"]) == {*fields["state"].__args__, "unknown"}
    assert SCHEMAS["Gap"]["properties"]["reason"]["enum"] == list(fields["reason"].__args__)
    assert SCHEMAS["Health"]["properties"]["status"]["enum"] == list(fields["status"].__args__)


def test_the_document_refers_only_to_what_is_there() -> None:
    """Every $ref resolves."""

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                target: Any = DOCUMENT
                for part in node["$ref"].removeprefix("#/").split("/"):
                    target = target[part]
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(DOCUMENT)
