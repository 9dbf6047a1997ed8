"""`tocsin top`, drawn: one host in detail, or all of them in a table. Pure: a view in, something for rich out."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agent.alerting.figure import figure, standing
from agent.cli.stream import HostView
from agent.cli.table import clean
from agent.model import Incident, Metric

_WIDTH = 30
_COLORS = {"info": "cyan", "warning": "yellow", "critical": "red"}
_LEVELS = ((90.0, "red"), (75.0, "yellow"), (0.0, "green"))


def fleet(hosts: Iterable[HostView], now: float) -> RenderableType:
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), title="tocsin top: all hosts", title_justify="left")
    ordered = sorted(hosts, key=lambda host: host.name)
    # On a narrow terminal anything may be cut but who it is about.
    table.add_column("HOST", no_wrap=True, min_width=max((len(host.name) for host in ordered), default=0))
    for head in ("STATE", "HEALTH", "CPU", "MEMORY", "DISK", "LOAD", "INCIDENTS", "HEARD"):
        table.add_column(head, no_wrap=True)
    for host in ordered:
        disk = host.worst("disk.used_percent")
        table.add_row(
            _plain(host.name),
            _state(host),
            _health(host),
            _percent(host.value("cpu.used_percent")),
            _percent(host.value("memory.used_percent")),
            _percent(disk.value if disk else None) + _plain(f" {disk.labels.get('mount', '')}" if disk else ""),
            _plain(_number(host.value("load.per_core_1m"))),
            _worst(host),
            _plain(f"{max(0.0, now - host.heard):.0f} s ago" if host.heard else "-"),
        )
    return table


def one(host: HostView, now: float) -> RenderableType:
    heard = f"{max(0.0, now - host.heard):.0f} s ago" if host.heard else "nothing yet"
    title = Text.assemble(
        "tocsin top: ", _plain(host.name), "  ", _state(host), "  health ", _health(host), f"  heard {heard}"
    )
    return Group(title, _bars(host), _traffic(host), _processes(host), _incidents(host.incidents.values()))


def _bars(host: HostView) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    rows: list[tuple[str, float | None, str]] = [
        ("cpu", host.value("cpu.used_percent"), f"load {_number(host.value('load.1m'))}"),
        ("memory", host.value("memory.used_percent"), _bytes(host, "memory.available_bytes", "available")),
        ("swap", host.value("memory.swap_used_percent"), ""),
    ]
    rows += [
        (f"disk {disk.labels.get('mount', '')}", disk.value, _bytes(host, "disk.free_bytes", "free", disk))
        for disk in sorted(host.metrics("disk.used_percent"), key=lambda disk: -disk.value)[:6]
    ]
    for name, value, note in rows:
        if value is not None:
            table.add_row(_plain(name), _bar(value), _percent(value), _plain(note))
    return Panel(table, title="use", title_align="left")


def _traffic(host: HostView) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for metric in host.metrics("network.receive_bytes_per_second"):
        sent = host.value("network.transmit_bytes_per_second", metric.labels)
        table.add_row(
            _plain(f"network {metric.labels.get('interface', '')}"),
            _plain(f"in {figure(metric.value, 'bytes/s')}"),
            _plain(f"out {figure(sent, 'bytes/s')}" if sent is not None else ""),
        )
    for metric in host.metrics("diskio.read_bytes_per_second"):
        written = host.value("diskio.write_bytes_per_second", metric.labels)
        table.add_row(
            _plain(f"disk {' '.join(metric.labels.values())}"),
            _plain(f"read {figure(metric.value, 'bytes/s')}"),
            _plain(f"write {figure(written, 'bytes/s')}" if written is not None else ""),
        )
    return Panel(table, title="traffic", title_align="left")


def _processes(host: HostView) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    by_cpu = sorted(host.metrics("processes.cpu_percent"), key=lambda metric: -metric.value)[:5]
    by_memory = sorted(host.metrics("processes.rss_bytes"), key=lambda metric: -metric.value)[:5]
    for index in range(max(len(by_cpu), len(by_memory))):
        cells: list[Text] = []
        for found, unit in ((by_cpu, "percent"), (by_memory, "bytes")):
            metric = found[index] if index < len(found) else None
            cells += [
                _plain(" ".join(metric.labels.values()) if metric else ""),
                _plain(figure(metric.value, unit) if metric else ""),
            ]
        table.add_row(*cells)
    return Panel(table, title="processes by cpu and by memory", title_align="left")


def _incidents(incidents: Iterable[Incident]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for incident in sorted(incidents, key=lambda incident: (-incident.severity.rank, -incident.fired_at)):
        value = standing(incident.value, incident.unit, incident.op)
        table.add_row(
            Text(incident.severity.upper(), style=_COLORS.get(incident.severity, "")),
            _plain(incident.threshold),
            _plain(value),
            _plain(" ".join(f"{key}={text}" for key, text in sorted(incident.labels.items()))),
            _plain(time.strftime("since %H:%M:%S", time.localtime(incident.fired_at))),
        )
    if not table.row_count:
        table.add_row(Text("no open incident", style="green"))
    return Panel(table, title="incidents", title_align="left")


def _plain(text: str) -> Text:
    """What came from a host, without markup and control characters."""
    return Text(clean(text))


def _percent(value: float | None) -> Text:
    if value is None:
        return Text("-")
    return Text(f"{value:5.1f} %", style=next(color for bound, color in _LEVELS if value >= bound or bound == 0.0))


def _bar(value: float) -> Text:
    filled = round(_WIDTH * min(100.0, max(0.0, value)) / 100)
    color = next(color for bound, color in _LEVELS if value >= bound or bound == 0.0)
    return Text.assemble(("█" * filled, color), ("░" * (_WIDTH - filled), "dim"))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _bytes(host: HostView, name: str, word: str, like: Metric | None = None) -> str:
    value = host.value(name, like.labels if like else None)
    return "" if value is None else f"{figure(value, 'bytes')} {word}"


def _state(host: HostView) -> Text:
    words = {True: ("online", "green"), False: ("offline", "red"), None: ("unknown", "dim")}
    word, color = words[host.online]
    return Text(word, style=color)


def _health(host: HostView) -> Text:
    if host.health is None or host.health.score is None:
        return Text("unknown", style="dim")
    color = {"EXCELLENT": "green", "GOOD": "green", "WARNING": "yellow"}.get(host.health.status, "red")
    return Text(f"{host.health.score:.0f} {host.health.status}", style=color)


def _worst(host: HostView) -> Text:
    if not host.incidents:
        return Text("none", style="green")
    worst = max(host.incidents.values(), key=lambda incident: incident.severity.rank)
    return Text(f"{len(host.incidents)} {worst.severity}", style=_COLORS.get(worst.severity, ""))
