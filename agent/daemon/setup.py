"""agent.toml together with the probes that it names: what both the daemon and the command line start from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent.config.decode import Fault
from agent.config.load import read
from agent.config.schema import Config, ProbeConfig
from agent.errors import ConfigError, PluginError, UsageError
from agent.probing.loader import discover, plan

if TYPE_CHECKING:
    from agent.probing.loader import Registry
    from agent.probing.plan import PlannedProbe

PROCESSES = "processes"
"""The plugin whose last result is what `top` shows."""


class Setup(msgspec.Struct, frozen=True):
    """A configuration without faults, and its probes ready to run."""

    config: Config
    registry: Registry
    planned: list[PlannedProbe]

    def probe(self, name: str) -> PlannedProbe:
        """A configured probe, or an available plugin with its defaults; UsageError where it is neither."""
        for planned in self.planned:
            if planned.name == name:
                return planned
        configured = self.config.probes.get(name)
        if configured is None and name not in self.registry.names():
            raise UsageError(f"no probe {name!r}; `tocsin probes` lists them")
        table = msgspec.structs.replace(configured or ProbeConfig(), enabled=True)
        planned_now, faults = plan(msgspec.structs.replace(self.config, probes={name: table}), self.registry)
        if faults:
            raise ConfigError([str(fault) for fault in faults])
        return planned_now[0]


def prepare(
    path: Path | None = None, *, elsewhere: str = "", adapt: Callable[[Config], Config] = lambda config: config
) -> Setup:
    """Read everything and tell every fault at once, those of the probes' own options too.

    `elsewhere` as in `agent.config.load.load`; `adapt` is for what a command line sets over the file.
    """
    reading = read(path, elsewhere=elsewhere)
    config = adapt(reading.config)
    try:
        registry = discover(config.agent.plugin_dirs)
    except PluginError as error:
        raise ConfigError(reading.lines([Fault(("agent", "plugin_dirs"), str(error))])) from error
    planned, faults = plan(config, registry)
    faults += _verb_faults(config)
    if reading.faults or faults:
        raise ConfigError(reading.lines(faults))
    return Setup(config, registry, planned)


def _verb_faults(config: Config) -> list[Fault]:
    if not config.commands.allow and not config.commands.grants:
        return []
    from agent.commands.policy import verb_faults  # noqa: PLC0415 - a host that takes no commands has no verbs

    return list(verb_faults(config.commands))
