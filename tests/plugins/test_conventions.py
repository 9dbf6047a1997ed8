"""What every bundled plugin must be: one test for each rule, over all of them."""

import ast
import math
import re
import tomllib
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import msgspec
import pytest

from agent.config.decode import decode
from agent.config.schema import ProbeConfig
from agent.plugin import Metric
from tests.plugins.recorded import NAMES, PLUGINS, Machine, collect_until, plugin_module, probe_type

pytestmark = pytest.mark.parametrize("name", NAMES)

UNITS = {"", "percent", "seconds", "bytes", "bytes/s", "1/s"}

# The moments of tests/plugins/data that together make each plugin say all it can.
MOMENTS = {
    "cpu": ["first", "second"],
    "disk": ["server"],
    "diskio": ["first", "second"],
    "load": ["busy"],
    "memory": ["swapping"],
    "network": ["first", "second"],
    "pressure": ["first", "second"],
    "processes": ["first", "second"],
    "uptime": ["running"],
}


class Declared(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    unit: str
    kind: str
    labels: tuple[str, ...]
    description: str
    optional_labels: tuple[str, ...] = ()


@cache
def declared(name: str) -> dict[str, Declared]:
    table = tomllib.loads((PLUGINS / name / "metrics.toml").read_text())
    assert set(table) == {"metrics"}
    metrics = msgspec.convert(table["metrics"], list[Declared])
    assert len({metric.name for metric in metrics}) == len(metrics), "declared twice"
    return {metric.name: metric for metric in metrics}


def readme(name: str) -> str:
    return (PLUGINS / name / "README.md").read_text()


def sources(name: str) -> list[ast.Module]:
    return [ast.parse(path.read_text()) for path in sorted((PLUGINS / name).glob("**/*.py"))]


def own_keys(table: dict) -> dict:
    """The keys of a probe's table that are the plugin's."""
    config, faults = decode(ProbeConfig, table)
    assert not faults
    return config.options


def check(metrics: list[Metric], name: str) -> None:
    """Every metric is one that metrics.toml declares, as it declares it; no series twice."""
    for metric in metrics:
        assert metric.name in declared(name), f"{metric.name} is not declared"
        known = declared(name)[metric.name]
        assert (metric.unit, metric.kind) == (known.unit, known.kind), metric
        assert set(known.labels) <= set(metric.labels) <= {*known.labels, *known.optional_labels}, metric
        assert math.isfinite(metric.value), metric
        assert metric.unit != "percent" or 0 <= metric.value <= 100, metric
    assert len({metric.series for metric in metrics}) == len(metrics)


def test_registered_under_its_own_name(name):
    """The folder is one entry point, and the one of no other package."""
    [entry] = entry_points(group="tocsin.probes", name=name)
    assert entry.module == f"plugins.{name}"


def test_documented(name):
    """Docstrings say what it measures; the README names every option and metric and shows an example and a run."""
    assert plugin_module(name).__doc__
    assert probe_type(name).__doc__
    assert len(readme(name).splitlines()[0]) > len(f"# {name}: ")
    for option in probe_type(name).options_type().__struct_fields__:
        assert f"| `{option}` |" in readme(name), option
    for metric in declared(name):
        assert f"| `{metric}` |" in readme(name), metric
    for heading in ("## Options", "## Metrics", "## Permissions", "## Example"):
        assert f"\n{heading}\n" in readme(name)
    assert "\nA run on" in readme(name)


def test_readme_names_nothing_that_is_not_there(name):
    """What its tables list is declared or an option: no metric lives on in the README alone."""
    listed = set(re.findall(r"^\| `([^`]+)` \|", readme(name), re.MULTILINE))
    assert listed == {*declared(name), *probe_type(name).options_type().__struct_fields__}


def test_readme_example_decodes(name):
    """Whoever copies the example has a configuration that holds, with rules on metrics that exist."""
    [example] = re.findall(r"```toml\n(.*?)```", readme(name), re.DOTALL)
    table = tomllib.loads(example)
    value, faults = decode(probe_type(name).options_type(), own_keys(table["probes"][name]), f"probes.{name}")
    assert (value is not None, faults) == (True, [])
    assert {threshold["metric"] for threshold in table.get("thresholds", [])} <= set(declared(name))


def test_sample_shows_every_option_with_its_default(name):
    """sample.toml decodes through the program's own decoder, and to what holds without it."""
    table = tomllib.loads((PLUGINS / name / "sample.toml").read_text())
    assert set(table) == {"probes"}
    assert set(table["probes"]) == {name}
    kind = probe_type(name).options_type()
    options = own_keys(table["probes"][name])
    value, faults = decode(kind, options, f"probes.{name}")
    assert faults == []
    assert value == kind()
    assert set(options) == set(kind.__struct_fields__)


def test_names_and_units(name):
    """<plugin>.<noun>[.<qualifier>] in base units, which the name's last word agrees with."""
    for metric in declared(name).values():
        assert re.fullmatch(rf"{name}(\.[a-z0-9][a-z0-9_]*){{1,2}}", metric.name), metric.name
        assert metric.unit in UNITS, metric
        assert metric.kind in ("gauge", "counter")
        assert metric.description[0].isupper() or metric.description[0] in "1`", metric.description
        for suffix, units in (("_percent", {"percent"}), ("_bytes", {"bytes"}), ("_per_second", {"bytes/s", "1/s"})):
            assert metric.name.endswith(suffix) == (metric.unit in units), metric


async def test_a_real_run_emits_what_is_declared(name):
    """On this very machine, twice for the rates, nothing undeclared is emitted."""
    probe = probe_type(name)(probe_type(name).options_type()())
    await probe.open()
    first = await probe.collect()
    check(first, name)
    # Shares of CPU time need a tick to have passed. Not every machine has a disk, a file system that is no pseudo one
    # (a root changed into has no mount), a network or pressure information.
    second = await collect_until(probe, lambda metrics: metrics or name in ("disk", "diskio", "network", "pressure"))
    check(second, name)
    await probe.aclose()


async def test_everything_declared_is_emitted(name, tmp_path):
    """On the recorded machine every declared metric appears: none is declared in vain."""
    machine = Machine(name, tmp_path)
    machine.at(MOMENTS[name][0])
    probe = machine.probe()
    await probe.open()
    emitted: set[str] = set()
    for moment in MOMENTS[name]:
        machine.at(moment)
        metrics = await probe.collect()
        check(metrics, name)
        emitted |= {metric.name for metric in metrics}
    await probe.aclose()
    assert emitted == set(declared(name))


def test_imports_only_the_plugin_api(name):
    """Of the agent nothing but agent.plugin, of the other plugins nothing, and no logging: a plugin raises."""
    allowed = re.compile(rf"agent\.plugin|plugins\.{name}(\..*)?|(?!agent\b|plugins\b|logging\b).*")
    for tree in sources(name):
        for node in ast.walk(tree):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, "a relative import"
                modules = [node.module or ""]
            for module in modules:
                assert allowed.fullmatch(module), module
            assert not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print")


def test_small(name):
    """A file that does not fit on three screens does more than one thing."""
    for path in (PLUGINS / name).glob("**/*.py"):
        assert len(Path(path).read_text().splitlines()) <= 150, path
