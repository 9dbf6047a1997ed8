"""The broker's example files, as docs/install.md sets them up, in a real mosquitto with TLS."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.services import Mosquitto, free_port, program, running

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "mosquitto"
USERS = ("web-1", "web-2", "collector")


class Secured(Mosquitto):
    """Runs tocsin.conf and tocsin.acl themselves, with the paths and the port of this test in them."""

    def command(self) -> list[str]:
        text = (EXAMPLES / "tocsin.conf").read_text()
        text = re.sub(r"^listener \d+$", f"listener {self.port} 127.0.0.1", text, flags=re.MULTILINE)
        text = text.replace("/etc/mosquitto/certs", str(self.directory)).replace("/etc/mosquitto", str(self.directory))
        config = self.directory / "mosquitto.conf"
        config.write_text(f"{text}\npersistence false\nuser root\nlog_type all\n")
        return [self.program, "-v", "-c", str(config)]


def certify(directory: Path) -> None:
    """A CA and a server certificate, by the commands of the document."""
    openssl = [program("openssl", "openssl")]

    def make(*words: str) -> None:
        subprocess.run([*openssl, *words], check=True, capture_output=True, cwd=directory, timeout=60)

    (directory / "server.ext").write_text("subjectAltName=IP:127.0.0.1\n")
    new = ["req", "-newkey", "rsa:2048", "-nodes"]
    make(*new, "-x509", "-days", "2", "-subj", "/CN=Tocsin CA", "-keyout", "ca.key", "-out", "ca.crt")
    make(*new, "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr")
    signing = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
    make("x509", "-req", "-in", "server.csr", *signing, "-extfile", "server.ext", "-out", "server.crt")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    directory = tmp_path_factory.mktemp("broker")
    certify(directory)
    (directory / "tocsin.acl").write_text((EXAMPLES / "tocsin.acl").read_text())
    (directory / "passwords").touch()
    tool = program("mosquitto_passwd", "mosquitto")
    for user in USERS:
        command = [tool, "-b", str(directory / "passwords"), user, f"{user}-password"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    server = Secured(directory, free_port())
    with running(server):
        yield server


def arguments(broker: Secured, user: str) -> list[str]:
    where = ["-h", broker.host, "-p", str(broker.port), "--cafile", str(broker.directory / "ca.crt")]
    return [*where, "-u", user, "-P", f"{user}-password", "-q", "1"]


def publish(broker: Secured, user: str, topic: str, text: str) -> subprocess.CompletedProcess[str]:
    command = [program("mosquitto_pub", "mosquitto-clients"), *arguments(broker, user), "-t", topic, "-m", text]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)


class Listener:
    """A subscriber; `heard` is what came until and with a marker that the collector may always send."""

    def __init__(self, broker: Secured, user: str, topic: str) -> None:
        command = [program("mosquitto_sub", "mosquitto-clients"), *arguments(broker, user), "-t", topic]
        command += ["-t", "tocsin/v1/_collector/marker/status", "-v"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.broker = broker

    def __enter__(self) -> Self:
        assert self.process.stdout is not None
        # Retained, so that it comes at once: from here on the subscription stands.
        line = self.process.stdout.readline()
        assert "marker" in line
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def heard(self) -> list[str]:
        assert self.process.stdout is not None
        mark = f"end {time.monotonic()}"
        publish(self.broker, "collector", "tocsin/v1/_collector/marker/status", mark)
        lines = []
        while mark not in (line := self.process.stdout.readline()):
            lines.append(line.strip())
        return lines


@pytest.fixture(autouse=True)
def marker(broker: Secured) -> None:
    command = [program("mosquitto_pub", "mosquitto-clients"), *arguments(broker, "collector"), "-r"]
    subprocess.run([*command, "-t", "tocsin/v1/_collector/marker/status", "-m", "here"], check=True, timeout=20)


def test_a_host_speaks_for_itself_alone(broker: Secured) -> None:
    """The collector hears a host on its own topics, and nothing that it says as another or as the collector."""
    with Listener(broker, "collector", "tocsin/v1/#") as collector:
        for channel in ("metrics/cpu", "incidents/1", "gaps", "status", "health", "deliveries", "replies/cmd_1"):
            publish(broker, "web-1", f"tocsin/v1/web-1/{channel}", "mine")
        for topic in (
            "web-2/metrics/cpu",
            "web-2/status",
            "web-1/ack",
            "web-2/ack",
            "web-1/commands",
            "web-2/commands",
            "web-2/replies/cmd_1",
            "_collector/x/status",
        ):
            publish(broker, "web-1", f"tocsin/v1/{topic}", "forged")
        heard = [line for line in collector.heard() if "marker" not in line]
    said = {"metrics/cpu", "incidents/1", "gaps", "status", "health", "deliveries", "replies/cmd_1"}
    assert set(heard) == {f"tocsin/v1/web-1/{channel} mine" for channel in said}


def test_a_host_hears_what_is_for_it_and_no_other_host(broker: Secured) -> None:
    """Subscribed to everything, a host is given its acks and commands alone."""
    with Listener(broker, "web-1", "tocsin/v1/#") as host:
        publish(broker, "collector", "tocsin/v1/web-1/ack", "for web-1")
        publish(broker, "collector", "tocsin/v1/web-2/ack", "for web-2")
        publish(broker, "collector", "tocsin/v1/web-1/commands", "for web-1")
        publish(broker, "collector", "tocsin/v1/web-2/commands", "for web-2")
        publish(broker, "web-2", "tocsin/v1/web-2/metrics/cpu", "secret")
        heard = [line for line in host.heard() if "marker" not in line]
    assert heard == ["tocsin/v1/web-1/ack for web-1", "tocsin/v1/web-1/commands for web-1"]


def test_nobody_gets_in_without_a_name(broker: Secured) -> None:
    """Neither a wrong password, nor none, nor a client that would not speak TLS."""
    pub = program("mosquitto_pub", "mosquitto-clients")
    where = ["-h", broker.host, "-p", str(broker.port), "-t", "tocsin/v1/web-1/status", "-m", "x"]
    secure = [*where, "--cafile", str(broker.directory / "ca.crt")]
    for words in (secure, [*secure, "-u", "web-1", "-P", "wrong"], [*where, "-u", "web-1", "-P", "web-1-password"]):
        done = subprocess.run([pub, *words], check=False, capture_output=True, text=True, timeout=20)
        assert done.returncode != 0
    assert publish(broker, "web-1", "tocsin/v1/web-1/status", "x").returncode == 0
