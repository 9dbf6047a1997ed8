"""Which probe types there are, who may provide them, and what is wrong with a table."""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from agent.config.schema import AgentConfig, Config, ProbeConfig
from agent.config.units import Duration
from agent.errors import PluginError
from agent.probing import source
from agent.probing.loader import Registry, discover, plan

CODE = '''"""A measure of nothing."""
from __future__ import annotations
from agent.plugin import Duration, Metric, Options, Probe, gauge


class ThingOptions(Options, frozen=True):
    word: str = "a"
    wait: Duration = Duration(1)


class Thing(Probe):
    options: ThingOptions

    async def collect(self) -> list[Metric]:
        return [gauge("thing.value", 1)]
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "plugins"
    path.mkdir(mode=0o755)
    return path


def put(folder: Path, name: str = "thing.py", text: str = CODE) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o644)
    return path


def entries(monkeypatch, *values: tuple[str, str]) -> None:
    found = [EntryPoint(name, value, source.GROUP) for name, value in values]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: found)


def test_the_bundled_probes_are_found_and_not_imported():
    """Discovery lists what is installed; only `load` imports."""
    registry = discover([])
    assert {"cpu", "disk", "load", "memory"} <= set(registry.names())
    assert registry.load("load").__name__ == "Load"


def test_an_unknown_name_tells_what_was_meant():
    """A typing error is answered with the name that is there."""
    with pytest.raises(PluginError, match=r"unknown probe 'memry', did you mean \"memory\"\?"):
        discover([]).load("memry")
    with pytest.raises(PluginError, match="none is installed"):
        Registry({}).load("cpu")


def test_a_dropin_is_a_probe_under_its_file_name(folder):
    """One file is enough, its annotations may be strings, and files with _ or . in front are not probes."""
    put(folder, "shop-floor.py")
    put(folder, "_part.py", "raise RuntimeError")
    put(folder, ".old.py", "raise RuntimeError")
    registry = discover([folder])
    kind = registry.load("shop-floor")
    assert kind.__name__ == "Thing"
    assert kind.options_type()().word == "a"
    assert {"_part", ".old"}.isdisjoint(registry.names())


def test_an_unsafe_file_is_refused(folder):
    """Whoever can write the file could run as the agent."""
    path = put(folder)
    path.chmod(0o664)
    with pytest.raises(PluginError, match=r"thing.py can be written by others \(mode 664\)"):
        discover([folder])
    path.chmod(0o646)
    with pytest.raises(PluginError, match="mode 646"):
        discover([folder])


def test_an_unsafe_directory_is_refused(folder):
    """Whoever can write the directory could exchange the file."""
    put(folder)
    folder.chmod(0o777)
    with pytest.raises(PluginError, match=r"plugins can be written by others"):
        discover([folder])


def test_links_and_other_things_are_refused(folder, tmp_path):
    """A symbolic link, a directory or a pipe named like a probe is no probe, and a pipe is not waited for."""
    put(tmp_path, "real.py")
    (folder / "thing.py").symlink_to(tmp_path / "real.py")
    with pytest.raises(PluginError, match="is a symbolic link"):
        discover([folder])
    (folder / "thing.py").unlink()
    os.mkfifo(folder / "thing.py", 0o600)
    with pytest.raises(PluginError, match="no regular file"):
        discover([folder])
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(PluginError, match="is a symbolic link"):
        discover([link])
    with pytest.raises(PluginError, match="No such file"):
        discover([tmp_path / "absent"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(folder):
    """Root and the running user are trusted, nobody else."""
    os.chown(put(folder), 12345, 0)
    with pytest.raises(PluginError, match="belongs to user 12345"):
        discover([folder])


def test_a_file_that_became_unsafe_is_not_loaded(folder):
    """The check holds for the text that is run, not only for what was there at discovery."""
    path = put(folder)
    registry = discover([folder])
    path.chmod(0o666)
    with pytest.raises(PluginError, match=r"thing.py can be written by others"):
        registry.load("thing")
    path.chmod(0o644)
    folder.chmod(0o775)
    with pytest.raises(PluginError, match="plugins can be written by others"):
        registry.load("thing")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def", "SyntaxError"),
        ("import no_such_module_anywhere", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("from agent.plugin import Probe", "expected one subclass of Probe defined in it, found none"),
        (CODE + "\nclass Other(Thing):\n    pass\n", "found Thing, Other"),
    ],
)
def test_a_broken_dropin_says_why(folder, text, reason):
    """Whatever a file does while it is loaded, it ends in a PluginError that names file and reason."""
    put(folder, text=text)
    with pytest.raises(PluginError, match=reason) as caught:
        discover([folder]).load("thing")
    assert "thing.py" in str(caught.value)


def test_a_duplicate_name_names_both_places(folder, tmp_path, monkeypatch):
    """Which of two would run must never be a matter of chance."""
    put(folder, "load.py")
    with pytest.raises(PluginError, match=r"'load' is there twice: plugins.load:Load of tocsin .* and .*/load.py"):
        discover([folder])
    second = tmp_path / "second"
    second.mkdir(mode=0o755)
    put(folder, "thing.py")
    put(second, "thing.py")
    (folder / "load.py").unlink()
    with pytest.raises(PluginError, match=r"plugins/thing.py and .*second/thing.py"):
        discover([folder, second])
    entries(monkeypatch, ("a", "one:A"), ("a", "two:A"))
    with pytest.raises(PluginError, match=r"one:A of .* and two:A of"):
        discover([])


@pytest.mark.parametrize(
    ("value", "reason"),
    [("os:getcwd", "no subclass of"), ("os:path", "no subclass of"), ("no_such:Thing", "ModuleNotFoundError")],
)
def test_an_entry_point_that_is_no_probe_says_so(monkeypatch, value, reason):
    """The fault names the entry point that has it."""
    entries(monkeypatch, ("odd", value))
    with pytest.raises(PluginError, match=reason) as caught:
        discover([]).load("odd")
    assert value in str(caught.value)


def config(agent: AgentConfig | None = None, **probes: ProbeConfig) -> Config:
    return Config(agent=agent or AgentConfig(), probes=probes)


def test_a_plan_has_the_defaults_of_the_agent(folder):
    """No interval is the agent's; the deadline never exceeds the interval; a cron line has no interval."""
    put(folder)
    registry = discover([folder])
    planned, faults = plan(
        config(
            plain=ProbeConfig(plugin="thing"),
            quick=ProbeConfig(plugin="thing", interval=Duration(2), options={"word": "b"}),
            nightly=ProbeConfig(plugin="thing", cron="0 3 * * *", timeout=Duration(60)),
            off=ProbeConfig(plugin="thing", enabled=False),
        ),
        registry,
    )
    assert faults == []
    assert [(p.name, p.interval, p.cron, p.timeout) for p in planned] == [
        ("plain", 10, "", 8),
        ("quick", 2, "", 2),
        ("nightly", None, "0 3 * * *", 60),
    ]
    probe = planned[1].create()
    assert type(probe).__name__ == "Thing"
    assert probe.options.word == "b"
    assert planned[1].create() is not probe


def test_every_fault_is_told_with_its_path(folder):
    """One bad table hides no other."""
    put(folder)
    planned, faults = plan(
        config(
            thing=ProbeConfig(options={"wrd": "x", "wait": 3}),
            thin=ProbeConfig(),
            web=ProbeConfig(plugin="htp"),
            often=ProbeConfig(plugin="thing", interval=Duration(0.001)),
            never=ProbeConfig(plugin="thing", cron="0 0 31 2 *"),
            loose=ProbeConfig(plugin="thing", jitter=Duration(11)),
            good=ProbeConfig(plugin="thing"),
        ),
        discover([folder]),
    )
    assert [p.name for p in planned] == ["good"]
    told = "\n".join(faults)
    assert 'probes.thing.wrd: unknown key, did you mean "word"?' in told
    assert "probes.thing.wait: expected a duration" in told
    assert "probes.thin: unknown probe 'thin', did you mean" in told
    assert "probes.web.plugin: unknown probe 'htp'" in told
    assert "probes.often.interval: expected a duration between" in told
    assert "probes.never.cron: expected" in told
    assert "probes.loose.jitter: expected at most the interval, 10 s" in told
    assert len(faults) == 7


def test_the_key_changes_with_whatever_a_run_depends_on(folder):
    """A reload restarts what changed, the drop-in's code included, and nothing else."""
    path = put(folder)

    def key(table: ProbeConfig) -> object:
        [planned], _ = plan(config(thing=table), discover([folder]))
        hash(planned.key)
        return planned.key

    first = key(ProbeConfig())
    assert key(ProbeConfig()) == first
    for other in (
        ProbeConfig(interval=Duration(5)),
        ProbeConfig(timeout=Duration(5)),
        ProbeConfig(jitter=Duration(1)),
        ProbeConfig(cron="* * * * *"),
        ProbeConfig(options={"word": "b"}),
    ):
        assert key(other) != first
    path.write_text(CODE.replace("value", "other"))
    os.utime(path, ns=(1, 1))
    assert key(ProbeConfig()) != first
