"""What must hold between and beyond the types: addresses, names, bounds. Pure; each rule yields faults."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from agent.config.decode import Fault, Keys
from agent.config.schema import (
    CollectorConfig,
    CommandsConfig,
    Config,
    MqttConfig,
    ProbeConfig,
    SlackConfig,
    ThresholdConfig,
)
from agent.config.units import Quantity

COMPONENTS = ("database", "memory", "cpu", "disk", "network", "cache", "apis")
OWN_PROBE = "agent"
"""The name under which the daemon reports about itself."""
_HOST = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
COURSE_MOST = 30 * 86400.0
"""Seconds that a rule may look back or ahead."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_UNITS = {"_percent": "percent", "_bytes": "bytes", "_seconds": "seconds", "_bytes_per_second": "bytes/s"}


def faults(config: Config) -> Iterator[Fault]:
    """Everything in `config` that its types allow and its meaning does not."""
    if config.agent.host and not _HOST.fullmatch(config.agent.host):
        yield Fault(
            ("agent", "host"),
            f'expected a host id: lower-case letters, digits, "." and "-", at most 63, not {config.agent.host[:80]!r}',
        )
    yield from _positive(config)
    yield from _mqtt(config.mqtt)
    for name, probe in config.probes.items():
        yield from _probe(name, probe, float(config.agent.interval))
    yield from _thresholds(config.thresholds)
    yield from _depends(config.thresholds)
    yield from _health(config.health)
    for key in ("base_url", "dashboard_url"):
        yield from _url(("slack", key), getattr(config.slack, key), ("http", "https"))
    yield from _slack(config.slack)
    yield from _collector(config.collector)
    yield from _commands(config.commands)


def host_id(name: str | None = None) -> str:
    """A host id made of `name`, or of this machine's name."""
    text = re.sub(r"[^a-z0-9.-]+", "-", (name or socket.gethostname()).lower()).lstrip(".-")[:63]
    return text or "localhost"


def address(listen: str) -> tuple[str, int]:
    """("127.0.0.1", 8420) of "127.0.0.1:8420" or "[::1]:8420"; ValueError says what is expected."""
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port[:6]) > 65535:
        raise ValueError('expected HOST:PORT such as "127.0.0.1:8420"')
    return host, int(port)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _positive(config: Config) -> Iterator[Fault]:
    for table in ("agent", "mqtt", "spool", "slack", "collector"):
        values = getattr(config, table)
        for key in ("interval", "timeout", "keepalive", "connect_timeout", "max_age", "resend_after", "offline_after"):
            if getattr(values, key, 1) <= 0:
                yield Fault((table, key), "expected more than 0")
    if config.spool.max_bytes < 1024 * 1024:
        yield Fault(("spool", "max_bytes"), 'expected at least "1MiB"')
    if config.spool.backlog_rate < 1:
        yield Fault(("spool", "backlog_rate"), "expected at least 1 envelope a second")


def _mqtt(mqtt: MqttConfig) -> Iterator[Fault]:
    faults = list(_url(("mqtt", "url"), mqtt.url, ("mqtt", "mqtts")))
    yield from faults
    if not faults:
        url = urlsplit(mqtt.url)
        if url.port == 0 or url.path.strip("/") or url.username:
            yield Fault(("mqtt", "url"), "expected mqtt://host:port and no more; the user has a key of its own")
    if mqtt.keepalive > 65535:
        yield Fault(("mqtt", "keepalive"), "expected at most 65535 s, which is the most that MQTT can say")
    if (mqtt.cert is None) != (mqtt.key is None):
        yield Fault(("mqtt", "key" if mqtt.key else "cert"), "cert and key go together; the other one is missing")
    for key in ("ca", "cert", "key"):
        path = getattr(mqtt, key)
        if path is not None and not _is_file(str(path)):
            yield Fault(("mqtt", key), f"no such file: {path}")


def _is_file(path: str) -> bool:
    import os  # noqa: PLC0415 - os.path copes with any text, pathlib does not

    try:
        return os.path.isfile(path)  # noqa: PTH113
    except ValueError:
        return False


def _url(keys: Keys, text: str, schemes: tuple[str, ...]) -> Iterator[Fault]:
    wanted = f"expected a URL such as {schemes[0]}://host:port"
    try:
        url = urlsplit(text)
        _ = url.port  # raises if it is not a number in range
    except ValueError:
        yield Fault(keys, wanted)
        return
    if url.scheme not in schemes or not url.hostname:
        yield Fault(keys, wanted)
    elif url.password is not None:
        yield Fault(keys, "a password does not belong in a URL; name it as a secret")


