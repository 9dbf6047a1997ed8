"""The host daemon: one TaskGroup in which probes feed the engine and the spool, and these feed Slack and MQTT."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
from typing import TextIO

from agent.alerting.health import HealthBook
from agent.clock import Clock
from agent.config.rules import OWN_PROBE
from agent.config.schema import Config
from agent.daemon import alert_test
from agent.daemon.alert_test import AlertTest
from agent.daemon.guard import FATAL, guard
from agent.daemon.intake import Intake
from agent.daemon.parts import Identity, Parts, link, thresholds
from agent.daemon.report import Report
from agent.daemon.self_probe import Figure, SelfProbe, Vitals
from agent.daemon.setup import Setup
from agent.ending import GOODBYE, end
from agent.model import Evidence, Incident, Metric, ProbeResult, Transition
from agent.slack import picture
from agent.slack.speaker import messenger
from agent.systemd import Notifier
from agent.transport import wire
from agent.transport.spool import Priority
from agent.transport.wire import Topic

log = logging.getLogger(__name__)

LAST_WORDS = 2.0
"""Seconds for the last transitions to reach the spool at the end; probes have 3 before, the connection 2 after."""
STOP_WITHIN = 3.0
"""Seconds for the files to be closed then."""
MARK_EVERY = 30.0
"""Seconds between looks at whether the spool, in memory only until now, has its incidents on disk."""


class Daemon:
    """Use `await daemon.run(stop)`; `reload` may be called meanwhile. `output` is where incidents are printed."""

    _parts: Parts
    _report: Report
    _self_probe: SelfProbe
    _alert_test: AlertTest
    _intake: Intake

    def __init__(
        self, setup: Setup, *, clock: Clock, notifier: Notifier | None = None, output: TextIO | None = None
    ) -> None:
        self._setup = setup
        self._clock = clock
        self._notifier = notifier or Notifier()
        self._output = output
        self.identity = Identity(setup.config.agent.host, os.urandom(16).hex())
        self._vitals = Vitals()
        self._opened = False
        self._pending: Setup | None = None
        self._told = asyncio.Event()
        self._in_spool: set[tuple[str, int]] = set()

    @property
    def config(self) -> Config:
        return self._setup.config

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; then everything is put away within 10 s. Raises what no restart of a part can mend."""
        await self._open()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(guard(name, work, self._clock), name=name)
                    for name, work in (
                        ("outbox", self._parts.outbox.run),
                        ("inquiry", self._parts.insight.run),
                        ("handover", self._parts.handover.run),
                        ("fallback", self._parts.fallback.run),
                        ("pictures", self._parts.pictures.run),
                        ("shipper", self._parts.shipper.run),
                        ("incidents", self._ship_incidents),
                        ("deliveries", self._report.publish_deliveries),
                        ("commands", self._intake.run),
                        ("self", self._measure_self),
                        ("tick", self._tick),
                        ("watchdog", self._feed_watchdog),
                    )
                ]
                self._parts.scheduler.start()
                self._notifier.ready()
                self._parts.mouth.warm()
                log.info("agent started", extra={"host": self.identity.host, "probes": len(self._setup.planned)})
                await stop.wait()
                self._notifier.stopping()
                await self._end(tasks)
        except BaseExceptionGroup as errors:
            raise _fatal(errors) from None
        finally:
            await self._close()
        log.info("agent stopped", extra={"host": self.identity.host})

    def reload(self, setup: Setup) -> None:
        """Go on with another configuration: probes, thresholds, Slack, health and broker change, nothing is lost."""
        if not self._opened:  # asked for while we open the files: as soon as they are
            self._pending = setup
            return
        before, self._setup = self.config, setup
        after, parts = self.config, self._parts
        parts.scheduler.apply(setup.planned)
        self._vitals.keep([OWN_PROBE, *(planned.name for planned in setup.planned)])
        parts.insight.reload(thresholds(after))
        self._tell(parts.engine.reload(thresholds(after), after.maintenance))
        if after.slack != before.slack or after.slack.bot_token is not None:  # under its name may be a new token
            parts.mouth.now = messenger(after.slack, self._output)
            parts.mouth.warm()
            parts.pictures.on = picture.wanted(after.slack)
            storms = after.slack.storm_after, float(after.slack.storm_within)
            parts.outbox.reroute(after.slack.channel, after.slack.routes, storms)
            parts.handover.reload(after.slack)
        if after.health != before.health:
            parts.book = HealthBook(after.health)
        hears_more = self._intake.listen()
        if hears_more or after.mqtt != before.mqtt or after.agent.labels != before.agent.labels:
            parts.road.replace(link(after.mqtt, self.identity, self._clock))
        for key in _fixed(before, after):
            log.warning("a change takes hold with the next start only", extra={"key": key})
        log.info("configuration reloaded", extra={"probes": len(setup.planned), "thresholds": len(after.thresholds)})

    # -- beginning and end

    async def _open(self) -> None:
        changed = asyncio.Event()
        self._parts = parts = await Parts.open(
            lambda: self.config,
            self.identity,
            self._clock,
            on_result=self._take,
            on_deliveries=changed.set,
            on_evidence=self._add_evidence,
            output=self._output,
        )
        self._report = Report(parts, self.identity, self._vitals, self._clock)
        self._report.changed = changed
        self._self_probe = SelfProbe(self._clock, self._vitals, self._figures)
        directory = self.config.agent.state_dir
        self._alert_test = AlertTest(directory, self._clock, self._emit_test, parts.outbox.shown)
        self._intake = Intake(
            parts, self.identity, lambda: self._setup, self._clock, line=self._status_line, tell=self._tell
        )
        await self._intake.open()
        parts.scheduler.apply(self._setup.planned)
        await self._ship_again()
        self._told.set()  # there may be transitions of the last process that the spool has not
        if any(incident.threshold == alert_test.THRESHOLD.name for incident in parts.engine.incidents()):
            self._emit_test(0.0)
        self._opened = True
        if self._pending is not None:
            self.reload(self._pending)

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        """No new results; what was judged goes to the spool; then the tasks, the connection among them."""
        await asyncio.gather(self._parts.scheduler.stop(), self._intake.aclose())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self._put_incidents()
        await end(tasks, GOODBYE)

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(STOP_WITHIN):
                await asyncio.gather(self._parts.spool.aclose(), self._parts.engine.aclose())
        except TimeoutError:
            log.error("the disk did not take everything in time")

    # -- where both paths begin

    def _take(self, result: ProbeResult) -> None:
        """Every result goes to the spool first: what is wrong with judging it must not cost the sample."""
        host, epoch = self.identity.host, self.identity.epoch
        build = functools.partial(_metrics_envelope, host, epoch, result)
        topic = Topic(host, "metrics", result.probe)
        self._parts.spool.put(topic, build, priority=Priority.METRICS, time=result.time)
        self._vitals.observe(result)
        self._parts.insight.observe(result)
        self._intake.observe(result)
        self._tell(self._parts.engine.observe(result, self._interval(result.probe)))
        self._parts.book.observe(result)

    def _tell(self, pairs: list[tuple[Incident, Transition]]) -> None:
        for incident, transition in pairs:
            self._parts.outbox.desire(incident)
            self._alert_test.note(incident, transition)
        self._parts.insight.consider(pairs)
        if pairs:
            self._told.set()

    def _add_evidence(self, incident_id: str, evidence: tuple[Evidence, ...]) -> None:
        with contextlib.suppress(KeyError):  # it is over meanwhile
            self._tell(self._parts.engine.add_evidence(incident_id, evidence))

    def _interval(self, probe: str) -> float:
        """As planned, in seconds; 0 where only cron knows."""
        if probe == OWN_PROBE:
            return float(self.config.agent.interval)
        return next((planned.interval or 0.0 for planned in self._setup.planned if planned.name == probe), 0.0)

    def _emit_test(self, value: float) -> None:
        metric = Metric(alert_test.METRIC, value)
        self._take(ProbeResult(OWN_PROBE, self._clock.now(), "ok", 0.0, (metric,)))

    async def _ship_incidents(self) -> None:
        while True:
            try:
                async with asyncio.timeout(MARK_EVERY):
                    await self._told.wait()
            except TimeoutError:
                if not self._in_spool:
                    continue
            self._told.clear()
            await self._put_incidents()

    async def _ship_again(self) -> None:
        """What is open, once at each start, as the broker may have lost what it kept; the collector knows the version.

        What the collector has not acknowledged yet is in the spool and comes by itself, so that restarts fill nothing.
        """
        times = await self._parts.spool.times(Priority.INCIDENT)

        def waits(incident: Incident, transition: Transition) -> bool:
            topic = str(Topic(incident.host, "incidents", incident.id))
            return times.get(topic, float("-inf")) >= transition.time

        self._parts.engine.ship_again(waits)

    async def _put_incidents(self) -> None:
        """Each transition into the spool once, and out of the engine's memory when the spool has it on disk."""
        engine, spool = self._parts.engine, self._parts.spool
        epoch = self.identity.epoch
        await engine.flush()
        for incident, transition in engine.unshipped():
            key = incident.id, transition.version
            if key in self._in_spool:
                continue
            self._in_spool.add(key)
            build = functools.partial(_incident_envelope, incident.host, epoch, incident, transition)
            topic = Topic(incident.host, "incidents", incident.id)  # of the id that this host had then
            spool.put(topic, build, priority=Priority.INCIDENT, time=transition.time, retain=True)
        handed = set(self._in_spool)  # another call may hand over more while we wait
        await spool.flush()
        if not spool.stats().memory_only:
            for incident_id, transition_version in handed:
                engine.mark_shipped(incident_id, transition_version)
            self._in_spool -= handed

    # -- beside them

    async def _measure_self(self) -> None:
        while True:
            await self._clock.sleep(float(self.config.agent.interval))
            self._take(self._self_probe.measure(self._report.health()))

    async def _tick(self) -> None:
        while True:
            before = self._clock.monotonic()
            await self._clock.sleep(1.0)
            self._vitals.lag = max(self._vitals.lag, self._clock.monotonic() - before - 1.0)
            self._tell(self._parts.engine.tick())
            self._alert_test.tick()
            self._report.publish_health()
            self._notifier.status(self._status_line())

    def _figures(self) -> list[Figure]:
        return [*self._report.figures(), *self._intake.figures()]

    def _status_line(self) -> str:
        return self._report.status_line(len(self._setup.planned))

    async def _feed_watchdog(self) -> None:
        """Only while the loop turns, probes finish and the spool commits."""
        period, told = self._notifier.watchdog, ""
        while period is not None:
            reason = self._report.stuck(self._setup.planned, float(self.config.agent.interval))
            if not reason:
                self._notifier.alive()
            elif not told:
                log.error("not telling the watchdog that we live", extra={"reason": reason})
            told = reason
            await self._clock.sleep(period / 3)


def _fixed(before: Config, after: Config) -> list[str]:
    """What a running daemon cannot change."""
    same = {
        "agent.host": before.agent.host == after.agent.host,
        "agent.state_dir": before.agent.state_dir == after.agent.state_dir,
        "spool": before.spool == after.spool,
        "slack.takeover_after": before.slack.takeover_after <= after.slack.takeover_after,
    }
    return [key for key, unchanged in same.items() if not unchanged]


def _metrics_envelope(host: str, epoch: str, result: ProbeResult, seq: int) -> wire.MetricsEnvelope:
    return wire.MetricsEnvelope.of(host, epoch, seq, result)


def _incident_envelope(
    host: str, epoch: str, incident: Incident, transition: Transition, seq: int
) -> wire.IncidentEnvelope:
    return wire.IncidentEnvelope(
        schema=1, host=host, epoch=epoch, seq=seq, time=transition.time, incident=incident, transition=transition
    )


def _fatal(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one to end with, out of all that ended together."""
    leaves = [_fatal(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    return next((error for error in leaves if isinstance(error, FATAL)), leaves[0])
