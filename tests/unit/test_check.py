"""`tocsin check` as people run it: ten broken files, each with path, line and what was expected; exit 78."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli import main
from agent.daemon.main import ELSEWHERE
from agent.daemon.setup import prepare
from agent.errors import EXIT_CONFIG, EXIT_OK
from agent.slack import picture

SHIPPED = Path(__file__).parents[2] / "agent.toml"

BROKEN = {
    "unknown key": (
        '[probes.disk]\ninterval = "5s"\nexclude_type = ["tmpfs"]\n',
        ['agent.toml:3: probes.disk.exclude_type: unknown key, did you mean "exclude_types"?'],
    ),
    "wrong type": (
        "[agent]\nhost = 7\n[probes.cpu]\nper_core = 'yes'\n",
        [
            "agent.toml:2: agent.host: expected a text, not 7",
            'agent.toml:4: probes.cpu.per_core: expected true or false, not "yes"',
        ],
    ),
    "bad unit": (
        '[agent]\ninterval = "10 seconds"\n[spool]\nmax_bytes = "256MegaB"\nmin_free_disk = "500%"\n',
        [
            'agent.toml:2: agent.interval: expected a duration such as "10s", "5m" or "72h", not "10 seconds"',
            'agent.toml:4: spool.max_bytes: expected a size such as "4MiB" or "1GB", not "256MegaB"',
            'agent.toml:5: spool.min_free_disk: expected a percentage such as "5%", not "500%"',
        ],
    ),
    "secret in the file": (
        '[slack]\nbot_token = "xoxb-1234567-abc"\n',
        [
            (
                'agent.toml:2: slack.bot_token: expected { env = "NAME" }, { file = "/path" } or '
                '{ credential = "name" }, not a text'
            ),
        ],
    ),
    "duplicate probe": (
        "[probes.cpu]\nper_core = true\n\n[probes.cpu]\nper_core = false\n",
        ["agent.toml:4: not valid TOML: cannot declare ('probes', 'cpu') twice"],
    ),
    "unknown probe": (
        "[agent]\n\n[probes.memroy]\n[probes.web]\nplugin = 'disc'\n",
        [
            "agent.toml:3: probes.memroy: unknown probe 'memroy', did you mean \"memory\"?",
            'agent.toml:5: probes.web.plugin: unknown probe \'disc\', did you mean "disk" or "diskio"?',
        ],
    ),
    "missing secret": (
        (
            '[slack]\nbot_token = { env = "TOCSIN_NOT_SET" }\nsigning_secret = { file = "/nowhere/secret" }\n'
            'app_token = { credential = "app" }\n'
        ),
        [
            "agent.toml:2: slack.bot_token: missing secret: environment variable TOCSIN_NOT_SET is not set or empty",
            "agent.toml:3: slack.signing_secret: missing secret: /nowhere/secret: No such file or directory",
            (
                "agent.toml:4: slack.app_token: missing secret: credential app: $CREDENTIALS_DIRECTORY is not set "
                '(systemd sets it with LoadCredential=; without systemd: { file = "/path" })'
            ),
        ],
    ),
    "bad host id": (
        '[agent]\nhost = "Web_1"\n',
        [
            (
                'agent.toml:2: agent.host: expected a host id: lower-case letters, digits, "." and "-", at most 63, '
                "not 'Web_1'"
            )
        ],
    ),
    "bad schedule": (
        (
            '[probes.cpu]\ninterval = "5s"\ncron = "* * * * *"\n[probes.load]\ncron = "61 * * * *"\n'
            '[probes.memory]\ninterval = "2s"\ntimeout = "3s"\n'
        ),
        [
            "agent.toml:3: probes.cpu.cron: interval and cron exclude each other; keep one",
            "agent.toml:5: probes.load.cron: ",
            "agent.toml:8: probes.memory.timeout: expected at most the interval, 2 s",
        ],
    ),
    "bad threshold": (
        (
            '[[thresholds]]\nname = "empty"\nmetric = "cpu.used_percent"\n\n[[thresholds]]\nname = "empty"\n'
            'metric = "memory.used_percent"\nwarning = "200ms"\nof = "3 out of 5"\n'
        ),
        [
            "agent.toml:1: thresholds[0]: expected at least one of warning, critical and absent_for",
            'agent.toml:6: thresholds[1].name: duplicate threshold "empty"; expected a name of its own',
            (
                "agent.toml:8: thresholds[1].warning: expected a bound in percent, as memory.used_percent is, "
                "not in seconds"
            ),
            'agent.toml:9: thresholds[1].of: expected "N of M" such as "3 of 5", not \'3 out of 5\'',
        ],
    ),
    "open door": (
        '[mqtt]\nurl = "tcp://broker"\n[collector]\nlisten = "0.0.0.0:8420"\n',
        [
            "agent.toml:2: mqtt.url: expected a URL such as mqtt://host:port",
            "agent.toml:4: collector.listen: 0.0.0.0 is not loopback: expected collector.token beside it",
        ],
    ),
    "not TOML": ('[agent]\nhost = "web-1\n', ["agent.toml:2: not valid TOML: illegal character '\\n'"]),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_file(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every fault of the file at once, in its order, on stderr; nothing on stdout; exit 78."""
    for name in ("TOCSIN_NOT_SET", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    text, expected = BROKEN[fault]
    (tmp_path / "agent.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert main(["check", "-c", "agent.toml"]) == EXIT_CONFIG
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) == len(expected), printed.err
    for line, wanted in zip(lines, expected, strict=True):
        assert line.startswith(wanted) if wanted.endswith(": ") else line == wanted


def test_the_shipped_file_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    """What we hand out passes its own check."""
    assert main(["check", "-c", str(SHIPPED)]) == EXIT_OK
    assert capsys.readouterr().out.startswith("ok: 9 probes, 17 thresholds")


def test_the_daemon_refuses_what_check_refuses(tmp_path: Path) -> None:
    """`tocsin run` on a broken file: the same lines, exit 78, no traceback, nothing started."""
    path = tmp_path / "agent.toml"
    path.write_text(f'[agent]\nstate_dir = "{tmp_path}/state"\nintervall = "1s"\n[probes.memroy]\n')
    for command in ("run", "collect"):
        done = subprocess.run(
            [sys.executable, "-m", "agent", command, "-c", str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == EXIT_CONFIG
        assert f'{path}:3: agent.intervall: unknown key, did you mean "interval"?' in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "state").exists()


def test_each_role_needs_its_own_secrets_only(tmp_path: Path) -> None:
    """On a machine with both, systemd hands the agent nothing of the collector's; check still tells."""
    path = tmp_path / "agent.toml"
    path.write_text('[collector]\nlisten = "0.0.0.0:8420"\ntoken = { credential = "dashboard-token" }\n')
    assert prepare(path, elsewhere=ELSEWHERE).config.sources == (path,)
    assert main(["check", "-c", str(path)]) == EXIT_CONFIG


@pytest.mark.parametrize(
    ("able", "keys"),
    [
        (False, 'bot_token = { env = "X" }'),
        (True, 'bot_token = { env = "X" }'),
        (False, 'bot_token = { env = "X" }\npicture = false'),
        (False, ""),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, able: bool, keys: str
) -> None:
    """No fault, but nobody shall wonder where the charts are."""
    monkeypatch.setattr(picture, "able", lambda: able)
    monkeypatch.setenv("X", "xoxb-1")
    file = tmp_path / "agent.toml"
    file.write_text(f"[slack]\n{keys}\n")
    assert main(["check", "-c", str(file)]) == EXIT_OK
    told = "note: slack.picture: no chart is drawn" in capsys.readouterr().out
    assert told == (not able and keys.endswith("}"))
