"""agent.toml as types: one frozen Struct per table, one field per key, defaults as users get them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from agent.config.hours import Hours
from agent.config.keys import KeySource
from agent.config.match import Match
from agent.config.scales import GRADED, named
from agent.config.secret import Secret
from agent.config.units import Duration, Percent, Quantity, Size
from agent.model import Labels


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every table; unknown keys are refused by `agent.config.decode`."""


class AgentConfig(Table, frozen=True):
    """`[agent]`: this host, and what holds for all probes. `host` "" is this machine's name."""

    host: str = ""
    labels: Labels = {}
    state_dir: Path = Path("/var/lib/tocsin")
    interval: Duration = Duration(10)
    timeout: Duration = Duration(8)
    plugin_dirs: tuple[Path, ...] = ()


class MqttConfig(Table, frozen=True):
    """`[mqtt]`: the broker, for both roles."""

    url: str = "mqtt://127.0.0.1:1883"
    username: str = ""
    password: Secret | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    protocol: Literal["3.1.1", "5"] = "3.1.1"
    keepalive: Duration = Duration(20)
    connect_timeout: Duration = Duration(10)
    reconnect_spread: Duration = Duration(30)
    """After a loss the first new attempt comes at random within this, so that a fleet does not return as one."""


class SpoolConfig(Table, frozen=True):
    """`[spool]`: what may wait on disk. `ack = "broker"` is for streams without our collector."""

    max_bytes: Size = Size(256 * 1024 * 1024)
    max_age: Duration = Duration(72 * 3600)
    min_free_disk: Percent = Percent(5)
    ack: Literal["collector", "broker"] = "collector"
    resend_after: Duration = Duration(30)
    """Unacknowledged for this long (or 4 round trips, if longer): sent again."""
    backlog_rate: int = 200
    """Envelopes a second at which a backlog is sent, so that a fleet's return is no flood."""


class ProbeConfig(Table, frozen=True):
    """`[probes.NAME]`: the keys every probe has; all others are the plugin's `options`, decoded by it."""

    plugin: str = ""
    enabled: bool = True
    interval: Duration | None = None
    cron: str = ""
    timeout: Duration | None = None
    jitter: Duration = Duration(0)
    options: dict[str, Any] = {}


class ThresholdConfig(Table, frozen=True):
    """`[[thresholds]]`: one rule over every series of `metric` whose labels match.

    `match` values may hold `*`. `of` is "N of M" results; `clear` is where a breach ends (hysteresis),
    `clear_critical` where its critical level does, if that is to have a room of its own;
    `absent_for` makes silence of the metric itself a breach of severity `absent`.
    A bound may be a grade where the metric has a scale: this one or worse; for `clear`, this one or better.
    `summary` may use {labels}, {value}, {limit}, {host}.
    """

    name: str
    metric: str
    match: Labels = {}
    op: Literal[">", "<"] = ">"
    warning: Quantity | None = None
    critical: Quantity | None = None
    clear: Quantity | None = None
    clear_critical: Quantity | None = None
    hold: Duration = msgspec.field(default=Duration(0), name="for")
    of: str = ""
    rate: Duration | None = None
    """Judge how fast it changes, over this window; the bounds are per second, or as "1GiB/h" says."""
    forecast: Duration | None = None
    """Judge where its trend leads: a bound is reached that will be within this time."""
    floor: Quantity | None = None
    """With `forecast`: no breach while the value itself is not beyond this."""
    absent_for: Duration | None = None
    absent: Literal["warning", "critical"] = "warning"
    summary: str = ""
    runbook: str = ""
    depends_on: tuple[str, ...] = ()
    """While an incident of one of these is open, this rule's are not told: they are explained by it."""
    flapping: bool = True
    """Whether a series that changes too often keeps one incident until it is steady, instead of one each time."""
    enabled: bool = True

    def __post_init__(self) -> None:
        for key in ("warning", "critical", "clear", "clear_critical", "floor"):
            bound = getattr(self, key)
            if bound is not None and bound.grade:
                try:
                    msgspec.structs.force_setattr(self, key, self._bound(key, bound.grade))
                except ValueError as error:
                    raise ValueError(f"{key}: {error}") from error

    def _bound(self, key: str, grade: str) -> Quantity:
        """The figure that a grade stands for."""
        scale = named(self.metric)
        if scale is None:
            raise ValueError(f"{self.metric[:80]} has no grades (those have {GRADED}); expected {Quantity.expected}")
        if scale.op != self.op:
            raise ValueError(f'a grade gets worse the other way; expected op = "{scale.op}" beside it')
        return Quantity(scale.better(grade) if key.startswith("clear") else scale.worse(grade), scale.unit)


class MaintenanceConfig(Table, frozen=True):
    """`[[maintenance]]`: incidents that match are not told between `start` and `end`, or at `hours` on `days`.

    `match` as in a silence: "host=web-*,threshold=disk*", or a threshold's name. `hours` may run over midnight.
    """

    name: str
    match: str = "*"
    start: datetime | None = None
    end: datetime | None = None
    days: str = ""
    hours: str = ""
    timezone: str = ""

    def __post_init__(self) -> None:
        Match.parse(self.match)
        Hours.parse(self.days, self.hours, self.timezone)
        for moment in (self.start, self.end):
            if moment is not None and moment.tzinfo is None:
                raise ValueError("start and end: expected a moment with its zone, such as 2026-12-24T22:00:00+01:00")
        if not self.recurring and (self.start is None or self.end is None):
            raise ValueError("expected start and end, or days and hours")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError("end: expected a moment after start")

    @property
    def recurring(self) -> bool:
        return bool(self.days or self.hours)


