"""The verbs of a host, bound to the daemon's parts. Each gives lines for people, and the same as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from agent.alerting.figure import duration, figure, standing
from agent.alerting.holding import SHOWN, Holding, shown
from agent.alerting.memory import Pair
from agent.clock import Clock
from agent.commands.lanes import Outcome, Work
from agent.commands.leash import Leash
from agent.commands.payload import Args
from agent.daemon.parts import Parts
from agent.daemon.setup import PROCESSES, Setup
from agent.errors import CommandError
from agent.model import Incident, Metric, ProbeResult
from agent.probing.plan import PlannedProbe
from agent.probing.visit import Visits


class Verbs:
    """`line` says how the agent does, `tell` takes what moved an incident; `setup` is the present one,
    `processes` the last result of the plugin that `top` shows.

    What cannot be done raises CommandError.
    """

    def __init__(  # noqa: PLR0917 - what each of the verbs works on
        self,
        parts: Parts,
        setup: Callable[[], Setup],
        clock: Clock,
        line: Callable[[], str],
        tell: Callable[[list[Pair]], None],
        processes: Callable[[], ProbeResult | None],
        leash: Leash,
    ) -> None:
        self._parts = parts
        self._setup = setup
        self._clock = clock
        self._line = line
        self._holding = Holding(parts.engine, parts.outbox, clock, tell)
        self._visits = Visits(clock)
        self._processes = processes
        self._leash = leash

    def works(self) -> Mapping[str, Work]:
        return {
            "status": self._status,
            "top": self._top,
            "probe": self._probe,
            "advise": self._advise,
            **self._holding.works(),
            "explain": self._explain,
            "job": self._job,
        }

    # -- looking

    async def _status(self, args: Args, actor: str) -> Outcome:  # noqa: ARG002 - all verbs are called alike
        now = self._clock.now()
        health = self._parts.book.health(now)
        incidents = self._parts.engine.incidents()
        score = "" if health.score is None else f" {health.score:.0f}"
        lines = [f"{health.status}{score}", self._line()]
        lines += [_incident(incident, now) for incident in incidents]
        data = {
            "health": msgspec.to_builtins(health),
            "incidents": [msgspec.to_builtins(incident) for incident in incidents[:SHOWN]],
            "probes": [
                {"name": state.name, "status": state.status, "error": state.error}
                for state in self._parts.scheduler.states()
            ],
        }
        return Outcome(shown(lines), data)

    async def _top(self, args: Args, actor: str) -> Outcome:  # noqa: ARG002
        result = self._processes()
        if result is None:
            raise CommandError("no_data", f"the probe {PROCESSES} is not configured here, or has not run yet")
        age = self._clock.now() - result.time
        rows = [metric for metric in result.metrics if "name" in metric.labels]
        lines = [f"{figure(metric.value, metric.unit):>10}  {metric.labels['name']}" for metric in rows]
        title = f"{result.probe}, {duration(age)} ago" + (f": {result.error}" if result.error else "")
        data = {"time": result.time, "metrics": [msgspec.to_builtins(metric) for metric in result.metrics]}
        return Outcome(shown([title, *lines]), data)

    async def _probe(self, args: Args, actor: str) -> Outcome:  # noqa: ARG002
        name = str(args["name"])
        result = await self._visits.run(self._planned(self._probe_of(name) if name.startswith("inc_") else name))
        title = f"{result.probe}: {result.status} in {figure(result.duration, 'seconds')}"
        lines = [title + (f": {result.error}" if result.error else ""), *map(_metric, result.metrics)]
        data = {
            "status": result.status,
            "time": result.time,
            "metrics": [msgspec.to_builtins(metric) for metric in result.metrics],
        }
        return Outcome(shown(lines), data, ok=result.status == "ok")

    def _probe_of(self, incident_id: str) -> str:
        """Who brings the series of this incident; a metric alone does not say it where several are of one plugin."""
        incident = next((one for one in self._parts.engine.incidents() if one.id == incident_id), None)
        if incident is None:
            raise CommandError("unknown_incident", f"no incident {incident_id} is open")
        metric = incident.metric
        name = self._parts.insight.witness.probe(metric, incident.labels) or metric.partition(".")[0]
        if all(one.name != name for one in self._setup().planned):
            raise CommandError("unknown_probe", f"{metric} is brought by no probe that could be run")
        return name

    async def _advise(self, args: Args, actor: str) -> Outcome:  # noqa: ARG002
        planned = self._planned(str(args["plugin"]))
        action, about = str(args.get("action", "")), str(args.get("about", ""))
        known = planned.create().actions()
        if action not in known and len(known) == 1 and not about:  # the one that it has: `advise disk /var`
            action, about = next(iter(known)), action
        lines = await self._visits.ask(planned, action, about)
        return Outcome(shown(lines), {"action": action, "lines": lines[: 5 * SHOWN]})

    def _planned(self, name: str) -> PlannedProbe:
        planned = self._setup().planned
        for one in planned:
            if one.name == name:
                return one
        raise CommandError("unknown_probe", f"no probe {name!r}; there are {', '.join(one.name for one in planned)}")

    async def _explain(self, args: Args, actor: str) -> Outcome:  # noqa: ARG002
        name = str(args["threshold"])
        try:
            lines = self._parts.engine.explain(name)
        except KeyError as error:
            there = ", ".join(rule.name for rule in self._setup().config.thresholds if rule.enabled)
            raise CommandError(
                "unknown_threshold", f"no threshold {name!r} is on; there are {there or 'none'}"
            ) from error
        return Outcome(shown(lines), {"lines": lines[: 5 * SHOWN]})

    # -- doing

    async def _job(self, args: Args, actor: str) -> Outcome:  # noqa: ARG002
        from agent.commands import jobs  # noqa: PLC0415 - few hosts have any

        known = jobs.load(self._setup().config.commands.jobs)
        name = str(args["name"])
        if name not in known:
            raise CommandError("unknown_job", f"no job {name!r}; there are {', '.join(known) or 'none'}")
        began = self._clock.monotonic()
        finished = await jobs.run(known[name], jobs.argv(known[name], args), self._leash)
        took = self._clock.monotonic() - began
        how = f"ended at its deadline of {known[name].timeout:g} s" if finished.code is None else _exit(finished.code)
        text = f"{name}: {how}, {figure(took, 'seconds')}\n{finished.output}".rstrip()
        return Outcome(text, {"exit": finished.code, "seconds": took}, ok=finished.code == 0)


def _incident(incident: Incident, now: float) -> str:
    value = f" {standing(incident.value, incident.unit, incident.op)}".rstrip()
    labels = ",".join(f"{key}={value}" for key, value in sorted(incident.labels.items()))
    where = f" {{{labels}}}" if labels else ""
    since = duration(now - incident.started_at)
    return f"{incident.severity} {incident.threshold}{where}{value}, since {since} ({incident.id})"


def _metric(metric: Metric) -> str:
    labels = ",".join(f"{key}={value}" for key, value in sorted(metric.labels.items()))
    return f"{metric.name}{f'{{{labels}}}' if labels else ''} {figure(metric.value, metric.unit)}"


def _exit(code: int) -> str:
    return f"ended by signal {-code}" if code < 0 else f"exit code {code}"
