"""From names in agent.toml to probes ready to run. A probe type is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent.config.decode import Fault, decode
from agent.config.schema import Config, ProbeConfig
from agent.errors import PluginError
from agent.plugin import Options, Probe
from agent.probing.plan import PlannedProbe
from agent.probing.source import Dropin, Installed, Source, dropins, installed

__all__ = ["PlannedProbe", "Registry", "discover", "plan"]

SHORTEST, LONGEST = 0.01, 366 * 86400.0
"""Seconds: an interval outside of these is a mistake, not a schedule."""


class Registry:
    """Every probe type that could be used, by name; each is loaded when first asked for."""

    def __init__(self, sources: dict[str, Source]) -> None:
        self._sources = sources
        self._loaded: dict[str, type[Probe]] = {}

    def names(self) -> list[str]:
        return sorted(self._sources)

    def load(self, name: str) -> type[Probe]:
        """PluginError where there is none of that name (with what was meant), or it cannot be imported."""
        if name not in self._loaded:
            self._loaded[name] = self._source(name).load()
        return self._loaded[name]

    def version(self, name: str) -> str:
        """Differs when the code behind `name` does, as far as one can see without loading it."""
        return self._source(name).version

    def _source(self, name: str) -> Source:
        if name not in self._sources:
            raise PluginError(f"unknown probe {name[:80]!r}{_meant(name, self.names())}")
        return self._sources[name]


def discover(plugin_dirs: Sequence[Path]) -> Registry:
    """Entry points of the group `tocsin.probes`, and `NAME.py` in each directory.

    PluginError where two offer the same name, or a directory or file could be changed by somebody
    other than root or us.
    """
    found: dict[str, Source] = {}
    offered: list[Installed | Dropin] = [*installed(), *(file for path in plugin_dirs for file in dropins(path))]
    for source in offered:
        if source.name in found:
            raise PluginError(
                f"probe {source.name!r} is there twice: {found[source.name].place} and {source.place}; remove one"
            )
        found[source.name] = source
    return Registry(found)


def plan(config: Config, registry: Registry) -> tuple[list[PlannedProbe], list[str]]:
    """The enabled probes in the order of the file, and every fault in their tables (`probes.disk.foo: …`)."""
    planned: list[PlannedProbe] = []
    faults: list[str] = []
    for name, table in config.probes.items():
        if not table.enabled:
            continue
        probe, wrong = _planned(name, table, config, registry)
        faults += wrong
        if probe is not None and not wrong:
            planned.append(probe)
    return planned, faults


def _planned(
    name: str, table: ProbeConfig, config: Config, registry: Registry
) -> tuple[PlannedProbe | None, list[Fault]]:
    interval = None if table.cron else float(config.agent.interval if table.interval is None else table.interval)
    faults = _schedule_faults(name, table, interval)
    plugin = table.plugin or name
    try:
        kind = registry.load(plugin)
        options, wrong = decode(_options_type(kind, plugin), table.options, ("probes", name))
        version = registry.version(plugin)
    except PluginError as error:
        return None, [*faults, Fault(("probes", name, "plugin") if table.plugin else ("probes", name), str(error))]
    faults += wrong
    if options is None or faults:
        return None, faults
    timeout = float(config.agent.timeout if table.timeout is None else table.timeout)
    if table.timeout is None and interval is not None:
        timeout = min(timeout, interval)
    jitter = float(table.jitter)
    key = (name, plugin, version, interval, table.cron, timeout, jitter, _canonical(table.options))
    return PlannedProbe(name, _Creation(kind, options), interval, table.cron, timeout, jitter, key), []


class _Creation:
    """`create` of a PlannedProbe."""

    def __init__(self, kind: type[Probe], options: Options) -> None:
        self._kind = kind
        self._options = options

    def __call__(self) -> Probe:
        return self._kind(self._options)


def _schedule_faults(name: str, table: ProbeConfig, interval: float | None) -> list[Fault]:
    faults = []
    if table.cron:
        from agent.probing.scheduler import cron_fault  # noqa: PLC0415 - the scheduling library, only where needed

        wrong = cron_fault(table.cron)
        if wrong:
            faults.append(Fault(("probes", name, "cron"), wrong))
    elif interval is not None and (0 < interval < SHORTEST or interval > LONGEST):
        faults.append(Fault(("probes", name, "interval"), 'expected a duration between "10ms" and "366d"'))
    if interval is not None and table.jitter > interval > 0:
        faults.append(Fault(("probes", name, "jitter"), f"expected at most the interval, {interval:g} s"))
    if interval is None and table.jitter > 86400:
        faults.append(Fault(("probes", name, "jitter"), 'expected at most "24h"'))
    return faults


def _options_type(kind: type[Probe], plugin: str) -> type[Options]:
    try:
        options = kind.options_type()
    except Exception as error:  # evaluating a plugin's annotations runs its code
        raise PluginError(f"probe {plugin!r}: the type of `options` cannot be read: {error}") from error
    if not isinstance(options, type) or not issubclass(options, Options):
        raise PluginError(f"probe {plugin!r}: `options` must be annotated with a subclass of Options")
    return options


def _canonical(options: dict[str, object]) -> bytes:
    import msgspec  # noqa: PLC0415

    return msgspec.json.encode(options, order="deterministic", enc_hook=str)


def _meant(name: str, known: list[str]) -> str:
    import difflib  # noqa: PLC0415 - only when there is a fault

    close = difflib.get_close_matches(name[:100], known, n=3)
    if close:
        return ", did you mean " + " or ".join(f'"{one}"' for one in close) + "?"
    return f"; known are: {', '.join(known)}" if known else "; none is installed"
