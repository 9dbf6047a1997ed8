"""What goes over the wire is what docs/wire.md and its schemas say."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import paho.mqtt.client as paho
import pytest

from agent.commands import payload as form
from agent.commands.payload import Command, Reply, new_id
from agent.commands.signing import Signer
from agent.model import Gap
from agent.transport import wire
from tests.services import Mosquitto, free_port, wait_until

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "docs" / "schemas"
TOCSIN = str(Path(sys.executable).parent / "tocsin")


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


VALIDATORS = {path.stem: validator(path.stem) for path in SCHEMAS.glob("*.json")}


def kind(topic: str) -> str:
    """The schema that a topic falls under."""
    parts = topic.split("/")
    return "collector" if parts[2] == "_collector" else parts[3]


class Tap:
    """Everything below `tocsin/v1/`, as any MQTT client hears it."""

    def __init__(self, broker: Mosquitto) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.on_message = lambda _client, _data, message: self.messages.append((message.topic, message.payload))
        self.client.connect(broker.host, broker.port)
        self.client.subscribe("tocsin/v1/#", 1)
        self.client.loop_start()

    @property
    def kinds(self) -> set[str]:
        return {kind(topic) for topic, payload in self.messages if payload}

    def stop(self) -> None:
        self.client.loop_stop()
        self.client.disconnect()


def test_every_message_of_a_running_system_validates(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """Agent and collector, run as users run them: each topic has a schema, each payload keeps to it."""
    config = tmp_path / "agent.toml"
    probes = "".join(
        f"[probes.{name}]\n" for name in ("cpu", "memory", "disk", "load", "network", "processes", "uptime")
    )
    config.write_text(
        f'[agent]\nhost = "web-1"\nstate_dir = "{tmp_path}/state"\ninterval = "1s"\ntimeout = "1s"\n'
        f'labels = {{ role = "web" }}\n'
        f'[mqtt]\nurl = "{mosquitto.url}"\n[collector]\nlisten = "127.0.0.1:{free_port()}"\n{probes}\n'
        '[[thresholds]]\nname = "some memory"\nmetric = "memory.used_percent"\nwarning = "0%"\n'
    )
    tap = Tap(mosquitto)
    started = [
        subprocess.Popen([TOCSIN, role, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for role in ("collect", "run")
    ]
    try:
        expected = {"metrics", "incidents", "status", "health", "deliveries", "ack", "collector"}
        wait_until(lambda: tap.kinds >= expected, f"one message of each of {sorted(expected)}", 40)
    finally:
        for process in started:
            process.terminate()
        codes = [process.wait(20) for process in started]
        tap.stop()
    assert codes == [0, 0]
    for topic, payload in tap.messages:
        if payload:
            VALIDATORS[kind(topic)].validate(json.loads(payload))
        else:
            assert kind(topic) == "incidents", f"{topic} was cleared"
    statuses = [json.loads(payload)["state"] for topic, payload in tap.messages if topic == "tocsin/v1/web-1/status"]
    assert statuses[0] == "online"
    assert statuses[-1] == "offline"


def test_a_gap_validates() -> None:
    """The one envelope that a healthy system does not send."""
    gap = Gap(epoch="0" * 32, ranges=((1, 5), (7, 7)), count=6, reason="bytes", first_time=1.0, last_time=2.0)
    envelope = wire.GapEnvelope(schema=1, host="web-1", epoch="1" * 32, seq=9, time=3.0, gap=gap)
    VALIDATORS["gaps"].validate(json.loads(wire.encode(envelope)))


def test_commands_and_their_answers_validate() -> None:
    """What only flows where somebody asks for something; the command inside has its schema, too."""
    signer, _ = Signer.new("ops-1")
    command = Command(new_id(), "web-1", "silence", {"match": "host=*", "duration": 60.0}, "slack:U1", 1.0, 61.0)
    raw = signer.sign(command)
    VALIDATORS["commands"].validate(json.loads(raw))
    schema = json.loads((SCHEMAS / "commands.json").read_text())["$defs"]["command"]
    inside = jsonschema.Draft202012Validator(schema)
    inside.validate(json.loads(base64.b64decode(json.loads(raw)["payload"])))
    for fault in ({"args": {"x": ["y"]}}, {"id": "cmd_1"}, {"sudo": True}):
        assert not inside.is_valid({**json.loads(form.encode(command)), **fault})
    for state, data in (("accepted", {}), ("refused", {"reason": "expired"}), ("done", {"ok": True, "lines": []})):
        reply = Reply(new_id(), "web-1", 1.0, state, "text", data)
        VALIDATORS["replies"].validate(json.loads(form.encode_reply(reply)))
    for state in ("refused", "done", "finished"):
        bare = {"id": new_id(), "host": "web-1", "time": 1.0, "state": state}
        assert not VALIDATORS["replies"].is_valid(bare)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("metrics", {"host": "Web_1"}),
        ("metrics", {"epoch": "abc"}),
        ("metrics", {"seq": 0}),
        ("metrics", {"status": "fine"}),
        ("metrics", {"extra": 1}),
    ],
)
def test_the_schemas_refuse(name: str, fault: dict[str, Any]) -> None:
    """A schema that accepts anything would make the test above worth nothing."""
    good = {
        "schema": 1,
        "host": "web-1",
        "epoch": "0" * 32,
        "seq": 1,
        "time": 1.5,
        "probe": "cpu",
        "status": "ok",
        "duration": 0.1,
        "metrics": [],
    }
    VALIDATORS[name].validate(good)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATORS[name].validate({**good, **fault})


def test_every_documented_topic_has_its_schema() -> None:
    """docs/wire.md, asyncapi.yaml and docs/schemas speak of the same topics."""
    linked = set(re.findall(r"schemas/(\w+)\.json", (ROOT / "docs" / "wire.md").read_text()))
    described = set(re.findall(r"schemas/(\w+)\.json", (ROOT / "docs" / "asyncapi.yaml").read_text()))
    assert linked == described == set(VALIDATORS)
