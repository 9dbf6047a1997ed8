"""Runs in the booted machine: installs, then tries what the units promise; writes /out/report.json."""

from __future__ import annotations

import contextlib
import json
import pwd
import shutil
import sqlite3
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from machine import (
    AGENT,
    BLOCK,
    BROKER,
    COLLECTOR,
    CONFIG,
    DASHBOARD_TOKEN,
    HOST,
    LEVEL,
    STATE,
    Slack,
    api,
    journal,
    points,
    run,
    show,
    until,
)

TOKEN = "xoxb-from-the-credential"
PASSWORD = "of-the-broker"
GOOD = f"""
[agent]
host = "{HOST}"
interval = "1s"
plugin_dirs = ["/etc/tocsin/plugins"]

[mqtt]
url = "mqtts://127.0.0.1:8883"
username = "{HOST}"
password = {{ credential = "mqtt-password" }}
ca = "/etc/tocsin/tls/ca.crt"

[collector]
token = {{ credential = "dashboard-token" }}

[probes.load]
[probes.processes]
[probes.switch]

[[thresholds]]
name = "first rule"
metric = "switch.level"
op = ">"
critical = 50

[slack]
bot_token = {{ credential = "slack-bot-token" }}
channel = "#alerts"
base_url = "http://127.0.0.1:9000/api/"
"""
SECOND = """
[[thresholds]]
name = "second rule"
metric = "switch.level"
op = ">"
warning = 60
"""
BAD = GOOD.replace('interval = "1s"', 'interval = "1s"\nintervall = "2s"')
CERTIFICATES = """
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=Tocsin CA" -keyout ca.key -out ca.crt
openssl req -newkey rsa:2048 -nodes -subj "/CN=127.0.0.1" -keyout server.key -out server.csr
echo subjectAltName=IP:127.0.0.1 > server.ext
openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile server.ext -out server.crt
chown mosquitto: server.key && chmod 600 server.key ca.key
"""
# Host and collector of one machine share its name at the broker, so it has the rules of both.
WRITTEN = ("+/ack", "+/commands", "+/delivered", "_collector/#")
RULES = "\n".join(
    ["", f"user {HOST}", "topic read tocsin/v1/#", *(f"topic write tocsin/v1/{topic}" for topic in WRITTEN), ""]
)
slack = Slack(9000)


def install() -> str:
    """The wheel, the units, user and directories; as docs/install.md says it, without a network."""
    venv = "/opt/tocsin/venv"
    run("python3", "-m", "venv", venv)
    pip = [f"{venv}/bin/pip", "install", "--quiet", "--no-index", "--find-links=/wheels", "--find-links=/own"]
    run(*pip, "tocsin[collector]")
    for name in (AGENT, COLLECTOR):
        shutil.copy(f"/units/{name}", "/etc/systemd/system/")
    for directory in ("sysusers.d", "tmpfiles.d"):
        Path("/etc", directory).mkdir(exist_ok=True)
        shutil.copy(f"/units/{directory}/tocsin.conf", f"/etc/{directory}/")
    run("systemd-sysusers")
    run("systemd-tmpfiles", "--create")
    shutil.copy("/inside/switch.py", "/etc/tocsin/plugins/")
    for name, secret in (("slack-bot-token", TOKEN), ("mqtt-password", PASSWORD), ("dashboard-token", DASHBOARD_TOKEN)):
        credential = Path("/etc/tocsin/credentials", name)
        credential.write_text(secret + "\n")
        credential.chmod(0o600)
    broker()
    CONFIG.write_text(GOOD)
    LEVEL.write_text("10")
    for unit, seconds in ((AGENT, 5), (COLLECTOR, 10)):
        drop_in = Path(f"/etc/systemd/system/{unit}.d")
        drop_in.mkdir()
        (drop_in / "shorter.conf").write_text(f"[Service]\nWatchdogSec={seconds}\nRestartSec=1\n")
    run("systemctl", "daemon-reload")
    return run(f"{venv}/bin/tocsin", "--version", check=False).strip()


def broker() -> None:
    """mosquitto with TLS, passwords and the rules of docs/examples."""
    shutil.copy("/examples/mosquitto/tocsin.conf", "/etc/mosquitto/conf.d/")
    rules, passwords = Path("/etc/mosquitto/tocsin.acl"), Path("/etc/mosquitto/passwords")
    rules.write_text(Path("/examples/mosquitto/tocsin.acl").read_text() + RULES)
    run("sh", "-ec", f"cd /etc/mosquitto/certs\n{CERTIFICATES}")
    passwords.touch()
    run("mosquitto_passwd", "-b", str(passwords), HOST, PASSWORD)
    for path in (rules, passwords):
        shutil.chown(path, "mosquitto")
        path.chmod(0o600)
    shutil.copy("/etc/mosquitto/certs/ca.crt", "/etc/tocsin/tls/")


