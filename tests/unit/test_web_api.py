"""The HTTP API over fakes of the collector's readers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from aiohttp.test_utils import TestClient, TestServer

from agent.collector.live import Hub
from agent.collector.stats import Stats
from agent.collector.store import GapRow, ProbeRow, SeriesRow, TransitionRow
from agent.collector.web import make_app
from agent.config.schema import CollectorConfig, Config
from tests.fakes.clock import ManualClock
from tests.fakes.collector import NOW, FakeFleet, FakeReader, host_entry, incident_row, sample


@dataclass
class Site:
    client: TestClient
    reader: FakeReader
    fleet: FakeFleet
    hub: Hub
    stats: Stats
    clock: ManualClock

    async def get(self, path: str, status: int = 200, **query: str):
        answer = await self.client.get(path, params=query)
        assert answer.status == status, await answer.text()
        return await answer.json()


@pytest.fixture
async def site(clock: ManualClock) -> AsyncIterator[Site]:
    reader, fleet, hub, stats = FakeReader(), FakeFleet(clock), Hub(), Stats(store_up=True, broker_up=True)
    fleet.entries = [host_entry(), host_entry("db-1", state="offline")]
    app = make_app(reader, fleet, hub, Config(collector=CollectorConfig()), stats, clock=clock)
    async with TestClient(TestServer(app)) as client:
        yield Site(client, reader, fleet, hub, stats, clock)


async def test_hosts_have_the_agreed_shape_and_what_they_use(site: Site) -> None:
    """A host entry keeps every field of the fleet and gains the three numbers of a tile."""
    disk = [{"name": "disk.used_percent", "value": v, "labels": {"mount": m}} for m, v in (("/", 40.0), ("/srv", 71.0))]
    site.fleet.samples = [sample(), sample(probe="disk", metrics=disk)]
    first, second = (await site.get("/api/v1/hosts"))["hosts"]
    assert first.items() >= site.fleet.entries[0].items()
    assert first["usage"] == {"cpu": 12.5, "memory": None, "disk": 71.0, "mount": "/srv"}
    assert second["usage"]["cpu"] is None


async def test_per_core_values_are_not_taken_for_the_whole_cpu(site: Site) -> None:
    """Only the series without labels is the host's."""
    core = {"name": "cpu.used_percent", "value": 99.0, "labels": {"core": "0"}}
    site.fleet.samples = [sample(metrics=[*sample()["metrics"], core])]
    assert (await site.get("/api/v1/hosts"))["hosts"][0]["usage"]["cpu"] == 12.5


async def test_one_host_comes_with_its_probes(site: Site) -> None:
    """The host page needs the state of each probe, also of one that fails."""
    site.fleet.samples = [sample()]
    site.reader.runs = [ProbeRow("web-1", "nfs", NOW, "timeout", 8.0, "no answer")]
    found = await site.get("/api/v1/hosts/web-1")
    assert found["host"]["host"] == "web-1"
    assert found["probes"][0]["status"] == "timeout"
    assert found["latest"][0]["probe"] == "cpu"
    assert (await site.get("/api/v1/hosts/nobody", 404))["error"]["code"] == "unknown_host"


async def test_series_pass_their_window_on(site: Site) -> None:
    """What is asked of the store is what was asked of us, and points are pairs."""
    site.reader.values = [SeriesRow("cpu.used_percent", "percent", "gauge", {}, [(NOW - 10, 1.5), (NOW, 2.0)])]
    query = {"host": "web-1", "metric": "cpu.*", "from": "1789999000", "to": "1790000000", "step": "10"}
    found = await site.get("/api/v1/series", **query)
    assert found["series"] == [
        {
            "metric": "cpu.used_percent",
            "unit": "percent",
            "kind": "gauge",
            "labels": {},
            "points": [[NOW - 10, 1.5], [NOW, 2.0]],
            "thinned": False,
        }
    ]
    assert site.reader.asked == [("web-1", "cpu.*", 1789999000.0, 1790000000.0, 10.0)]


