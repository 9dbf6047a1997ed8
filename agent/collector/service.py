"""WIRING of the collector: broker, ingest, store, fleet, retention and web, joined in one task group."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gc
import logging
import re
import secrets
import signal
import socket
from collections.abc import Callable, Coroutine

import uvloop
from aiohttp import web

from agent.clock import Clock, SystemClock
from agent.collector.chatops.office import Office
from agent.collector.fleet import Fleet
from agent.collector.ingest import Ingest
from agent.collector.live import Hub
from agent.collector.retention import Retention
from agent.collector.speech import Speech
from agent.collector.stats import Stats
from agent.collector.store import HostRow, Reader, Store
from agent.collector.web import make_app
from agent.collector.web.app import SERVER
from agent.collector.web.connections import CONNECTIONS
from agent.config.schema import Config
from agent.ending import GOODBYE, end
from agent.errors import ConfigError, RefusedError, StoreError, UnavailableError
from agent.systemd import Notifier
from agent.transport import wire
from agent.transport.mqtt import Backoff, Link, Session

log = logging.getLogger(__name__)

GARBAGE_AFTER = 200_000
SAVE_EVERY = 10.0
RECONCILE_EVERY = 30.0
LONGEST_PAUSE = 5.0
LAST_COMMIT = 3.0
"""Seconds that a commit under way may take at the end."""

SPOOLED = ("metrics/+", "incidents/+", "gaps")
KNOWN = ("status", "health", "deliveries", "replies/+")


@dataclasses.dataclass(frozen=True)
class Collector:
    """What runs, for those who start it; `url` is the dashboard's."""

    url: str
    reader: Reader
    fleet: Fleet
    hub: Hub
    stats: Stats
    office: Office


def collect(config: Config) -> None:
    """Serve until SIGTERM or SIGINT, on uvloop, telling systemd."""
    stop = asyncio.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, log.warning, "SIGHUP ignored: the collector reads its file at start")
        notifier = Notifier.from_environment()
        await serve(config, clock=SystemClock(), ready=None, stop=stop, notifier=notifier)

    # A batch is some hundred thousand objects that live until its commit: looking through them again and
    # again for cycles, of which there are none, would take half of our time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER, 10, 10)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def serve(
    config: Config,
    *,
    clock: Clock,
    ready: Callable[[Collector], None] | None,
    stop: asyncio.Event,
    notifier: Notifier | None = None,
) -> None:
    """Run the collector until `stop` is set. `ready` is called once the web server listens.

    Neither broker nor database needs to be there. UnavailableError if the port is taken, ConfigError
    for a store that is none or an address that is not to be open.
    """
    service = _Service(config, clock, notifier or Notifier())
    await service.run(ready, stop)