def starts_with_everything_absent() -> str:
    """No broker, no collector: the agent is ready all the same."""
    run("systemctl", "stop", BROKER)
    began = time.monotonic()
    run("systemctl", "start", AGENT)
    assert show(AGENT, "ActiveState") == "active"
    return f"ready after {time.monotonic() - began:.2f} s"


def both_ready() -> str:
    """Broker and collector come; the host is online and its samples are in the database."""
    run("systemctl", "start", BROKER)
    run("systemctl", "start", COLLECTOR)
    assert show(COLLECTOR, "ActiveState") == "active"
    until(lambda: len(points("switch.level")) > 3, "samples in the collector", 60)
    [host] = api("hosts")["hosts"]
    assert (host["host"], host["state"]) == (HOST, "online"), host
    return f"{len(points('load.1m'))} samples of load.1m"


def credential_is_read() -> str:
    """A breach goes to Slack with the token that systemd handed over."""
    LEVEL.write_text("55")
    until(lambda: slack.posts("first rule"), "a message in Slack", 30)
    [(_, authorization, _)] = slack.posts("first rule")
    assert authorization == f"Bearer {TOKEN}", authorization
    return "one message, with the token of the credential"


def sandbox_holds() -> str:
    """No capability, a system call filter, its own user; yet it sees the machine's processes."""
    for unit in (AGENT, COLLECTOR):
        pid = show(unit, "MainPID")
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
        )
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0, status["CapBnd"]
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert int(status["Uid"].split()[0]) == pwd.getpwnam("tocsin").pw_uid
        assert Path(f"/proc/{pid}/root/usr").exists()
        mounts = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
        root = [line.split()[5] for line in mounts if line.split()[4] == "/"][-1]
        assert "ro" in root.split(","), f"/ is {root}"
    seen = max(value for _, value in points("processes.total"))
    there = sum(entry.name.isdigit() for entry in Path("/proc").iterdir())
    assert abs(seen - there) < 15, (seen, there)
    assert seen > 8
    return f"{seen:.0f} processes seen of {there}"


def no_child_speaks_for_us() -> str:
    """NOTIFY_SOCKET is gone from the environment that children would inherit."""
    values = {value for _, value in points("switch.notify_socket")}
    assert values == {0.0}, values
    return "NOTIFY_SOCKET is not passed on"


def reload_good() -> str:
    """SIGHUP: a new rule holds at once, in the same process."""
    pid = show(AGENT, "MainPID")
    LEVEL.write_text("65")
    CONFIG.write_text(GOOD + SECOND)
    run("systemctl", "reload", AGENT)
    until(lambda: slack.posts("second rule"), "a message of the new rule", 30)
    assert show(AGENT, "MainPID") == pid
    return "the new rule spoke"


def reload_bad() -> str:
    """SIGHUP with an unknown key: the fault is in the journal, and nothing else changes."""
    pid, since = show(AGENT, "MainPID"), time.time()
    CONFIG.write_text(BAD)
    run("systemctl", "reload", AGENT, check=False)
    fault = until(lambda: [line for line in journal(AGENT, since).splitlines() if "intervall" in line], "the fault", 10)
    until(lambda: [p for p in points("switch.level") if p[0] > since + 2], "samples after the reload", 20)
    assert (show(AGENT, "MainPID"), show(AGENT, "ActiveState")) == (pid, "active")
    assert len(slack.posts("second rule")) == 1
    CONFIG.write_text(GOOD + SECOND)
    return fault[0]


def watchdog_restarts() -> str:
    """A probe that blocks the loop for ever: systemd ends the agent and starts it again."""
    pid, since = show(AGENT, "MainPID"), time.time()
    BLOCK.touch()
    until(lambda: "Watchdog timeout" in journal(AGENT, since), "the watchdog", 40)
    BLOCK.unlink()
    until(
        lambda: show(AGENT, "ActiveState") == "active" and show(AGENT, "MainPID") not in (pid, "0"), "a new agent", 40
    )
    text = journal(AGENT, since)
    assert "switch.py" in text, f"no stack in the journal:\n{text[-2000:]}"
    until(lambda: [p for p in points("switch.level") if p[0] > time.time() - 3], "samples of the new agent", 40)
    assert int(show(AGENT, "NRestarts")) >= 1
    return f"restarted {time.time() - since:.1f} s after the block began, with the stack in the journal"