async def test_series_default_to_the_last_hour_unthinned(site: Site) -> None:
    """Without from, to and step: every sample of the hour before now."""
    await site.get("/api/v1/series", host="web-1", metric="*")
    assert site.reader.asked == [("web-1", "*", NOW - 3600, NOW, 0)]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"metric": "cpu.*"}, "bad_host"),
        ({"host": "Web 1", "metric": "cpu.*"}, "bad_host"),
        ({"host": "web-1\n", "metric": "cpu.*"}, "bad_host"),
        ({"host": "web-1"}, "bad_metric"),
        ({"host": "web-1", "metric": "c*u"}, "bad_metric"),
        ({"host": "web-1", "metric": "x' or 1=1"}, "bad_metric"),
        ({"host": "web-1", "metric": "cpu.*", "from": "yesterday"}, "bad_from"),
        ({"host": "web-1", "metric": "cpu.*", "from": "nan"}, "bad_from"),
        ({"host": "web-1", "metric": "cpu.*", "to": "inf"}, "bad_to"),
        ({"host": "web-1", "metric": "cpu.*", "step": "-1"}, "bad_step"),
        ({"host": "web-1", "metric": "cpu.*", "from": "20", "to": "10"}, "bad_range"),
        ({"host": "web-1", "metric": "cpu.*", "start": "10"}, "unknown_parameter"),
    ],
)
async def test_a_bad_question_is_refused_by_name(site: Site, query: dict[str, str], code: str) -> None:
    """Wrong parameters are answered 400 with the parameter's name, and never reach the store."""
    error = (await site.get("/api/v1/series", 400, **query))["error"]
    assert error["code"] == code
    assert error["message"]
    assert site.reader.asked == []


async def test_of_two_values_none_is_left_out_silently(site: Site) -> None:
    for path, name in (
        ("series?host=web-1&host=web-2&metric=x", "host"),
        ("incidents?state=open&state=open", "state"),
        ("gaps?limit=1&limit=2", "limit"),
    ):
        answer = await site.client.get(f"/api/v1/{path}")
        assert answer.status == 400
        error = (await answer.json())["error"]
        assert error["code"] == "repeated_parameter"
        assert error["message"].startswith(name)


async def test_incidents_are_filtered_and_paged(site: Site) -> None:
    """Following `next` shows each incident once, and then ends."""
    site.reader.rows = [incident_row(n) for n in range(5)] + [incident_row(9, state="resolved")]
    seen, cursor = [], ""
    for _ in range(3):
        page = await site.get("/api/v1/incidents", state="open", host="web-1", limit="2", cursor=cursor)
        seen += [incident["id"] for incident in page["incidents"]]
        cursor = page["next"]
    assert seen == [f"inc-{n}" for n in range(5)]
    assert cursor == ""


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"state": "closed"}, "bad_state"),
        ({"limit": "0"}, "bad_limit"),
        ({"limit": "501"}, "bad_limit"),
        ({"limit": "²"}, "bad_limit"),
        ({"cursor": "not ours"}, "bad_cursor"),
    ],
)
async def test_bad_incident_filters_are_refused(site: Site, query: dict[str, str], code: str) -> None:
    """As for series; a cursor that the store does not know is the reader's mistake, not ours."""
    assert (await site.get("/api/v1/incidents", 400, **query))["error"]["code"] == code


async def test_an_incident_tells_its_delivery(site: Site) -> None:
    """What the host told of Slack is shown; where it told nothing, that is said."""
    site.reader.rows = [incident_row(1), incident_row(2)]
    site.fleet.deliveries["web-1", "inc-1"] = {"state": "delivered", "channel": "#alerts", "attempts": 1}
    first, second = (await site.get("/api/v1/incidents"))["incidents"]
    assert first["delivery"] == {"state": "delivered", "channel": "#alerts", "attempts": 1}
    assert second["delivery"] == {"state": "unknown"}


async def test_an_incident_has_its_timeline(site: Site) -> None:
    """One incident comes with its transitions, in the order of the store."""
    site.reader.rows = [incident_row(1)]
    site.reader.steps = [
        TransitionRow("inc-1", n, kind, "warning", NOW, 91.0, "") for n, kind in ((1, "opened"), (2, "reminded"))
    ]
    found = await site.get("/api/v1/incidents/inc-1")
    assert [step["kind"] for step in found["transitions"]] == ["opened", "reminded"]
    assert found["incident"]["id"] == "inc-1"
    assert (await site.get("/api/v1/incidents/none", 404))["error"]["code"] == "unknown_incident"


