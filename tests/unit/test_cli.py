"""The command line: help, exit codes, and that no traceback ever reaches a user."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent import cli, up
from agent.__main__ import SERVICES, _command
from agent.cli import incidents, main
from agent.cli.table import clean, table
from agent.errors import EXIT_CONFIG, EXIT_FAILED, EXIT_OK, EXIT_UNAVAILABLE, EXIT_USAGE, UsageError
from tests.services import free_port

COMMANDS = ("up", "run", "collect", "check", "probes", "probe", "incidents", "alert", "top")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(
        f'[agent]\nhost = "t"\nstate_dir = "{tmp_path}/state"\n[probes.memory]\n[probes.cpu]\nenabled = false\n'
        f'[collector]\nlisten = "127.0.0.1:{free_port()}"\n'
    )
    return path


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_there_for_every_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With exit codes in it; the overview has examples."""
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"] if command else ["--help"])
    assert ended.value.code == EXIT_OK
    text = capsys.readouterr().out
    assert "examples:" in text if not command else f"tocsin {command}" in text
    assert "exit codes" in text or command == "probes"


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["probe"], ["up", "--listen"], ["alert"], ["check", "--fast"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    """As every command line does."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == EXIT_USAGE


def test_version() -> None:
    """By the script that users have."""
    done = subprocess.run(
        [Path(sys.executable).parent / "tocsin", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == "tocsin"


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (UsageError("no such thing"), EXIT_USAGE, "tocsin: no such thing\n"),
        (KeyboardInterrupt(), 130, ""),
        (RuntimeError("odd"), EXIT_FAILED, "tocsin: RuntimeError: odd\n"),
    ],
)
def test_no_traceback_reaches_a_user(
    error: BaseException,
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Our errors are a line and their exit code; a fault of ours is told as one, with how to learn more."""

    def broken(_: object) -> int:
        raise error

    monkeypatch.delenv("TOCSIN_DEBUG", raising=False)
    monkeypatch.setattr(cli, "_run", broken)
    assert main(["check"]) == code
    printed = capsys.readouterr().err
    assert printed.startswith(told)
    assert "Traceback" not in printed
    assert ("TOCSIN_DEBUG=1" in printed) == isinstance(error, RuntimeError)


def test_who_asks_gets_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """TOCSIN_DEBUG lets the error through as it is."""

    def broken(_: object) -> int:
        raise RuntimeError("odd")

    monkeypatch.setenv("TOCSIN_DEBUG", "1")
    monkeypatch.setattr(cli, "_run", broken)
    with pytest.raises(RuntimeError):
        main(["check"])


def test_probes_lists_configured_and_available(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What runs with its schedule; what could, with its own words."""
    assert main(["probes", "-c", str(config)]) == EXIT_OK
    configured, available = capsys.readouterr().out.split("\n\n")
    assert [line.split()[0] for line in configured.splitlines()] == ["PROBE", "memory"]
    assert "10 s" in configured
    lines = {line.split()[0]: line for line in available.splitlines()}
    assert {"cpu", "disk", "processes"} <= set(lines)
    assert lines["load"].split(None, 1)[1].startswith("Load average")


def test_a_probe_is_run_once_asked(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table for people, one JSON object for scripts."""
    assert main(["probe", "memory", "--once", "-c", str(config)]) == EXIT_OK
    text = capsys.readouterr().out
    assert "memory.used_percent" in text
    assert "memory: ok in " in text
    assert main(["-c", str(config), "probe", "memory", "--once", "--json"]) == EXIT_OK
    result = json.loads(capsys.readouterr().out)
    assert (result["probe"], result["status"]) == ("memory", "ok")
    assert {"memory.total_bytes", "probe.up"} <= {metric["name"] for metric in result["metrics"]}


def test_rates_are_there_because_it_runs_twice(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The cpu probe brings nothing the first time; it is switched off in the file and can be run all the same."""
    assert main(["probe", "cpu", "--json", "-c", str(config)]) == EXIT_OK
    names = {metric["name"] for metric in json.loads(capsys.readouterr().out)["metrics"]}
    assert "cpu.used_percent" in names


def test_a_probe_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1, and its error."""
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    (plugins / "broken.py").write_text(
        '"""Always fails."""\nfrom agent.plugin import Metric, Probe\n\n'
        "class Broken(Probe):\n    async def collect(self) -> list[Metric]:\n        raise OSError('no such device')\n"
    )
    (plugins / "broken.py").chmod(0o644)
    path = tmp_path / "agent.toml"
    path.write_text(f'[agent]\nplugin_dirs = ["{plugins}"]\n[probes.broken]\n')
    assert main(["probe", "broken", "-c", str(path)]) == EXIT_FAILED
    assert "error" in (text := capsys.readouterr().out)
    assert "no such device" in text


def test_an_unknown_probe(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, and where to look."""
    assert main(["probe", "nope", "-c", str(config)]) == EXIT_USAGE
    assert "`tocsin probes` lists them" in capsys.readouterr().err


def test_incidents_without_a_collector(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 69, the address that was tried, and how to name another."""
    assert main(["incidents", "-c", str(config)]) == EXIT_UNAVAILABLE
    said = capsys.readouterr().err
    assert "no collector answers at http://127.0.0.1:" in said
    assert "--url" in said


ASKING = (
    ("status",),
    ("alert", "test"),
    ("audit",),
    ("audit", "--collector"),
    ("incidents", "--url", "http://127.0.0.1:1"),
    ("keys", "list"),
    ("keys", "unblock"),
    ("thresholds", "explain", "cpu"),
    ("slack", "manifest"),
    ("slack", "check"),
    ("top", "--once"),
)


@pytest.mark.parametrize("asked", ASKING, ids=" ".join)
def test_a_file_that_cannot_be_read_is_told(
    asked: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defaults in its place would be about another daemon: the state directory of `up` is there, and is not asked."""
    (tmp_path / "tocsin").mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "bad.toml").write_text("[agent\n")
    for name, fault in (("no.toml", "cannot be read: No such file or directory"), ("bad.toml", "not valid TOML")):
        assert main([*asked, "-c", str(tmp_path / name)]) == EXIT_CONFIG
        assert f"{tmp_path / name}:1: {fault}" in capsys.readouterr().err


def test_what_the_command_line_says_needs_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever may not read the one of the machine names the collector, and is not told of the file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agent.toml").write_text("[agent\n")
    assert main(["incidents", "--url", f"http://127.0.0.1:{free_port()}"]) == EXIT_UNAVAILABLE
    assert "no collector answers" in capsys.readouterr().err


def test_a_test_alert_without_a_daemon(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 69; the request does not stay behind for a later daemon to find."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert main(["alert", "test", "-c", str(config)]) == EXIT_UNAVAILABLE
    assert "no daemon has run here" in capsys.readouterr().err
    monkeypatch.setattr("agent.cli.alert.TAKEN_UP_WITHIN", 0.2)
    state = tmp_path / "state"
    state.mkdir()
    assert main(["alert", "test", "-c", str(config)]) == EXIT_UNAVAILABLE
    assert "no daemon runs" in capsys.readouterr().err
    assert list(state.iterdir()) == []


def test_top_without_a_broker(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 69, and why."""
    arguments = ["top", "--once", "--wait", "0.5", "--mqtt", f"mqtt://127.0.0.1:{free_port()}", "-c", str(config)]
    assert main(arguments) == EXIT_UNAVAILABLE
    assert "no broker" in capsys.readouterr().err
    assert main(["top", "--once", "Not A Host"]) == EXIT_USAGE


@pytest.mark.parametrize(
    "arguments",
    [["--listen", "8420"], ["--mqtt", "x"], ["--interval", "2"], ["--interval", "1us"], ["--listen", "0.0.0.0:1"]],
)
def test_up_checks_its_options(arguments: list[str], config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, with the option's name."""
    assert main(["up", "-c", str(config), *arguments]) == EXIT_USAGE
    assert arguments[0] in capsys.readouterr().err


def test_a_reload_that_would_open_the_dashboard_is_refused(
    config: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """SIGHUP with a file that `up` would not start with: told in the log, the last good one stays."""
    config.write_text('[collector]\nlisten = "0.0.0.0:8420"\n')
    daemon = cast("Any", SimpleNamespace(reload=lambda setup: pytest.fail("it was taken")))
    up._reload(daemon, up.Options(config=config))
    assert "keeping the last good one" in caplog.text


def test_a_reload_names_what_the_collector_beside_it_does_not_take_over(
    config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = up.Options(config=config)
    taken: list[Any] = []
    daemon = cast("Any", SimpleNamespace(config=up._prepare(options).config, reload=taken.append))
    config.write_text(config.read_text() + '[slack]\nchannel = "#other"\n')
    up._reload(daemon, options)
    assert taken[0].config.slack.channel == "#other"
    assert [vars(record)["key"] for record in caplog.records] == ["slack"]


@pytest.mark.parametrize(
    ("command", "module"),
    [("run", "agent.daemon.main"), ("up", "agent.up"), ("collect", "agent.collector.service")],
)
def test_asked_to_stop_while_it_loads_it_ends_well(command: str, module: str, tmp_path: Path) -> None:
    """SIGTERM, which comes here in the middle of the imports, is no failure of the service."""
    script = (
        "import os, signal, sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.meta_path.insert(0, Stop())\n"
        "from agent.__main__ import main\n"
        "main()\n"
        "sys.exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, command], check=False, cwd=tmp_path).returncode == 0


def test_the_daemon_imports_little() -> None:
    """`tocsin run` must stay light: nothing of the collector, the broker, the terminal view or Slack's SDK.

    Nor of what a host needs that is told to do something.
    """
    script = (
        "import sys, agent.cli.run, agent.daemon.main\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} | set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {"slack_sdk", "aiohttp", "sqlalchemy", "amqtt", "rich", "uvloop", "agent.collector", "agent.up", "difflib"}
    heavy |= {"agent.commands.desk", "agent.daemon.verbs"}
    assert "aiomqtt" in loaded
    assert loaded & heavy == set()


def test_tables_line_up_and_stay_harmless() -> None:
    """Columns are aligned; an escape sequence out of a label does not reach the terminal."""
    text = table(("A", "B"), [("long cell", "x"), ("s\x1b[31m", "y")])
    assert text.splitlines() == ["A          B", "long cell  x", "s�[31m     y"]
    assert clean("a\u202eb\n") == "a�b�"


@pytest.mark.parametrize(
    ("value", "unit", "op", "shown"),
    [(3.6e10, "bytes/h", ">", "33.5 GiB/h"), (71.23, "percent", ">", "71.2 %"), (10.8, "seconds", "absent", "no data")],
)
def test_incidents_are_listed_as_slack_has_them(
    value: float, unit: str, op: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of silence the value is how long it was when it was noticed, which is no news."""
    row = {"id": "inc_1", "host": "web-1", "severity": "warning", "state": "open", "threshold": "x", "fired_at": 1.0}
    incidents._print_table([{**row, "value": value, "unit": unit, "op": op}], open_only=True)
    assert f"  {shown}  " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({"state": "open"}, "open"),
        ({"state": "open", "acknowledged_by": "slack:U1", "muted": "silenced"}, "acknowledged, muted"),
        ({"state": "open", "flapping": True, "muted": ""}, "flapping"),
        ({"state": "resolved", "acknowledged_by": "slack:U1"}, "resolved"),
    ],
)
def test_the_list_says_what_holds_of_an_incident(
    more: dict[str, object], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"id": "inc_1", "host": "web-1", "severity": "warning", "threshold": "x", "fired_at": 1.0, **more}
    incidents._print_table([row], open_only=True)
    assert f"  warning   {shown}  " in capsys.readouterr().out


@pytest.mark.parametrize("words", [["job", "run"], ["silence", "up", "1h", "collect"]])
def test_only_a_service_that_is_asked_to_stop_has_done_well(words: list[str], tmp_path: Path) -> None:
    """`tocsin job run` is no `tocsin run`: whoever ends it must not be told that the job is done."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen()
        process = subprocess.Popen([sys.executable, "-m", "agent", *words, "--state-dir", tmp_path])
        listener.settimeout(60)
        with listener.accept()[0]:
            process.terminate()
            assert process.wait(60) == -signal.SIGTERM


@pytest.mark.parametrize("words", [["run"], ["-c", "agent.toml", "run"], ["--config=x", "collect", "-c", "y"]])
def test_a_service_is_known_by_its_place(words: list[str]) -> None:
    assert _command(words) in SERVICES
