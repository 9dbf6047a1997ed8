"""Every threshold over every series of this host: results in, incidents and transitions out.

A result that no rule names costs one look-up per metric, and a series at rest holds no memory. What
must survive a restart goes to the state file as it changes: open incidents, series that are not at
rest, and transitions until the wiring says that they were shipped.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.alerting.incident import acknowledge, amend, mute
from agent.alerting.memory import Memory, Pair, pair_key
from agent.alerting.muting import Muting
from agent.alerting.silence import Silence
from agent.alerting.state import State
from agent.alerting.threshold import Rule, compile_rule
from agent.alerting.watch import Host, Watch
from agent.alerting.witness import Nobody, Witness
from agent.clock import Clock
from agent.config.schema import MaintenanceConfig, ThresholdConfig
from agent.model import Evidence, Incident, ProbeResult, Transition, TransitionKind

log = logging.getLogger(__name__)

CHANGED, REMOVED = "threshold changed", "threshold removed"


class Engine:
    """All methods run on the event loop, and none waits for the disk but `flush` and `aclose`.

    The order that loses nothing: `observe`, then `await flush()`, then put what is `unshipped()` in the
    spool, then, when the spool has committed, `mark_shipped`.
    """

    def __init__(
        self, state: State, host: str, clock: Clock, rng: random.Random | None = None, witness: Witness | None = None
    ) -> None:
        """`state` stays the caller's to share with the outbox; `aclose` closes it."""
        self.state = state
        self._clock = clock
        self._memory = Memory(state, clock)
        rng = rng or random.Random()
        self._muting = Muting(state, clock, rng)
        self._host = Host(host, clock, rng, self._memory, {}, witness or Nobody(), self._muted)
        self._watches: dict[str, Watch] = {}
        self._by_metric: dict[str, list[Watch]] = {}
        self._absences: list[Watch] = []
        self._unshipped: dict[str, Pair] = {}
        self._latest: dict[str, ProbeResult] = {}

    @classmethod
    async def open(
        cls,
        path: Path,
        thresholds: Sequence[ThresholdConfig],
        host: str,
        clock: Clock,
        rng: random.Random | None = None,
        *,
        maintenance: Sequence[MaintenanceConfig] = (),
        witness: Witness | None = None,
    ) -> Engine:
        """Go on where the last process ended; open incidents whose rule has gone or changed are resolved."""
        engine = cls(await State.open(path), host, clock, rng, witness)
        engine.start(thresholds, maintenance)
        return engine

    def start(self, thresholds: Sequence[ThresholdConfig], maintenance: Sequence[MaintenanceConfig] = ()) -> None:
        """Compile the rules and put back what the state file holds; once, before anything else."""
        self._compile(thresholds, maintenance)
        self._unshipped = self._memory.pairs()
        departed: dict[str, Watch] = {}
        for fact, track in self._memory.tracks():
            watch = self._watches.get(fact.threshold)
            if watch is not None and watch.rule.key == fact.rule:
                watch.restore_track(fact, track)
            else:
                self._memory.forget_track(fact.threshold, fact.metric, fact.labels)
        for opened in self._memory.incidents():
            watch = self._watches.get(opened.incident.threshold)
            if watch is not None and watch.rule.key == opened.rule:
                watch.restore_incident(opened)
            else:
                departed.setdefault(opened.incident.threshold, self._departed(opened.incident)).restore_incident(opened)
        self._abandon(departed)

    def observe(self, result: ProbeResult, interval: float = 0.0) -> list[Pair]:
        """Judge one probe result. The pairs come in order; each is kept until `mark_shipped`, too.

        `interval`: seconds between two results of this probe as planned, 0 where only cron knows.
        """
        pairs: list[Pair] = []
        self._latest[result.probe] = result
        by_metric = self._by_metric
        for metric in result.metrics:
            watches = by_metric.get(metric.name)
            if watches is not None:
                for watch in watches:
                    watch.judge(metric, pairs, interval)
        return self._keep(pairs)

    def tick(self) -> list[Pair]:
        """Look for series that fell silent, and for what begins or ceases to be muted. Called about once a second."""
        pairs: list[Pair] = []
        for watch in self._absences:
            watch.seek_silence(pairs)
        self._muting.expire()
        self._review(pairs)
        return self._keep(pairs)

    def reload(
        self, thresholds: Sequence[ThresholdConfig], maintenance: Sequence[MaintenanceConfig] = ()
    ) -> list[Pair]:
        """New rules. One that means the same keeps its memory; the open incidents of others are resolved."""
        before = self._watches
        self._compile(thresholds, maintenance)
        departed: dict[str, Watch] = {}
        for name, watch in before.items():
            after = self._watches.get(name)
            if after is not None and after.rule.key == watch.rule.key:
                after.adopt(watch)
            else:
                departed[name] = watch
        return self._abandon(departed)

    def incidents(self) -> list[Incident]:
        """The open ones, oldest first."""
        found = [incident for watch in self._watches.values() for incident in watch.incidents()]
        return sorted(found, key=lambda incident: incident.id)

    # -- what people do

    def silence(self, match: str, seconds: float, author: str, reason: str) -> tuple[Silence, list[Pair]]:
        """Hold back what matches, from now on for `seconds`. ValueError tells what was expected."""
        silence = self._muting.add(match, seconds, author, reason)
        pairs: list[Pair] = []
        self._review(pairs)
        return silence, self._keep(pairs)

    def unsilence(self, silence_id: str, author: str) -> list[Pair]:
        """End a silence before its time; KeyError where there is none."""
        self._muting.remove(silence_id)
        log.info("silence ended", extra={"silence": silence_id, "author": author})
        pairs: list[Pair] = []
        self._review(pairs)
        return self._keep(pairs)

    def silences(self) -> list[Silence]:
        """Those that hold, oldest first."""
        return self._muting.silences()

    def acknowledge(self, incident_id: str, by: str) -> list[Pair]:
        """Somebody looks after it. KeyError where none of this id is open; a second time changes nothing."""
        now = self._clock.now()
        return self._amend(incident_id, lambda incident: acknowledge(incident, by, now))

    def add_evidence(self, incident_id: str, evidence: tuple[Evidence, ...]) -> list[Pair]:
        """What was found out after it opened. KeyError where none of this id is open."""

        def change(incident: Incident) -> Pair | None:
            known = {found.title for found in evidence}
            kept = tuple(found for found in incident.evidence if found.title not in known)
            after = (*kept, *evidence)
            return amend(incident, TransitionKind.EVIDENCE, self._clock.now(), evidence=after) if evidence else None

        return self._amend(incident_id, change)

    @property
    def idle_until(self) -> float:
        """Up to and with then (monotonic seconds) a tick changes nothing where no result comes; inf: it never does."""
        if not self._muting.idle and self.incidents():
            return self._clock.monotonic()
        return min((watch.silent_at for watch in self._absences), default=math.inf)

    def explain(self, threshold: str) -> list[str]:
        """Why this rule judges as it does, in lines; KeyError where none of this name is on."""
        watch = self._watches[threshold]
        latest = {
            metric.series: (metric, result.time)
            for result in self._latest.values()
            for metric in result.metrics
            if metric.name == watch.rule.metric and watch.rule.matches(metric.labels)
        }
        lines = watch.explain(latest)
        return lines + [f"fault: {fault}" for fault in self.faults() if fault.startswith(f"thresholds.{threshold}:")]

    def faults(self) -> list[str]:
        """What is wrong with rules since the last (re)load, each told in the log once."""
        return list(self._host.faults)

    def unshipped(self) -> list[tuple[Incident, Transition]]:
        """Transitions that no `mark_shipped` has vouched for, oldest incident first; they survive kill -9."""
        return list(self._unshipped.values())

    def mark_shipped(self, incident_id: str, version: int) -> None:
        """The spool has committed this incident's transitions up to and with `version`."""
        done = []
        while (key := pair_key(incident_id, version)) in self._unshipped:  # no look at all others: there may be many
            del self._unshipped[key]
            done.append(key)
            version -= 1
        self._memory.forget_pairs(done)

    def ship_again(self, waits: Callable[[Incident, Transition], bool]) -> None:
        """The last transition of all that is open, for who may have lost it; but not what waits to be sent anyway."""
        for fact in self._memory.incidents():
            incident, last = fact.incident, fact.transition
            if last is not None and not waits(incident, last):
                self._unshipped.setdefault(pair_key(incident.id, last.version), (incident, last))

    async def flush(self) -> bool:
        """Wait until every transition so far is on the disk; False when it can only be kept in memory."""
        return await self.state.flush()

    async def aclose(self) -> None:
        await self.state.aclose()

    def _amend(self, incident_id: str, change: Callable[[Incident], Pair | None]) -> list[Pair]:
        if all(incident.id != incident_id for incident in self.incidents()):
            raise KeyError(incident_id)
        pairs: list[Pair] = []
        for watch in self._watches.values():
            watch.amend(lambda incident: change(incident) if incident.id == incident_id else None, pairs)
        return self._keep(pairs)

    def _muted(self, incident: Incident) -> str:
        return "" if self._muting.idle else self._muting.words(incident, self.incidents())

    def _review(self, pairs: list[Pair]) -> None:
        """Let every open incident say whether, and why, it is muted now."""
        now = self._clock.now()
        for watch in self._watches.values():
            watch.amend(lambda incident: mute(incident, self._muted(incident), now), pairs)

    def _keep(self, pairs: list[Pair]) -> list[Pair]:
        for incident, transition in pairs:
            self._unshipped[pair_key(incident.id, transition.version)] = (incident, transition)
        return pairs

    def _abandon(self, departed: dict[str, Watch]) -> list[Pair]:
        pairs: list[Pair] = []
        for name, watch in departed.items():
            watch.abandon(CHANGED if name in self._watches else REMOVED, pairs)
        return self._keep(pairs)

    def _compile(self, thresholds: Sequence[ThresholdConfig], maintenance: Sequence[MaintenanceConfig]) -> None:
        """Rules with faults are left out and told; of two with one name the first is kept."""
        self._host.faults.clear()
        self._muting.configure(thresholds, maintenance)
        self._watches, self._by_metric = {}, {}
        for config in thresholds:
            if not config.enabled:
                continue
            rule, faults = compile_rule(config)
            if config.name in self._watches:
                faults = [*faults, f"thresholds.{config.name}: a second threshold of this name"]
            for fault in faults:
                self._host.fault(fault)
            if rule is not None and not faults:
                self._watches[rule.name] = watch = Watch(rule, self._host)
                self._by_metric.setdefault(rule.metric, []).append(watch)
        self._absences = [watch for watch in self._watches.values() if watch.rule.absent_for is not None]

    def _departed(self, incident: Incident) -> Watch:
        """A watch that stands for a rule we no longer have, only to resolve what it left open."""
        config = ThresholdConfig(name=incident.threshold, metric=incident.metric)
        rule = Rule(
            name=config.name,
            metric=config.metric,
            above=True,
            first=math.inf,
            levels=(),
            unit="",
            hold=0.0,
            need=1,
            window=1,
            absent_for=None,
            absent=incident.severity,
            match=(),
            config=config,
            key="",
        )
        return Watch(rule, self._host)
