"""A real collector behind a real broker, and a real Chromium that looks at it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from playwright.async_api import Browser, Page, async_playwright

from agent.clock import SystemClock
from agent.collector.service import Collector, serve
from agent.config.schema import AgentConfig, CollectorConfig, Config, MqttConfig
from agent.config.secret import Secret
from agent.config.units import Duration
from agent.model import Incident, Metric, ProbeResult, Severity, Transition, TransitionKind
from agent.transport import wire
from tests.services import CHROMIUM_ARGS, Mosquitto, eventually, free_port, program

WATCH_POLICY = """
addEventListener("securitypolicyviolation", (event) => console.error("CSP violation: " + event.violatedDirective));
"""


class Host:
    """A host as the collector hears it: envelopes published by hand."""

    def __init__(self, client: aiomqtt.Client, name: str, labels: dict[str, str] | None = None) -> None:
        self.client = client
        self.name = name
        self.labels = labels or {}
        self.epoch = secrets.token_hex(16)
        self.seq = 0

    async def birth(self, state: Any = "online") -> None:
        status = wire.Status(state, self.epoch, 1, version="0.1.0", time=time.time(), labels=self.labels)
        await self.publish("status", wire.encode(status), retain=True)

    async def run(self, probe: str, *metrics: Metric, at: float | None = None, **changes: Any) -> None:
        """One probe run."""
        values = {"status": "ok", "duration": 0.002, "error": ""} | changes
        self.seq += 1
        result = ProbeResult(probe, at or time.time(), metrics=metrics, **values)
        envelope = wire.MetricsEnvelope.of(self.name, self.epoch, self.seq, result)
        await self.publish(f"metrics/{probe}", wire.encode(envelope))

    async def usage(self, cpu: float, at: float | None = None) -> None:
        """What a tile shows."""
        await self.run(
            "cpu", Metric("cpu.used_percent", cpu, "percent"), Metric("cpu.user_percent", cpu / 2, "percent"), at=at
        )
        await self.run("memory", Metric("memory.used_percent", 40.0, "percent"), at=at)
        await self.run("disk", Metric("disk.used_percent", 71.0, "percent", labels={"mount": "/"}), at=at)

    async def incident(
        self, kind: TransitionKind, version: int, severity: Severity = Severity.CRITICAL, **changes: Any
    ) -> None:
        """One step in the life of this host's one incident."""
        now = time.time()
        closed = kind is TransitionKind.RESOLVED
        values: dict[str, Any] = {
            "id": f"inc-{self.name}",
            "threshold": "disk almost full",
            "metric": "disk.used_percent",
            "labels": {"mount": "/"},
            "unit": "percent",
            "op": ">",
            "value": 96.5,
            "peak_value": 96.5,
            "limit": 95.0,
            "grade": "C",
            "summary": f"Disk / of {self.name} is almost full",
            "started_at": now - 60,
            "fired_at": now - 50,
            "updated_at": now,
            "state": "resolved" if closed else "open",
            "resolved_at": now if closed else None,
        }
        incident = Incident(host=self.name, severity=severity, peak=severity, version=version, **(values | changes))
        self.seq += 1
        envelope = wire.IncidentEnvelope(
            schema=1,
            host=self.name,
            epoch=self.epoch,
            seq=self.seq,
            time=now,
            incident=incident,
            transition=Transition(incident.id, version, kind, severity, now, value=incident.value),
        )
        await self.publish(f"incidents/{incident.id}", wire.encode(envelope))

    async def publish(self, tail: str, payload: bytes, *, retain: bool = False) -> None:
        await self.client.publish(f"{wire.PREFIX}/{self.name}/{tail}", payload, qos=1, retain=retain)


class Site:
    """The collector's service in this process; `start` again after `stop` keeps port and database."""

    def __init__(self, mosquitto: Mosquitto, directory: Path, client: aiomqtt.Client, token: str = "") -> None:
        self.client = client
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        secret = None
        if token:
            (directory / "token").write_text(token)
            secret = Secret("file", str(directory / "token"))
        self.config = Config(
            agent=AgentConfig(state_dir=directory),
            mqtt=MqttConfig(url=mosquitto.url, reconnect_spread=Duration(0.2)),
            collector=CollectorConfig(listen=f"{'0.0.0.0' if token else '127.0.0.1'}:{self.port}", token=secret),
        )
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.collector: Collector | None = None

    async def start(self) -> None:
        ready = asyncio.get_running_loop().create_future()
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(
            serve(self.config, clock=SystemClock(), ready=ready.set_result, stop=self._stop)
        )
        async with asyncio.timeout(20):
            await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
            if self._task.done():
                await self._task
            self.collector = await ready
        stats = self.collector.stats
        await eventually(lambda: stats.store_up and stats.broker_up, "database and broker")

    async def stop(self) -> None:
        self._stop.set()
        if self._task is not None:
            await self._task
            self._task = None

    async def host(self, name: str, labels: dict[str, str] | None = None) -> Host:
        host = Host(self.client, name, labels)
        await host.birth()
        return host


@pytest.fixture
async def client(mosquitto: Mosquitto) -> AsyncIterator[aiomqtt.Client]:
    async with aiomqtt.Client(mosquitto.host, mosquitto.port) as client:
        yield client


@pytest.fixture
async def site(mosquitto: Mosquitto, tmp_path: Path, client: aiomqtt.Client) -> AsyncIterator[Site]:
    site = Site(mosquitto, tmp_path, client)
    await site.start()
    yield site
    await site.stop()


@pytest.fixture
async def guarded_site(mosquitto: Mosquitto, tmp_path: Path, client: aiomqtt.Client) -> AsyncIterator[Site]:
    site = Site(mosquitto, tmp_path, client, token="open sesame")
    await site.start()
    yield site
    await site.stop()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program("chromium", "chromium"), args=[*CHROMIUM_ARGS]
        )
        yield browser
        await browser.close()


class Watch:
    """What must not happen on a page: errors, violations of the policy, dialogs, requests to anywhere else."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.allowed: Callable[[str], bool] = lambda _: False

    def on(self, page: Page, origin: str) -> None:
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self.faults.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: self._request(request.url, origin))

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not self.allowed(text):
            self.faults.append(f"{kind}: {text}")

    def _request(self, url: str, origin: str) -> None:
        if not url.startswith(f"{origin}/"):
            self.faults.append(f"asked elsewhere: {url}")


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
async def page(browser: Browser, site: Site, watch: Watch) -> AsyncIterator[Page]:
    """A page on the open site; whatever it complained of fails the test."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, base_url=site.url)
    context.set_default_timeout(15_000)
    page = await context.new_page()
    await page.add_init_script(WATCH_POLICY)
    watch.on(page, site.url)
    yield page
    with contextlib.suppress(Exception):
        await context.close()
    assert watch.faults == []