async def test_gaps_are_listed_by_host(site: Site) -> None:
    """What a spool had to drop is there to be read."""
    site.reader.lost = [GapRow(h, "0" * 32, 3, "bytes", [(4, 6)], NOW - 9, NOW - 1, NOW) for h in ("web-1", "db-1")]
    [gap] = (await site.get("/api/v1/gaps", host="db-1"))["gaps"]
    assert (gap["host"], gap["count"], gap["ranges"]) == ("db-1", 3, [[4, 6]])


async def test_a_database_away_is_said_with_503(site: Site) -> None:
    """The reader learns that it is the store, and nothing of what the driver said."""
    site.reader.down = True
    error = (await site.get("/api/v1/incidents", 503))["error"]
    assert error["code"] == "store_unavailable"
    assert "no database" not in error["message"]


async def test_an_unknown_path_is_an_api_error(site: Site) -> None:
    """Nothing answers with a page of the library's own."""
    assert (await site.get("/api/v2/hosts", 404))["error"]["code"] == "not_found"
    answer = await site.client.post("/api/v1/hosts")
    assert answer.status == 405
    assert (await answer.json())["error"]["code"] == "refused"


async def test_what_nobody_expected_is_a_500_that_tells_nothing(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """The traceback is in the log; the answer keeps the API's form."""
    site.fleet.samples = [{"host": "web-1"}]
    error = (await site.get("/api/v1/hosts", 500))["error"]
    assert error["code"] == "internal"
    assert "KeyError" in caplog.text


async def test_long_answers_are_compressed_and_short_ones_are_not(site: Site) -> None:
    """gzip only where it pays, and only for those who take it."""
    assert "Content-Encoding" not in (await site.client.get("/api/v1/gaps")).headers
    site.reader.rows = [incident_row(n) for n in range(50)]
    packed = await site.client.get("/api/v1/incidents", headers={"Accept-Encoding": "gzip, br"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["Vary"] == "Accept-Encoding"
    plain = await site.client.get("/api/v1/incidents", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert len((await plain.json())["incidents"]) == 50


async def test_healthz_follows_store_and_broker(site: Site) -> None:
    """A balancer sees at once which of the two is away."""
    assert await site.get("/healthz") == {"status": "ok", "store": "up", "broker": "up"}
    site.stats.broker_up = False
    assert await site.get("/healthz", 503) == {"status": "degraded", "store": "up", "broker": "down"}


async def test_metrics_are_prometheus_text(site: Site) -> None:
    """Counters, per-host ages and delivery states, each with its HELP and TYPE before it."""
    site.stats.envelopes = 12
    site.reader.rows = [incident_row(1), incident_row(2)]
    site.fleet.deliveries["web-1", "inc-2"] = {"state": "ambiguous"}
    site.fleet.deliveries["web-1", "inc-3"] = {"state": "dead"}
    site.fleet.deliveries["web-1", "inc-4"] = {"state": "delivered"}
    answer = await site.client.get("/metrics")
    lines = (await answer.text()).splitlines()
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "tocsin_collector_envelopes_total 12" in lines
    assert 'tocsin_host_up{host="db-1"} 0' in lines
    assert 'tocsin_host_last_seen_age_seconds{host="web-1"} 3' in lines
    assert 'tocsin_deliveries{state="ambiguous"} 1' in lines
    assert 'tocsin_deliveries{state="unknown"} 1' in lines
    assert 'tocsin_deliveries{state="dead"} 1' in lines, "resolved, and Slack does not show it"
    assert not any('"delivered"' in line for line in lines), "resolved, and Slack shows it"
    for name in {line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}:
        assert sum(line.startswith(f"# TYPE {name} ") for line in lines) == 1


async def test_metrics_survive_a_database_away(site: Site) -> None:
    """What is known without it is worth most then."""
    site.reader.down = True
    site.stats.store_up = False
    text = await (await site.client.get("/metrics")).text()
    assert "tocsin_collector_store_up 0\n" in text
    assert 'tocsin_host_up{host="web-1"} 1\n' in text
    assert "tocsin_store_hosts" not in text