def _probe(name: str, probe: ProbeConfig, interval: float) -> Iterator[Fault]:
    keys: Keys = ("probes", name)
    if not _NAME.fullmatch(name):
        yield Fault(keys, 'expected a name of letters, digits, "_", "-" and ".", at most 63 long')
    if name == OWN_PROBE:
        yield Fault(keys, f'"{OWN_PROBE}" is what the daemon measures of itself; expected another name')
    if probe.interval is not None and probe.cron:
        yield Fault((*keys, "cron"), "interval and cron exclude each other; keep one")
    for key in ("interval", "timeout"):
        value = getattr(probe, key)
        if value is not None and value <= 0:
            yield Fault((*keys, key), "expected more than 0")
    every = interval if probe.interval is None else probe.interval
    if probe.timeout is not None and not probe.cron and probe.timeout > every:
        yield Fault((*keys, "timeout"), f"expected at most the interval, {every:g} s")


def _thresholds(thresholds: tuple[ThresholdConfig, ...]) -> Iterator[Fault]:
    seen: set[str] = set()
    for index, threshold in enumerate(thresholds):
        keys: Keys = ("thresholds", index)
        if threshold.name in seen:
            yield Fault((*keys, "name"), f'duplicate threshold "{threshold.name[:80]}"; expected a name of its own')
        seen.add(threshold.name)
        if threshold.warning is None and threshold.critical is None and threshold.absent_for is None:
            yield Fault(keys, "expected at least one of warning, critical and absent_for")
        for key in ("name", "metric"):
            if not getattr(threshold, key).strip():
                yield Fault((*keys, key), "expected a text that is not empty")
        yield from _of(keys, threshold.of)
        yield from _bounds(keys, threshold)
        yield from _course(keys, threshold)


def _depends(thresholds: tuple[ThresholdConfig, ...]) -> Iterator[Fault]:
    """Names that are there, and no way that leads back to where it began."""
    causes = {threshold.name: threshold.depends_on for threshold in thresholds}
    for index, threshold in enumerate(thresholds):
        keys: Keys = ("thresholds", index, "depends_on")
        for name in threshold.depends_on:
            if name not in causes:
                yield Fault(keys, f"no threshold is named {name[:80]!r}; expected one of this file")
        reached, ahead = set[str](), list(threshold.depends_on)
        while ahead:
            name = ahead.pop()
            if name not in reached:
                reached.add(name)
                ahead += causes.get(name, ())
        if threshold.name in reached:
            yield Fault(keys, "it depends on itself in the end; expected a cause that does not need this one")


def _of(keys: Keys, text: str) -> Iterator[Fault]:
    match = re.fullmatch(r"([0-9]{1,3}) of ([0-9]{1,3})", text)
    if text and (match is None or not 0 < int(match[1]) <= int(match[2])):
        yield Fault((*keys, "of"), f'expected "N of M" such as "3 of 5", not {text[:40]!r}')


def _bounds(keys: Keys, threshold: ThresholdConfig) -> Iterator[Fault]:
    unit = next((unit for suffix, unit in _UNITS.items() if threshold.metric.endswith(suffix)), "")
    bounds: dict[str, Quantity] = {}
    for key in ("warning", "critical", "clear", "clear_critical"):
        bound = getattr(threshold, key)
        if bound is None:
            continue
        given = bound.unit if threshold.rate is None else bound.unit.partition("/")[0]
        if given and unit and given != unit:
            yield Fault((*keys, key), f"expected a bound in {unit}, as {threshold.metric} is, not in {bound.unit}")
        else:
            bounds[key] = bound
    sign = 1 if threshold.op == ">" else -1
    first, second, clear = (bounds.get(key) for key in ("warning", "critical", "clear"))
    side = "above" if sign > 0 else "below"
    if first is not None and second is not None and sign * second < sign * first:
        yield Fault((*keys, "critical"), f'expected a bound {side} warning where op is "{threshold.op}"')
    lowest = first if first is not None else second
    if clear is not None and lowest is not None and sign * clear > sign * lowest:
        yield Fault((*keys, "clear"), f"expected a value not {side} the bound that it clears")
    yield from _own_clear((*keys, "clear_critical"), bounds, sign)


def _own_clear(keys: Keys, bounds: dict[str, Quantity], sign: int) -> Iterator[Fault]:
    """Critical must end before, or with, warning."""
    warning, critical, own = (bounds.get(key) for key in ("warning", "critical", "clear_critical"))
    if own is None:
        return
    if warning is None or critical is None:
        yield Fault(keys, "expected both warning and critical beside it; for one bound there is clear")
    elif not sign * bounds.get("clear", warning) <= sign * own <= sign * critical:
        yield Fault(keys, "expected a value between where warning ends and critical")


