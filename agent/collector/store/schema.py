"""The tables, as the newest migration leaves them (a test holds the two together).

Keys of `samples` and the roll-ups are clustered: one series' points lie together, in order of time.
Epochs and hashes of series are 32 hex characters, fingerprints 16 raw bytes, times unix seconds but for `time_ms`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BINARY,
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.mysql import MEDIUMBLOB, MEDIUMTEXT

OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}
CLUSTERED = OPTIONS | {"sqlite_with_rowid": False}
BIG_ID = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER is SQLite's own row id
FINGERPRINT = BINARY(16)
PAYLOAD = LargeBinary().with_variant(MEDIUMBLOB(), "mysql", "mariadb")
LONG = Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")

metadata = MetaData()

hosts = Table(
    "hosts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("first_seen", Double, nullable=False),
    Column("last_seen", Double, nullable=False),
    Column("state", String(16), nullable=False),
    Column("epoch", String(191), nullable=False),
    Column("session", BigInteger, nullable=False),
    Column("version", String(191), nullable=False),
    Column("labels", Text, nullable=False),
    Column("health", Text),
    **OPTIONS,
)

series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("host_id", Integer, nullable=False),
    Column("hash", String(32), nullable=False),
    Column("metric", String(191), nullable=False),
    Column("labels", Text, nullable=False),
    Column("unit", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    UniqueConstraint("host_id", "hash", name="series_identity"),
    Index("series_metric", "host_id", "metric"),
    **OPTIONS,
)

envelopes = Table(
    "envelopes",
    metadata,
    Column("id", BIG_ID, primary_key=True),
    Column("host_id", Integer, nullable=False),
    Column("epoch", String(32), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("fingerprint", FINGERPRINT, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("time", Double, nullable=False),
    Column("received", Double, nullable=False),
    UniqueConstraint("host_id", "epoch", "seq", name="envelope_identity"),
    **OPTIONS,
)

samples = Table(
    "samples",
    metadata,
    Column("series_id", Integer, primary_key=True, autoincrement=False),
    Column("time_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("value", Double, nullable=False),
    **CLUSTERED,
)


def _rollup(name: str) -> Table:
    """`bucket` is the unix second it starts with."""
    return Table(
        name,
        metadata,
        Column("series_id", Integer, primary_key=True, autoincrement=False),
        Column("bucket", BigInteger, primary_key=True, autoincrement=False),
        Column("min", Double, nullable=False),
        Column("mean", Double, nullable=False),
        Column("max", Double, nullable=False),
        Column("count", BigInteger, nullable=False),
        **CLUSTERED,
    )


samples_1m = _rollup("samples_1m")
samples_1h = _rollup("samples_1h")

probes = Table(
    "probes",
    metadata,
    Column("host_id", Integer, primary_key=True, autoincrement=False),
    Column("probe", String(191), primary_key=True),
    Column("time", Double, nullable=False),
    Column("status", String(16), nullable=False),
    Column("duration", Double, nullable=False),
    Column("error", Text, nullable=False),
    **OPTIONS,
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", String(191), primary_key=True),
    Column("host_id", Integer, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("threshold", String(191), nullable=False),
    Column("metric", String(191), nullable=False),
    Column("labels", Text, nullable=False),
    Column("severity", String(16), nullable=False),
    Column("peak", String(16), nullable=False),
    Column("grade", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("value", Double),
    Column("peak_value", Double),
    Column("bound", Double),
    Column("op", String(16), nullable=False),
    Column("unit", String(64), nullable=False),
    Column("summary", Text, nullable=False),
    Column("runbook", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("fired_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("resolved_at", Double),
    Column("acknowledged_by", String(191), nullable=False),
    Column("details", LONG),
    Index("incidents_fired", "fired_at", "id"),
    Index("incidents_host", "host_id", "fired_at"),
    Index("incidents_state", "state", "fired_at"),
    **OPTIONS,
)

transitions = Table(
    "transitions",
    metadata,
    Column("host_id", Integer, primary_key=True, autoincrement=False),
    Column("incident", String(191), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("time", Double, nullable=False),
    Column("value", Double),
    Column("note", Text, nullable=False),
    **OPTIONS,
)

gaps = Table(
    "gaps",
    metadata,
    Column("id", BIG_ID, primary_key=True),
    Column("host_id", Integer, nullable=False),
    Column("epoch", String(191), nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("reason", String(16), nullable=False),
    Column("ranges", LONG, nullable=False),
    Column("first_time", Double, nullable=False),
    Column("last_time", Double, nullable=False),
    Column("received", Double, nullable=False),
    Index("gaps_host", "host_id"),
    **OPTIONS,
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", BIG_ID, primary_key=True),
    Column("received", Double, nullable=False),
    Column("topic", Text, nullable=False),
    Column("payload", PAYLOAD, nullable=False),
    Column("reason", Text, nullable=False),
    **OPTIONS,
)

marks = Table(
    "marks",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("value", BigInteger, nullable=False),
    **OPTIONS,
)
"""How far long-running work has come, by name ("rolled": the last envelope id that is in the roll-ups)."""

audit = Table(
    "audit",
    metadata,
    Column("chain", String(63), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("time", Double, nullable=False),
    Column("actor", String(191), nullable=False),
    Column("verb", String(63), nullable=False),
    Column("hosts", LONG, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("entry", LONG, nullable=False),
    Column("hash", String(64), nullable=False),
    Index("audit_time", "time"),
    **OPTIONS,
)
"""One chain per collector. `entry` is JSON and what `hash` covers; the columns beside it repeat what is asked for."""

claims = Table(
    "claims",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("time", Double, nullable=False),
    **OPTIONS,
)
"""Who of several collectors answers one request of Slack's: the first to write its key."""
