"""`tocsin top`: what it makes of the stream, and what it draws."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

from agent.cli import screen
from agent.cli.stream import HostView, Stream
from agent.model import ComponentHealth, Health, Incident, Metric, Severity, Transition, TransitionKind
from agent.transport import wire

T0 = 1_790_000_000.0
EPOCH = "e" * 32


def sample(stream: Stream, *metrics: Metric, host: str = "web-1", probe: str = "cpu", time: float = T0) -> bool:
    envelope = wire.MetricsEnvelope(
        schema=1, host=host, epoch=EPOCH, seq=1, time=time, probe=probe, status="ok", duration=0.1, metrics=metrics
    )
    return stream.take(f"tocsin/v1/{host}/metrics/{probe}", wire.encode(envelope))


def incident(version: int = 1, *, resolved: bool = False, threshold: str = "disk-space") -> bytes:
    what = Incident(
        id="inc_1",
        host="web-1",
        threshold=threshold,
        metric="disk.used_percent",
        severity=Severity.CRITICAL,
        peak=Severity.CRITICAL,
        started_at=T0,
        fired_at=T0,
        updated_at=T0,
        version=version,
        state="resolved" if resolved else "open",
        labels={"mount": "/srv"},
        unit="percent",
        value=97.0,
    )
    step = Transition("inc_1", version, TransitionKind.OPENED, Severity.CRITICAL, T0)
    envelope = wire.IncidentEnvelope(
        schema=1, host="web-1", epoch=EPOCH, seq=2, time=T0, incident=what, transition=step
    )
    return wire.encode(envelope)


def drawn(picture: RenderableType, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(picture)
    text = console.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


def test_the_newest_of_every_probe_is_kept() -> None:
    """A later run replaces an earlier one; a backlog of an outage is not the present."""
    stream = Stream()
    for value, time in ((10.0, T0), (20.0, T0 + 10), (99.0, T0 - 3600)):
        assert sample(stream, Metric("cpu.used_percent", value, "percent"), time=time)
    host = stream.hosts["web-1"]
    assert (host.value("cpu.used_percent"), host.heard, host.online) == (20.0, T0 + 10, True)


def test_an_incident_lives_from_its_first_to_its_last_message() -> None:
    """A newer version replaces, an older one does not; resolved or cleared, it is gone."""
    stream, topic = Stream(), "tocsin/v1/web-1/incidents/inc_1"
    stream.take(topic, incident(2))
    stream.take(topic, incident(1, threshold="older"))
    assert stream.hosts["web-1"].incidents["inc_1"].threshold == "disk-space"
    stream.take(topic, incident(3, resolved=True))
    assert stream.hosts["web-1"].incidents == {}
    stream.take(topic, incident(2))
    stream.take(topic, b"")
    assert stream.hosts["web-1"].incidents == {}


def test_what_is_not_ours_is_left_alone() -> None:
    """Foreign topics, broken payloads and other channels neither raise nor make up a host."""
    stream = Stream()
    for topic, payload in (
        ("other/topic", b"x"),
        ("tocsin/v1/web-1/metrics/cpu", b"{"),
        ("tocsin/v1/BAD HOST/status", b"{}"),
        ("tocsin/v1/web-1/ack", b"{}"),
    ):
        assert not stream.take(topic, payload)
    assert stream.hosts == {}


def test_one_host_is_drawn() -> None:
    """Bars, traffic, processes, incidents, health; in words, not in colour alone."""
    stream = Stream()
    sample(stream, Metric("cpu.used_percent", 42.0, "percent"))
    sample(stream, Metric("memory.used_percent", 81.5, "percent"), probe="memory")
    mount = {"mount": "/srv"}
    sample(stream, Metric("disk.used_percent", 97.0, "percent", labels=mount), probe="disk")
    eth = {"interface": "eth0"}
    sample(stream, Metric("network.receive_bytes_per_second", 2048.0, "bytes/s", labels=eth), probe="network")
    sample(stream, Metric("processes.cpu_percent", 50.0, "percent", labels={"name": "mysqld"}), probe="processes")
    stream.take("tocsin/v1/web-1/incidents/inc_1", incident())
    health = Health(T0, 61.0, "CRITICAL", {"disk": ComponentHealth(10.0, "C")})
    stream.take("tocsin/v1/web-1/health", wire.encode(wire.HealthMessage(1, "web-1", health)))
    text = drawn(screen.one(stream.hosts["web-1"], T0 + 3))
    for expected in ("online", "61 CRITICAL", "heard 3 s ago", "42.0 %", "81.5 %", "disk /srv", "97.0 %"):
        assert expected in text
    for expected in ("in 2 KiB/s", "mysqld", "CRITICAL", "disk-space", "mount=/srv"):
        assert expected in text


def test_all_hosts_are_drawn_by_name() -> None:
    """One line each; a host that only its will has spoken of is offline."""
    stream = Stream()
    sample(stream, Metric("cpu.used_percent", 5.0, "percent"), host="b")
    stream.take("tocsin/v1/a/status", wire.encode(wire.Status("offline", EPOCH, 1)))
    lines = [line for line in drawn(screen.fleet(stream.hosts.values(), T0)).splitlines() if line.strip()]
    assert [line.split()[0] for line in lines[-2:]] == ["a", "b"]
    assert "offline" in lines[-2]
    assert "unknown" in lines[-1]


def test_a_narrow_terminal_still_says_which_host() -> None:
    """Other columns are cut first."""
    stream = Stream()
    name = "db-primary-02.fra.example"
    sample(stream, Metric("cpu.used_percent", 12.0, "percent"), host=name)
    assert name in drawn(screen.fleet(stream.hosts.values(), T0), width=60)


def test_what_a_host_names_cannot_touch_the_terminal() -> None:
    """Markup and escape sequences in labels and thresholds are shown as text."""
    stream = Stream()
    labels = {"name": "[red]x[/red]\x1b[2J"}
    sample(stream, Metric("processes.cpu_percent", 1.0, "percent", labels=labels), probe="processes")
    stream.take("tocsin/v1/web-1/incidents/inc_1", incident(threshold="\x1b]0;title\x07[bold]"))
    text = drawn(screen.one(stream.hosts["web-1"], T0))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]x[/red]" in text
    assert "[bold]" in text


def test_a_host_never_heard_is_drawn_too() -> None:
    """`top HOST` before anything has come."""
    assert "heard nothing yet" in drawn(screen.one(HostView("web-9"), T0))
