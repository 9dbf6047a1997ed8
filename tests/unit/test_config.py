"""agent.toml: decoding, merging, rules, and where a fault is."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.config.decode import Fault, decode, dotted
from agent.config.load import find, load, read
from agent.config.rules import address, host_id, is_loopback
from agent.config.schema import Config, ProbeConfig
from agent.config.units import Duration, Percent, Quantity, Size
from agent.errors import ConfigError
from agent.plugin import Options

SHIPPED = Path(__file__).parents[2] / "agent.toml"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, **more: str) -> Path:
        (tmp_path / "agent.d").mkdir(exist_ok=True)
        for name, content in more.items():
            (tmp_path / "agent.d" / f"{name}.toml").write_text(content)
        path = tmp_path / "agent.toml"
        path.write_text(text)
        return path

    return write


def faults(path: Path) -> list[str]:
    """The faults, with the directory left out."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [line.replace(f"{path.parent}/", "") for line in caught.value.faults]


# -- what is right


def test_the_shipped_file_says_the_defaults() -> None:
    """What agent.toml sets is what holds without it: nobody is misled by the example."""
    shipped, bare = load(SHIPPED), Config()
    for table in ("mqtt", "spool", "slack", "collector", "health"):
        assert getattr(shipped, table) == getattr(bare, table), table
    assert msgspec.structs.replace(shipped.agent, host="") == bare.agent
    assert {"memory", "cpu", "disk-space", "collector-silent"} <= {rule.name for rule in shipped.thresholds}


def test_values_arrive_in_base_units(write: Write) -> None:
    """Durations in seconds, sizes in bytes, percentages 0-100, bounds with the unit they imply."""
    config = load(
        write(
            """
            [agent]
            interval = "1m30s"
            [spool]
            max_bytes = "4MiB"
            min_free_disk = "2.5%"
            [[thresholds]]
            name = "slow"
            metric = "http.duration"
            warning = "200ms"
            """
        )
    )
    assert config.agent.interval == 90.0
    assert config.spool.max_bytes == 4 * 1024 * 1024
    assert config.spool.min_free_disk == 2.5
    [rule] = config.thresholds
    assert (rule.warning, rule.warning and rule.warning.unit) == (0.2, "seconds")


def test_a_probe_keeps_its_own_keys_apart(write: Write) -> None:
    """The keys of every probe are decoded; all others go to the plugin as they are."""
    config = load(write('[probes.shop]\nplugin = "http"\ninterval = "5s"\nurl = "http://x"\noptions = 3\n'))
    probe = config.probes["shop"]
    assert (probe.plugin, probe.interval) == ("http", 5.0)
    assert probe.options == {"url": "http://x", "options": 3}