def identities(name: str) -> set[tuple[str, int]]:
    """(epoch, seq) of every envelope in a database file: the spool of a stopped agent, or the collector's."""
    [path] = STATE.rglob(name)
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return set(database.execute("SELECT epoch, seq FROM envelopes"))


def stop_flushes_and_state_is_kept() -> str:
    """Stopped in under 10 s with what was measured on disk; the incidents go on where they were."""
    run("systemctl", "stop", BROKER)
    time.sleep(3)
    told = len(slack.posts(""))
    began = time.monotonic()
    run("systemctl", "stop", AGENT)
    took = time.monotonic() - began
    assert took < 10, f"{took:.1f} s"
    assert show(AGENT, "Result") == "success"
    waiting = identities("spool.db")
    assert len(waiting) >= 6, f"{len(waiting)} envelopes in the spool after 3 s without a broker"
    assert not waiting & identities("collector.db")
    run("systemctl", "start", AGENT)
    run("systemctl", "start", BROKER)
    until(lambda: waiting <= identities("collector.db"), "every spooled envelope in the collector's database", 60)
    incidents = api("incidents")["incidents"]
    names = sorted(incident["threshold"] for incident in incidents)
    assert names == ["first rule", "second rule"], incidents
    assert len(slack.posts("")) == told, "an incident was told again after the restart"
    return f"stopped in {took:.2f} s, {len(waiting)} spooled envelopes delivered, 2 incidents kept, nothing told twice"


def bad_file_stays_down() -> str:
    """Exit status 78 is not restarted, and the journal says why."""
    since = time.time()
    CONFIG.write_text(BAD)
    run("systemctl", "restart", AGENT, check=False)
    until(lambda: show(AGENT, "ActiveState") == "failed", "the failure", 20)
    time.sleep(3)
    assert (show(AGENT, "ActiveState"), show(AGENT, "ExecMainStatus")) == ("failed", "78")
    [fault] = [line for line in journal(AGENT, since).splitlines() if "intervall" in line]
    return fault


def missing_credential_is_named() -> str:
    """A credential that agent.toml names and nobody has put there: 78 again, with its name."""
    since = time.time()
    CONFIG.write_text(GOOD + 'app_token = { credential = "slack-app-token" }\n')
    run("systemctl", "restart", AGENT, check=False)
    until(lambda: show(AGENT, "ActiveState") == "failed", "the failure", 20)
    assert show(AGENT, "ExecMainStatus") == "78"
    fault = next(line for line in journal(AGENT, since).splitlines() if "slack-app-token" in line)
    CONFIG.write_text(GOOD)
    return fault


def collector_is_restarted_and_stops() -> str:
    """kill -9 brings it back with all it had; SIGTERM ends it in time."""
    before = len(points("load.1m"))
    run("systemctl", "kill", "--signal=KILL", COLLECTOR)
    until(
        lambda: int(show(COLLECTOR, "NRestarts")) == 1 and show(COLLECTOR, "ActiveState") == "active", "its return", 40
    )
    until(lambda: len(points("load.1m")) >= before, "its data", 20)
    began = time.monotonic()
    run("systemctl", "stop", COLLECTOR)
    took = time.monotonic() - began
    assert took < 10, f"{took:.1f} s"
    assert show(COLLECTOR, "Result") == "success"
    return f"back after kill -9; stopped in {took:.2f} s"


CHECKS: list[Callable[[], str]] = [
    install,
    starts_with_everything_absent,
    both_ready,
    credential_is_read,
    sandbox_holds,
    no_child_speaks_for_us,
    reload_good,
    reload_bad,
    watchdog_restarts,
    stop_flushes_and_state_is_kept,
    bad_file_stays_down,
    missing_credential_is_named,
    collector_is_restarted_and_stops,
]
FIRST = (install, starts_with_everything_absent, both_ready)


def main() -> None:
    report: dict[str, dict[str, object]] = {}
    for check in CHECKS:
        began = time.monotonic()
        try:
            said, passed = check(), True
        except Exception:  # noqa: BLE001 # a finding, and the next check goes on
            said, passed = traceback.format_exc(), False
        report[check.__name__] = {"passed": passed, "said": said, "seconds": round(time.monotonic() - began, 1)}
        print(check.__name__, report[check.__name__], flush=True)
        Path("/out/report.json").write_text(json.dumps(report, indent=1))
        if not passed and check in FIRST:
            break  # the rest would only wait for what cannot come
    Path("/out/journal.log").write_text(journal(AGENT) + "\n--- collector ---\n" + journal(COLLECTOR))


main()