def _course(keys: Keys, threshold: ThresholdConfig) -> Iterator[Fault]:
    """`rate`, `forecast` and the `floor` of the latter."""
    first = threshold.warning if threshold.warning is not None else threshold.critical
    for key in ("rate", "forecast"):
        seconds = getattr(threshold, key)
        if seconds is not None and not 0 < seconds <= COURSE_MOST:
            yield Fault((*keys, key), f"expected more than 0 and at most {COURSE_MOST / 86400:g} days")
        elif seconds is not None and first is None:
            yield Fault((*keys, key), "expected warning or critical beside it")
    if threshold.rate is not None and threshold.forecast is not None:
        yield Fault((*keys, "forecast"), "rate and forecast exclude each other; expected two thresholds")
    for key in ("warning", "critical", "clear", "clear_critical"):
        bound = getattr(threshold, key)
        if threshold.rate is not None and bound is not None and bound.unit and "/" not in bound.unit:
            yield Fault((*keys, key), 'expected a change such as "1GiB/h" or "5%/min", or a bare number per second')
    if threshold.floor is None:
        return
    sign = 1 if threshold.op == ">" else -1
    if threshold.forecast is None:
        yield Fault((*keys, "floor"), "expected forecast beside it")
    elif first is not None and sign * threshold.floor > sign * first:
        yield Fault((*keys, "floor"), "expected a value on the good side of the bounds")


def _health(weights: dict[str, float]) -> Iterator[Fault]:
    for name, weight in weights.items():
        if name not in COMPONENTS:
            yield Fault(("health", name), f"unknown component; expected one of {', '.join(COMPONENTS)}")
        elif weight < 0:
            yield Fault(("health", name), "expected a weight of 0 or more")


def _slack(slack: SlackConfig) -> Iterator[Fault]:
    if slack.mode == "http" and slack.signing_secret is None:
        yield Fault(
            ("slack", "mode"),
            "expected slack.signing_secret beside it (the app's page, Basic Information, App Credentials)",
        )
    if slack.bot_token is None and slack.app_token is not None:
        yield Fault(("slack", "app_token"), "expected slack.bot_token beside it, which answers are written with")
    for index, one in enumerate(slack.routes):
        if "severity" in one.match:  # no label is called so, and the route would never be taken
            hint = f'expected a key of the route, not of its match: severity = "{one.match["severity"][:20]}"'
            yield Fault(("slack", "routes", index, "match", "severity"), hint)


def _collector(collector: CollectorConfig) -> Iterator[Fault]:
    if collector.name and not _NAME.fullmatch(collector.name):
        yield Fault(("collector", "name"), 'expected a name of letters, digits, "_", "-" and "."')
    if collector.store:
        yield from _store(collector.store)
    try:
        host, _ = address(collector.listen)
    except ValueError as error:
        yield Fault(("collector", "listen"), str(error))
        return
    if not is_loopback(host) and collector.token is None:
        yield Fault(("collector", "listen"), f"{host} is not loopback: expected collector.token beside it")


def _commands(commands: CommandsConfig) -> Iterator[Fault]:
    if not commands.jobs.is_absolute():
        yield Fault(("commands", "jobs"), "expected a path from the root, as it says what may be run")
    for index, grant in enumerate(commands.grants):
        keys: Keys = ("commands", "grants", index)
        if not grant.users and not grant.usergroups:
            yield Fault(keys, "expected at least one of users and usergroups")
        if not grant.verbs:
            yield Fault(keys, "expected the verbs that are granted")
        for key, letters in (("users", "UW"), ("usergroups", "S")):
            for name in getattr(grant, key):
                if not re.fullmatch(rf"[{letters}][A-Z0-9]{{1,30}}", name):
                    hint = f'expected an id of Slack such as "{letters[0]}0123ABCD", not {name[:40]!r}'
                    yield Fault((*keys, key), hint)


def _store(text: str) -> Iterator[Fault]:
    keys = ("collector", "store")
    if text.startswith("mysql:"):
        faults = list(_url(keys, text, ("mysql",)))
        yield from faults
        if not faults and not urlsplit(text).path.strip("/"):
            yield Fault(keys, "expected a database behind the host: mysql://user@host/name")
    elif not re.fullmatch(r"sqlite:///.+", text):
        yield Fault(keys, 'expected "sqlite:///path" or "mysql://user@host/name"')