class SlackRoute(Table, frozen=True):
    """`[[slack.routes]]`: the first that matches says where an incident goes."""

    severity: Literal["info", "warning", "critical"] = "info"
    match: Labels = {}
    channel: str = ""
    mention: str = ""
    days: str = ""
    hours: str = ""
    timezone: str = ""
    """When it holds, as in `[[maintenance]]`; an incident's route is that of the moment when it is told first."""
    escalate_after: Duration | None = None
    escalate_to: str = ""
    """Mentioned once, in the thread and the channel, when nobody has acknowledged for so long."""
    remind_every: Duration | None = None
    """While nobody has acknowledged; each reminder doubles the time to the next, up to a day."""

    def __post_init__(self) -> None:
        Hours.parse(self.days, self.hours, self.timezone)
        if bool(self.escalate_to) != (self.escalate_after is not None):
            raise ValueError("escalate_after and escalate_to go together; the other one is missing")


class FallbackConfig(Table, frozen=True):
    """`[slack.fallback]`: where it is told when Slack was out of reach `after` so long, for want of anything better."""

    webhook: Secret | None = None
    command: tuple[str, ...] = ()
    after: Duration = Duration(600)
    severity: Literal["info", "warning", "critical"] = "critical"


class SlackConfig(Table, frozen=True):
    """`[slack]`: without a `bot_token` incidents are printed on the terminal."""

    bot_token: Secret | None = None
    app_token: Secret | None = None
    signing_secret: Secret | None = None
    mode: Literal["socket", "http"] = "socket"
    """How a collector is spoken to: over a connection of its own (needs `app_token`), or at /slack/… (needs
    `signing_secret`)."""
    channel: str = "#alerts"
    base_url: str = "https://slack.com/api/"
    dashboard_url: str = "http://127.0.0.1:8420"
    timeout: Duration = Duration(10)
    deliver: Literal["auto", "direct", "collector"] = "auto"
    """Who writes: the collector while one lives, else this host; always this host; never this host."""
    takeover_after: Duration = Duration(10)
    """Silence of the collector after which a host writes itself; the same on all hosts and collectors."""
    picture: bool = True
    """A chart in the incident's thread, where Pillow is installed and the token may send files."""
    storm_after: int = 8
    storm_within: Duration = Duration(60)
    """More than `storm_after` new incidents in that time become one message with a thread."""
    routes: tuple[SlackRoute, ...] = ()
    fallback: FallbackConfig = FallbackConfig()


class RetentionConfig(Table, frozen=True):
    """`[collector.retention]`: how long each resolution is kept."""

    samples: Duration = Duration(3 * 86400)
    minutes: Duration = Duration(30 * 86400)
    hours: Duration = Duration(730 * 86400)
    incidents: Duration = Duration(730 * 86400)


class CollectorConfig(Table, frozen=True):
    """`[collector]`. `store` "" is SQLite in the state directory; or "mysql://user@host/name"."""

    store: str = ""
    store_password: Secret | None = None
    listen: str = "127.0.0.1:8420"
    token: Secret | None = None
    """Required of every request where `listen` is not loopback."""
    name: str = ""
    share: bool = False
    """Several collectors on one stream: subscribe as `$share/collectors/…`."""
    offline_after: Duration = Duration(45)
    retention: RetentionConfig = RetentionConfig()


class CommandGrant(Table, frozen=True):
    """`[[commands.grants]]`: who may ask for which verbs on which hosts, through Slack. Ids, not names: these are
    not unique there. `hosts` and `verbs` may hold `*`.
    """

    users: tuple[str, ...] = ()
    usergroups: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ("*",)


class CommandsConfig(Table, frozen=True):
    """`[commands]`. On a host: whom it believes and what it lets them do. Nothing is allowed that is not named here.

    On the collector: the key that it signs with, and who may ask it to.
    """

    trusted_keys: KeySource = KeySource()
    allow: tuple[str, ...] = ()
    jobs: Path = Path("/etc/tocsin/jobs.toml")
    signing_key: Secret | None = None
    grants: tuple[CommandGrant, ...] = ()
    second_person: bool = False
    """Whether a dangerous verb must be confirmed by somebody else than who asked, who has the grant as well."""
    sources: tuple[Path, ...] = ()
    """The files that this table came from; not a key."""


class Config(Table, frozen=True):
    """The whole of agent.toml with agent.d merged in."""

    agent: AgentConfig = AgentConfig()
    mqtt: MqttConfig = MqttConfig()
    spool: SpoolConfig = SpoolConfig()
    probes: dict[str, ProbeConfig] = {}
    thresholds: tuple[ThresholdConfig, ...] = ()
    maintenance: tuple[MaintenanceConfig, ...] = ()
    health: dict[str, float] = {}
    slack: SlackConfig = SlackConfig()
    collector: CollectorConfig = CollectorConfig()
    commands: CommandsConfig = CommandsConfig()
    sources: tuple[Path, ...] = ()
    """The files it came from; not a key."""
