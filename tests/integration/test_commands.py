"""A signed command on its whole way: a client, a real broker, the daemon as a process, and its answers."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import paho.mqtt.client as paho
import pytest

from agent.commands.payload import Args, Command, Reply, decode_reply, new_id
from agent.commands.signing import Signer
from tests.integration.agents import Agent, Make
from tests.integration.test_wire_schemas import VALIDATORS
from tests.services import Mosquitto, eventually

pytestmark = pytest.mark.services
HOST = "t-1"


class Client:
    """What a collector is for commands: it signs, sends and hears."""

    def __init__(self, broker: Mosquitto) -> None:
        self.signer, _ = Signer.new("ops-1")
        self.replies: list[Reply] = []
        self.faults: list[str] = []
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.on_message = self._hear
        self._client.connect(broker.host, broker.port)
        self._client.subscribe(f"tocsin/v1/{HOST}/replies/+", 1)
        self._client.loop_start()

    def _hear(self, _client: Any, _data: Any, message: Any) -> None:
        try:
            VALIDATORS["replies"].validate(json.loads(message.payload))
        except jsonschema.ValidationError as error:
            self.faults.append(str(error))
        self.replies.append(decode_reply(message.payload))

    def command(self, verb: str, args: Args | None = None, **changes: Any) -> Command:
        now = time.time()
        command = Command(new_id(), HOST, verb, args or {}, "slack:U1 (ada)", now, now + 60)
        return msgspec.structs.replace(command, **changes)

    def send(self, raw: bytes, *, retain: bool = False) -> None:
        self._client.publish(f"tocsin/v1/{HOST}/commands", raw, 1, retain).wait_for_publish(10)

    def states(self, command: Command) -> list[str]:
        return [reply.state for reply in self.replies if reply.id == command.id]

    async def ask(self, verb: str, args: Args | None = None) -> Reply:
        """The final answer."""
        command = self.command(verb, args)
        self.send(self.signer.sign(command))
        await eventually(lambda: {"done", "refused"} & set(self.states(command)), f"an answer to {verb}")
        return next(reply for reply in self.replies if reply.id == command.id and reply.state in ("done", "refused"))

    def stop(self) -> None:
        self._client.loop_stop()
        self._client.disconnect()


@pytest.fixture
def client(mosquitto: Mosquitto) -> Iterator[Client]:
    client = Client(mosquitto)
    yield client
    client.stop()
    assert client.faults == []


@pytest.fixture
def agent(make: Make, mosquitto: Mosquitto, client: Client, tmp_path: Path) -> Agent:
    marks = tmp_path / "marks"
    jobs = tmp_path / "jobs.toml"
    jobs.write_text(
        f'[jobs.mark]\nargv = ["/bin/sh", "-c", "echo ran >> {marks}"]\n'
        f'[jobs.long]\nargv = ["/bin/sh", "-c", "echo ran >> {marks}; sleep 20"]\n'
        '[jobs.say]\nargv = ["/bin/echo", "{what}"]\nparameters = { what = "[a-z0-9.]{1,20}" }\n'
    )
    keys = tmp_path / "keys"
    keys.write_text(f"trusted {client.signer.public}\n")
    more = (
        "[probes.load]\n[probes.disk]\n[probes.processes]\n[commands]\n"
        f'trusted_keys = {{ file = "{keys}" }}\njobs = "{jobs}"\n'
        'allow = ["status", "top", "probe", "advise", "job"]\n'
    )
    agent = make(mosquitto.url, more=more)
    for file in (jobs, keys, agent.config):
        file.chmod(0o644)
    return agent


def marks(agent: Agent) -> int:
    """How often a job has really run."""
    file = agent.directory.parent / "marks"
    return file.read_text().count("ran") if file.exists() else 0


def tocsin(agent: Agent, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "agent", *words, "-c", str(agent.config)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


async def connected(agent: Agent, times: int = 1) -> None:
    await agent.says("broker connected", times)
    await asyncio.sleep(0.3)  # the subscription to commands follows the connection


async def test_delivered_ten_times_it_runs_once_and_every_state_is_told(agent: Agent, client: Client) -> None:
    agent.start()
    await connected(agent)
    command = client.command("job", {"name": "mark"})
    raw = client.signer.sign(command)
    for _ in range(10):
        client.send(raw)
    await eventually(lambda: client.states(command)[-1:] == ["done"], "the end of the job")
    assert client.states(command)[0] == "accepted"
    assert "running" in client.states(command)
    assert "refused" not in client.states(command)
    client.send(raw)
    await eventually(lambda: agent.log.count("was here before") >= 10, "ten refusals")
    assert marks(agent) == 1
    agent.kill()
    agent.start()
    await connected(agent, 2)
    client.send(raw)
    await eventually(lambda: agent.log.count("was here before") >= 11, "a refusal after the restart")
    assert marks(agent) == 1


async def test_what_must_not_run_does_not(agent: Agent, client: Client, tmp_path: Path) -> None:
    """The matrix once more on the real road; tests/unit/test_command_desk.py has all of it."""
    agent.start()
    await connected(agent)
    now = time.time()
    job = {"name": "mark"}
    other, _ = Signer.new("ops-1")
    good = client.signer.sign(client.command("job", job))
    bad = [
        other.sign(client.command("job", job)),
        client.signer.sign(client.command("job", job, host="t-2")),
        client.signer.sign(client.command("job", job, issued_at=now - 100, not_after=now - 10)),
        client.signer.sign(client.command("job", job, issued_at=now + 300, not_after=now + 360)),
        client.signer.sign(client.command("job", {"name": "mark", "unit": "--now"})),
        client.signer.sign(client.command("silence", {"match": "x", "duration": 60.0, "reason": "x"})),
        good[:-5],
        good.replace(b'"key":"ops-1"', b'"key":"ops-1","key":"ops-1"'),
        b"",
        b"x" * 1_000_000,
    ]
    for raw in bad:
        client.send(raw)
    client.send(good, retain=True)  # kept by the broker, and handed to whoever connects next: never taken
    await eventually(lambda: marks(agent) == 1, "the one good command, which was live when it came")
    agent.kill()
    agent.start()
    await connected(agent, 2)
    keys = tmp_path / "keys"
    keys.write_text(f"trusted {client.signer.public}\nrevoked {client.signer.public}\n")
    assert (await client.ask("job", job)).data == {"reason": "revoked_key"}
    keys.write_text(f"trusted {client.signer.public}\n")
    for wrong in (0o666, 0o664):
        (tmp_path / "jobs.toml").chmod(wrong)
        assert (await client.ask("job", job)).data == {"reason": "disabled"}
    (tmp_path / "jobs.toml").chmod(0o644)
    assert marks(agent) == 1
    assert (await client.ask("job", job)).data["ok"] is True
    code, said = tocsin(agent, "audit", "-n", "0")
    assert code == 0
    for reason in ("bad_signature", "wrong_host", "expired", "future", "bad_arguments", "not_allowed", "revoked_key"):
        assert reason in said
    assert tocsin(agent, "audit", "--verify")[1].startswith("ok: ")


async def test_killed_between_accept_and_result_it_is_interrupted(agent: Agent, client: Client) -> None:
    agent.start()
    await connected(agent)
    command = client.command("job", {"name": "long"})
    raw = client.signer.sign(command)
    client.send(raw)
    await eventually(lambda: marks(agent) == 1, "a job under way")
    agent.signal(signal.SIGKILL)
    assert agent.process is not None
    agent.process.wait()
    agent.start()
    await eventually(lambda: client.states(command)[-1:] == ["interrupted"], "word of what became of it")
    await agent.says("a job outlived its agent and is ended")
    client.send(raw)
    await agent.says("was here before")
    assert marks(agent) == 1
    assert (await agent.stop()) < 10


async def test_a_result_is_told_when_the_broker_is_back(agent: Agent, client: Client, mosquitto: Mosquitto) -> None:
    agent.start()
    await connected(agent)
    command = client.command("probe", {"name": "load"})
    client.send(client.signer.sign(command))
    await eventually(lambda: "running" in client.states(command), "a probe under way")
    mosquitto.stop()
    await agent.says("command done")
    agent.kill()
    mosquitto.start()
    agent.start()
    late = Client(mosquitto)
    try:
        await eventually(lambda: late.states(command) == ["done"], "the result of the last process", 30)
    finally:
        late.stop()


async def test_what_each_verb_says(agent: Agent, client: Client) -> None:
    agent.level.write_text("95")
    agent.start()
    await connected(agent)
    await agent.says("incident changed")
    status = await client.ask("status")
    assert "critical level" in status.text
    assert status.data["incidents"][0]["threshold"] == "level"
    probe = await client.ask("probe", {"name": "load"})
    assert "load.1m" in probe.text
    assert (await client.ask("probe", {"name": "nope"})).data["reason"] == "unknown_probe"
    top = await client.ask("top")
    assert top.text.startswith("processes, ")
    advice = await client.ask("advise", {"plugin": "disk"})
    assert "seen" in advice.text
    assert (
        "no local mount" in (await client.ask("advise", {"plugin": "disk", "about": "/no", "action": "largest"})).text
    )
    say = await client.ask("job", {"name": "say", "what": "hello"})
    assert say.text.endswith("hello")
    assert say.data["exit"] == 0
    assert (await client.ask("job", {"name": "say", "what": "Hello"})).data == {"ok": False, "reason": "bad_arguments"}
    assert (await client.ask("job", {"name": "nope"})).data["reason"] == "unknown_job"
    code, said = tocsin(agent, "status", "--json")
    assert (code, json.loads(said)["data"]["ok"]) == (0, True)
    code, said = tocsin(agent, "job", "say", "what=hello")
    assert (code, said.splitlines()[-1]) == (0, "hello")
    assert tocsin(agent, "job", "say", "what=--flag")[0] == 2
    assert tocsin(agent, "advise", "disk")[0] == 0
    code, said = tocsin(agent, "thresholds", "explain", "level")
    assert (code, said.splitlines()[0]) == (0, "level: switch.level")
    assert "  critical: above 90; on, reached " in said
    assert tocsin(agent, "thresholds", "explain", "nobody")[0] == 1
    assert "cli:" in tocsin(agent, "audit")[1]
    assert await agent.stop() < 10


async def test_an_incident_is_held_back_and_looked_after(agent: Agent, client: Client) -> None:
    """By the command line, and by who was given the verbs."""
    agent.config.write_text(agent.config.read_text().replace('"job"]', '"ack", "silence", "unsilence", "silences"]'))
    agent.level.write_text("95")
    agent.start()
    await connected(agent)
    await agent.says("incident changed")
    incident = json.loads(tocsin(agent, "status", "--json")[1])["data"]["incidents"][0]
    acknowledged = await client.ask("ack", {"id": incident["id"]})
    assert "slack:U1 (ada) looks after it" in acknowledged.text
    assert (await client.ask("ack", {"id": "inc_0"})).data["reason"] == "unknown_incident"
    silence = await client.ask("silence", {"match": "level", "duration": 3600.0, "reason": "moving the data"})
    assert silence.data["incidents"] == [incident["id"]]
    shown = json.loads(tocsin(agent, "status", "--json")[1])["data"]["incidents"][0]
    assert shown["acknowledged_by"] == "slack:U1 (ada)"
    assert "moving the data" in shown["muted"]
    code, said = tocsin(agent, "silences")
    assert (code, said.split()[0]) == (0, silence.data["silence"]["id"])
    assert tocsin(agent, "unsilence", silence.data["silence"]["id"])[0] == 0
    assert (await client.ask("silences")).text == "nothing is silenced"
    assert (await client.ask("silence", {"match": "=x", "duration": 60.0, "reason": "x"})).data["ok"] is False
    assert tocsin(agent, "silence", "level", "2h", "the", "rest", "of", "it")[0] == 0
    assert tocsin(agent, "silence", "level", "soon", "x")[0] == 2


async def test_switched_on_and_off_by_a_reload(agent: Agent, client: Client) -> None:
    with_commands = agent.config.read_text()
    agent.config.write_text(with_commands.partition("[commands]")[0])
    agent.start()
    await connected(agent)
    client.send(client.signer.sign(client.command("job", {"name": "mark"})))
    await asyncio.sleep(0.5)
    assert (marks(agent), client.replies) == (0, [])
    agent.config.write_text(with_commands)
    agent.signal(signal.SIGHUP)
    await connected(agent, 2)
    assert (await client.ask("job", {"name": "mark"})).data["ok"] is True
    agent.config.write_text(with_commands.partition("[commands]")[0])
    agent.signal(signal.SIGHUP)
    await agent.says("configuration reloaded", 2)
    assert (await client.ask("job", {"name": "mark"})).data == {"reason": "disabled"}
    assert marks(agent) == 1


async def test_refused_loudly_where_others_could_have_written_the_file(agent: Agent, client: Client) -> None:
    """The daemon goes on measuring; it only obeys nobody."""
    agent.config.chmod(0o666)
    agent.start()
    await connected(agent)
    await agent.says("commands are refused until this is mended")
    assert (await client.ask("job", {"name": "mark"})).data == {"reason": "disabled"}
    assert marks(agent) == 0
    code, said = tocsin(agent, "check")
    assert code == 78
    assert "expected chmod go-w" in said