def test_a_secret_is_looked_for_and_never_shown(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place is in the configuration, its value only where it is asked for."""
    monkeypatch.setenv("TOKEN_HERE", "xoxb-very-secret\n")
    config = load(write('[slack]\nbot_token = { env = "TOKEN_HERE" }'))
    assert config.slack.bot_token is not None
    assert config.slack.bot_token.reveal() == "xoxb-very-secret"
    assert "very-secret" not in repr(config)


def test_files_beside_it_are_merged(write: Write) -> None:
    """Tables are joined deeply, arrays of tables appended in the order of the file names."""
    rule = '[[thresholds]]\nname = "{}"\nmetric = "a.b"\nwarning = 1\n'
    path = write("[agent]\ninterval = '5s'\n" + rule.format("one"), b=rule.format("three"), a=rule.format("two"))
    (path.parent / "agent.d" / "c.toml").write_text("[agent.labels]\nsite = 'berlin'\n[probes.cpu]\n")
    config = load(path)
    assert [each.name for each in config.thresholds] == ["one", "two", "three"]
    assert (config.agent.interval, config.agent.labels) == (5.0, {"site": "berlin"})
    assert [source.name for source in config.sources] == ["agent.toml", "a.toml", "b.toml", "c.toml"]


def test_the_file_is_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one given, then the environment, then ./agent.toml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOCSIN_CONFIG", raising=False)
    monkeypatch.setattr("agent.config.load.PLACES", (Path("agent.toml"),))
    assert find() == SHIPPED
    assert load().agent.host == host_id()
    (tmp_path / "agent.toml").write_text("[agent]\nhost = 'here'")
    assert load().agent.host == "here"
    (tmp_path / "other.toml").write_text("[agent]\nhost = 'there'")
    monkeypatch.setenv("TOCSIN_CONFIG", "other.toml")
    assert load().agent.host == "there"
    assert load(tmp_path / "agent.toml").agent.host == "here"


# -- what is wrong


def test_every_fault_is_told_at_once_with_its_line(write: Write) -> None:
    """Three faults in three tables are three lines, in the order of the file."""
    path = write('[agent]\nintervall = "10s"\n\n[mqtt]\nkeepalive = 20\n\n[spool]\nmax_bytes = "4MB "\n')
    assert faults(path) == [
        'agent.toml:2: agent.intervall: unknown key, did you mean "interval"?',
        'agent.toml:5: mqtt.keepalive: expected a duration such as "10s", "5m" or "72h", not 20',
        'agent.toml:8: spool.max_bytes: expected a size such as "4MiB" or "1GB", not "4MB "',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[agent]\nhost = 'Web 1'", "agent.toml:2: agent.host: expected a host id"),
        ("[agent]\nlabels = { a = 1 }", "agent.toml:2: agent.labels.a: expected a text, not 1"),
        ("[agent]\nplugin_dirs = '/x'", 'agent.toml:2: agent.plugin_dirs: expected a list, not "/x"'),
        ("[agent]\ntimeout = '0s'", "agent.toml:2: agent.timeout: expected more than 0"),
        ("[mqtt]\nurl = 'http://x'", "agent.toml:2: mqtt.url: expected a URL such as mqtt://host:port"),
        ("[mqtt]\nurl = 'mqtt://u:p@x'", "agent.toml:2: mqtt.url: a password does not belong in a URL"),
        ("[mqtt]\nprotocol = 5", 'agent.toml:2: mqtt.protocol: expected "3.1.1" or "5", not 5'),
        ("[mqtt]\ncert = '/etc/passwd'", "agent.toml:2: mqtt.cert: cert and key go together"),
        ("[spool]\nmax_bytes = '1kB'", 'agent.toml:2: spool.max_bytes: expected at least "1MiB"'),
        ("[spool]\nbacklog_rate = true", "agent.toml:2: spool.backlog_rate: expected a whole number, not true"),
        ("probes = 3", "agent.toml:1: probes: expected a table, not 3"),
        ("[probes.'a b']", 'agent.toml:1: probes."a b": expected a name of letters'),
        ("[probes.cpu]\ntimeout = '11s'", "agent.toml:2: probes.cpu.timeout: expected at most the interval, 10 s"),
        (
            "[probes.cpu]\ninterval = '1s'\ncron = '* * * * *'",
            "agent.toml:3: probes.cpu.cron: interval and cron exclude each other",
        ),
        ("[health]\nmemroy = 2", "agent.toml:2: health.memroy: unknown component"),
        ("[health]\nmemory = nan", "agent.toml:2: health.memory: expected a number, not nan"),
        ("[[slack.routes]]\nmatch = {severity = 'x'}", "agent.toml:2: slack.routes[0].match.severity: expected a key"),
        ("[slack]\nbase_url = 'x'", "agent.toml:2: slack.base_url: expected a URL such as http://host:port"),
        (
            "[slack]\nbot_token = 'xoxb-1'",
            'agent.toml:2: slack.bot_token: expected { env = "NAME" }, { file = "/path" } or { credential = "name" }',
        ),
        ("[collector]\nlisten = '8420'", "agent.toml:2: collector.listen: expected HOST:PORT"),
        ("[collector]\nlisten = '0.0.0.0:80'", "agent.toml:2: collector.listen: 0.0.0.0 is not loopback"),
        ("[collector]\nstore = 'postgres://x'", "agent.toml:2: collector.store: expected"),
        ("[agent\nhost = 'x'", "agent.toml:1: not valid TOML"),
        ("[agent]\nhost = 'x'\nhost = 'y'", "agent.toml:3: not valid TOML: cannot overwrite a value"),
    ],
)
def test_a_fault_is_told_where_it_is(write: Write, text: str, expected: str) -> None:
    """One fault, one line: file, line, path, and what was expected."""
    [line] = faults(write(text))
    assert line.startswith(expected)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("", "4: thresholds[0]: expected at least one of warning, critical and absent_for"),
        ("of = '5 of 3'\nwarning = 1", """7: thresholds[0].of: expected "N of M" such as "3 of 5", not '5 of 3'"""),
        (
            "warning = '200ms'",
            "7: thresholds[0].warning: expected a bound in percent, as a.used_percent is, not in seconds",
        ),
        ("warning = 80\ncritical = 70", '8: thresholds[0].critical: expected a bound above warning where op is ">"'),
        (
            "warning = 80\ncritical = 90\nclear_critical = 95",
            "9: thresholds[0].clear_critical: expected a value between where warning ends and critical",
        ),
        ("warning = 80\nclear = 85", "8: thresholds[0].clear: expected a value not above the bound that it clears"),
        (
            "warning = '8o%'",
            '7: thresholds[0].warning: expected a number, or a quantity such as "80%", "200ms" or "1GiB"',
        ),
        ("op = '='\nwarning = 1", '7: thresholds[0].op: expected ">" or "<", not "="'),
    ],
)
def test_a_threshold_must_make_sense(write: Write, table: str, expected: str) -> None:
    """Bounds on the wrong side, in the wrong unit, or none at all would never ring, or always."""
    [line] = faults(write(f"\n\n\n[[thresholds]]\nname = 'a'\nmetric = 'a.used_percent'\n{table}\n"))
    assert line.startswith(f"agent.toml:{expected}")


def test_two_thresholds_of_one_name(write: Write) -> None:
    """Even where they come from two files; the later one is told, with its own place."""
    rule = '[[thresholds]]\nname = "one"\nmetric = "a.b"\nwarning = 1\n'
    [line] = faults(write(rule, later=f"# more\n\n{rule}"))
    assert line == 'agent.d/later.toml:4: thresholds[0].name: duplicate threshold "one"; expected a name of its own'


def test_a_value_set_in_two_files(write: Write) -> None:
    """Both files are named, each with its line."""
    [line] = faults(write("[agent]\nhost = 'a'", more="\n[agent]\nhost = 'b'"))
    assert line.startswith("agent.d/more.toml:3: agent.host: is set in ")
    assert "agent.toml:2 already" in line


def test_a_missing_key_is_told_at_its_table(write: Write) -> None:
    """There is no line of its own to name."""
    assert faults(write("\n[[thresholds]]\nname = 'a'\nwarning = 1")) == [
        "agent.toml:2: thresholds[0].metric: missing; expected a text"
    ]


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    """One that was asked for by name must be there."""
    assert faults(tmp_path / "no.toml") == ["no.toml:1: cannot be read: No such file or directory"]
    (tmp_path / "latin.toml").write_bytes(b"[agent]\nhost = '\xe9'")
    assert faults(tmp_path / "latin.toml") == ["latin.toml:1: cannot be read: it is not UTF-8"]


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, ".".join(["a"] * 5000) + " = 1", "a = " + "9" * 5000])
def test_what_breaks_a_parser_is_a_fault(write: Write, text: str) -> None:
    """Depth and length are no way to a traceback."""
    assert faults(write(text))


# -- a plugin's own options


class Inner(Options, frozen=True):
    share: Percent = Percent(5)


class Sample(Options, frozen=True):
    url: str
    wait: Duration = Duration(1)
    limit: Size | None = None
    bound: Quantity | None = None
    names: tuple[str, ...] = ()
    paths: dict[str, Path] = {}
    inner: Inner = Inner()

    def __post_init__(self) -> None:
        if not self.url:
            raise ValueError("url must not be empty")


def test_options_are_decoded_by_their_types() -> None:
    """Nested tables, lists and units, as a plugin author writes them."""
    table = {"url": "x", "wait": "2s", "names": ["a"], "paths": {"p": "/p"}, "inner": {"share": "7%"}, "bound": 3}
    value, found = decode(Sample, table, "probes.x")
    assert found == []
    assert value == Sample(
        url="x",
        wait=Duration(2),
        names=("a",),
        paths={"p": Path("/p")},
        inner=Inner(share=Percent(7)),
        bound=Quantity(3),
    )


def test_faults_in_options_carry_the_whole_path() -> None:
    """All of them, and no value where a key without a default is missing."""
    value, found = decode(Sample, {"wait": 1, "names": ["a", 2], "inner": {"shares": "1%"}}, "probes.x")
    assert value is None
    assert sorted(found) == [
        'probes.x.inner.shares: unknown key, did you mean "share"?',
        "probes.x.names[1]: expected a text, not 2",
        "probes.x.url: missing; expected a text",
        'probes.x.wait: expected a duration such as "10s", "5m" or "72h", not 1',
    ]


def test_a_types_own_check_is_a_fault() -> None:
    """What `__post_init__` refuses is told at the table."""
    assert decode(Sample, {"url": ""}, "probes.x") == (None, ["probes.x: url must not be empty"])


def test_later_faults_find_their_line(write: Write) -> None:
    """What the plugins find in their own tables is told with file and line, too."""
    reading = read(write("[probes.x]\n\nwait = 1\n"))
    assert reading.faults == []
    _, found = decode(Sample, reading.config.probes["x"].options, ("probes", "x"))
    lines = [line.rpartition("/")[2] for line in reading.lines([*found, "probes.x: told as text"])]
    assert lines[0] == "agent.toml:1: probes.x.url: missing; expected a text"
    assert lines[1] == "agent.toml:1: probes.x: told as text"
    assert lines[2].startswith("agent.toml:3: probes.x.wait: expected")


# -- nothing but ConfigError

PARTS = st.sampled_from(
    [
        *re.findall(r"^[^#\n]+$", SHIPPED.read_text(), re.MULTILINE),
        *(
            "[",
            "]",
            "=",
            '"',
            "'",
            "{",
            "}",
            "[[",
            "]]",
            ".",
            "#",
            "nan",
            "-1",
            "1e400",
            "9" * 30,
            "1979-05-27",
            "true",
        ),
        *('"\\u0000"', "interval =", "[probes.x]", "cron =", "bot_token = { file = ", '"/nowhere"', "labels ="),
    ]
)
DOCUMENTS = st.lists(PARTS | st.text(max_size=5), max_size=12).map("\n".join) | st.lists(PARTS, max_size=8).map(
    " ".join
)


@given(DOCUMENTS)
@example("[mqtt]\nca = '\\u0000'")
@example('[mqtt]\nca = "\\u0000"')
@example('[mqtt]\nurl = "mqtt://[::1"')
@example('[slack]\nbot_token = { file = "\\u0000" }')
@example('[agent]\ninterval = "' + "9" * 400 + 's"')
@example('[spool]\nmax_bytes = "' + "9" * 400 + 'B"')
@example("[health]\nmemory = " + "9" * 400)
@example("[[thresholds]]\nwarning = " + "9" * 400)
def test_no_file_makes_anything_but_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Whatever stands in the file: a configuration, or faults that each name the file and a line of it."""
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    found: list[str] = []
    with contextlib.suppress(ConfigError):
        assert isinstance(read(path).config, Config)
        found = read(path).lines()
        load(path)
        assert not found
    for line in found:
        placed = re.match(rf"{re.escape(str(path))}:(\d+): .", line)
        assert placed, line
        assert 1 <= int(placed[1]) <= text.count("\n") + 2


# -- small parts


def test_paths_are_printed_as_toml_writes_them() -> None:
    """Bare keys bare, others quoted, positions in brackets."""
    assert dotted(("a", 0, "b c", "d-1_x")) == 'a[0]."b c".d-1_x'
    assert Fault((), "text") == "text"


@pytest.mark.parametrize(("text", "expected"), [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0))])
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    """HOST:PORT, with brackets around what holds colons itself."""
    assert address(text) == expected


@pytest.mark.parametrize("text", ["", ":80", "x:", "x:65536", "x:٣", "x:-1"])
def test_what_is_no_address(text: str) -> None:
    """Neither half may be missing, and the port is a port."""
    with pytest.raises(ValueError, match="HOST:PORT"):
        address(text)


def test_loopback() -> None:
    """Only what cannot be reached from outside."""
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "web-1")] == [False] * 4


def test_a_machines_name_becomes_a_host_id() -> None:
    """Capitals, underscores and length are put right."""
    assert host_id("My_Mac.local") == "my-mac.local"
    assert host_id("-x" * 60) == ("x-" * 60)[:63]
    assert host_id("___") == "localhost"


def test_options_of_a_probe_are_its_rest() -> None:
    found = decode(ProbeConfig, {"enabled": False, "own": [1]}, "probes.x")
    assert found == (ProbeConfig(enabled=False, options={"own": [1]}), [])