class _Service:
    def __init__(self, config: Config, clock: Clock, notifier: Notifier) -> None:
        self._config = config
        self._clock = clock
        self._notifier = notifier
        self._name = collector_name(config)
        self._stats = Stats()
        self._hub = Hub()
        self._fleet = Fleet(clock, self._hub, config.collector.offline_after)
        self._store = open_store(config, clock)
        self._office = Office(config, self._name, self._fleet, self._store, clock)
        self._ingest = Ingest(self._store, self._fleet, self._stats, clock, self._office.fanout.heard)
        self._retention = Retention(self._store, clock, config.collector.retention)
        self._link = Link(
            config.mqtt,
            identifier=f"tocsin-collector-{self._name}-{secrets.token_hex(4)}",
            subscriptions=subscriptions(share=config.collector.share),
            clock=clock,
            will=lambda _: (f"{wire.PREFIX}/_collector/{self._name}/status", wire.encode(wire.Heartbeat("offline"))),
            backoff=Backoff(first=min(1.0, config.mqtt.reconnect_spread), cap=10.0),  # one collector is no herd
        )

    async def run(self, ready: Callable[[Collector], None] | None, stop: asyncio.Event) -> None:
        self._speech = await Speech.open(
            self._config,
            self._name,
            ingest=self._ingest,
            fleet=self._fleet,
            reader=self._store.reader,
            stats=self._stats,
            clock=self._clock,
        )
        self._office.orders.keep(self._speech.custody)
        app = make_app(
            self._store.reader,
            self._fleet,
            self._hub,
            self._config,
            self._stats,
            clock=self._clock,
            office=self._office,
        )
        runner = web.AppRunner(app, shutdown_timeout=2.0, **SERVER)
        await runner.setup()
        try:
            url = await listen(runner, self._config.collector.listen)
            log.info("collector listens", extra={"url": url})
            if ready is not None:
                ready(Collector(url, self._store.reader, self._fleet, self._hub, self._stats, self._office))
            self._notifier.ready()
            await self._work(stop, functools.partial(app[CONNECTIONS].run, runner))
        finally:
            self._notifier.stopping()
            self._hub.close()
            await self._office.aclose()
            await runner.cleanup()
            await self._speech.aclose()
            await self._store.aclose()
        log.info("collector stopped")

    async def _work(self, stop: asyncio.Event, tidy: Callable[[], Coroutine[None, None, None]]) -> None:
        async with asyncio.TaskGroup() as group:
            link = group.create_task(self._link.run(self._session))
            works = (self._stored, self._watch, self._feed, self._speech.run, self._office.run, tidy)
            others = [group.create_task(work()) for work in works]
            await stop.wait()
            await self._speech.end()
            await end([link], GOODBYE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_COMMIT):
                    await self._ingest.idle()
                    await self._save()
            await end(others)

    async def _session(self, session: Session) -> None:
        """One connection to the broker, until it is lost (TransportError)."""
        heartbeat = asyncio.create_task(self._speech.heartbeat(session))
        self._office.fanout.session = session
        try:
            await self._ingest.receive(session)
        finally:
            self._office.fanout.session = None
            await end([heartbeat])

    async def _stored(self) -> None:
        """Everything that needs the database, once it is there."""
        pause = 0.2
        while True:
            try:
                await self._store.migrate()
                self._fleet.restore(await self._store.reader.hosts())
                self._fleet.restore_incidents(await self._store.reader.open_incidents())
                break
            except StoreError as error:
                self._ingest.committer.lost(error, first=pause == 0.2)
                await self._clock.sleep(pause)
                pause = min(LONGEST_PAUSE, pause * 2)
        self._ingest.committer.back()
        async with asyncio.TaskGroup() as group:
            for work in (self._ingest.run, self._retention.run, self._keep):
                group.create_task(work())

    async def _keep(self) -> None:
        """Write the hosts' state down now and then; with several collectors, read what the others have written."""
        reconciled = self._clock.monotonic()
        while True:
            await self._clock.sleep(SAVE_EVERY)
            await self._save()
            if self._config.collector.share and self._clock.monotonic() - reconciled >= RECONCILE_EVERY:
                reconciled = self._clock.monotonic()
                with contextlib.suppress(StoreError):  # the next commit says that it is away
                    self._fleet.restore(await self._store.reader.hosts())
                    self._fleet.restore_incidents(await self._store.reader.open_incidents())

    async def _save(self) -> None:
        rows = self._fleet.take_changed()
        try:
            await self._save_rows(rows)
        except StoreError as error:
            self._fleet.keep_changed(rows)
            self._ingest.committer.lost(error)

    async def _save_rows(self, rows: list[HostRow]) -> None:
        """What one host says of itself and the database refuses must not cost the others their rows."""
        try:
            await self._store.save_hosts(rows)
        except RefusedError as error:
            if len(rows) == 1:
                log.warning("state of a host refused", extra={"host": rows[0].host, "error": str(error)[:200]})
                return
            for row in rows:
                await self._save_rows([row])

    async def _watch(self) -> None:
        """Once a second: who has grown silent, and is the broker there."""
        while True:
            self._fleet.sweep()
            self._speech.herald.tick()
            self._stats.broker_up = self._link.connected
            self._stats.connects = self._link.connects
            broker = "connected" if self._link.connected else f"away ({self._link.last_error})"
            store = "ready" if self._stats.store_up else "away"
            self._notifier.status(f"broker {broker}, database {store}")
            await self._clock.sleep(1.0)

    async def _feed(self) -> None:
        """Systemd's watchdog: fed for as long as this loop turns."""
        while self._notifier.watchdog is not None:
            self._notifier.alive()
            await self._clock.sleep(self._notifier.watchdog / 3)


def collector_name(config: Config) -> str:
    """`[collector] name` or this machine's, as one level of a topic."""
    name = config.collector.name or socket.gethostname()
    return re.sub(r"[^a-z0-9.-]", "-", name.lower())[:63] or "collector"


def subscriptions(*, share: bool) -> list[str]:
    """Envelopes are shared among collectors where that is asked for; what is known of hosts, all must know."""
    prefix = "$share/collectors/" if share else ""
    shared = [f"{prefix}{wire.PREFIX}/+/{channel}" for channel in SPOOLED]
    return [*shared, *(f"{wire.PREFIX}/+/{channel}" for channel in KNOWN), wire.HEARTBEATS]


def open_store(config: Config, clock: Clock) -> Store:
    """Without a URL: SQLite in the state directory. ConfigError for what is no store."""
    collector = config.collector
    try:
        password = collector.store_password.reveal() if collector.store_password else None
        url = collector.store
        if not url:
            config.agent.state_dir.mkdir(parents=True, exist_ok=True)
            url = f"sqlite:///{(config.agent.state_dir / 'collector.db').absolute()}"
        return Store(url, password, clock)
    except OSError as error:
        raise ConfigError([f"agent.state_dir: {error}"]) from error
    except (ValueError, StoreError) as error:
        raise ConfigError([f"collector.store: {error}"]) from error


async def listen(runner: web.AppRunner, address: str) -> str:
    """Listen on "host:port" (port 0: any); the URL to look at."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        site = web.TCPSite(runner, host or None, int(port))
    except ValueError as error:
        raise ConfigError([f"collector.listen: expected HOST:PORT, got {address!r}"]) from error
    try:
        await site.start()
    except OSError as error:
        raise UnavailableError(
            f"cannot listen on {address}: {error.strerror or error}: choose another address with --listen "
            "or [collector] listen"
        ) from error
    taken = runner.addresses[0]
    shown = f"[{taken[0]}]" if ":" in taken[0] else taken[0]
    return f"http://{shown}:{taken[1]}"
