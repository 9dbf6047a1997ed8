"""The first tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import MEDIUMBLOB, MEDIUMTEXT

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}
CLUSTERED = OPTIONS | {"sqlite_with_rowid": False}
BIG_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
FINGERPRINT = sa.BINARY(16)
PAYLOAD = sa.LargeBinary().with_variant(MEDIUMBLOB(), "mysql", "mariadb")
LONG = sa.Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "hosts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(63), nullable=False, unique=True),
        sa.Column("first_seen", sa.Double, nullable=False),
        sa.Column("last_seen", sa.Double, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("epoch", sa.String(191), nullable=False),
        sa.Column("session", sa.BigInteger, nullable=False),
        sa.Column("version", sa.String(191), nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("health", sa.Text),
        **OPTIONS,
    )
    op.create_table(
        "series",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("host_id", sa.Integer, nullable=False),
        sa.Column("hash", sa.String(32), nullable=False),
        sa.Column("metric", sa.String(191), nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("unit", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.UniqueConstraint("host_id", "hash", name="series_identity"),
        sa.Index("series_metric", "host_id", "metric"),
        **OPTIONS,
    )
    op.create_table(
        "envelopes",
        sa.Column("id", BIG_ID, primary_key=True),
        sa.Column("host_id", sa.Integer, nullable=False),
        sa.Column("epoch", sa.String(32), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("fingerprint", FINGERPRINT, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("received", sa.Double, nullable=False),
        sa.UniqueConstraint("host_id", "epoch", "seq", name="envelope_identity"),
        **OPTIONS,
    )
    op.create_table(
        "samples",
        sa.Column("series_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("time_ms", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("value", sa.Double, nullable=False),
        **CLUSTERED,
    )
    for name in ("samples_1m", "samples_1h"):
        op.create_table(
            name,
            sa.Column("series_id", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("bucket", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("min", sa.Double, nullable=False),
            sa.Column("mean", sa.Double, nullable=False),
            sa.Column("max", sa.Double, nullable=False),
            sa.Column("count", sa.BigInteger, nullable=False),
            **CLUSTERED,
        )
    op.create_table(
        "probes",
        sa.Column("host_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("probe", sa.String(191), primary_key=True),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("duration", sa.Double, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        **OPTIONS,
    )
    op.create_table(
        "incidents",
        sa.Column("id", sa.String(191), primary_key=True),
        sa.Column("host_id", sa.Integer, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("threshold", sa.String(191), nullable=False),
        sa.Column("metric", sa.String(191), nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("peak", sa.String(16), nullable=False),
        sa.Column("grade", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("peak_value", sa.Double),
        sa.Column("bound", sa.Double),
        sa.Column("op", sa.String(16), nullable=False),
        sa.Column("unit", sa.String(64), nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("runbook", sa.Text, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("fired_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("resolved_at", sa.Double),
        sa.Column("acknowledged_by", sa.String(191), nullable=False),
        sa.Index("incidents_fired", "fired_at", "id"),
        sa.Index("incidents_host", "host_id", "fired_at"),
        sa.Index("incidents_state", "state", "fired_at"),
        **OPTIONS,
    )
    op.create_table(
        "transitions",
        sa.Column("host_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("incident", sa.String(191), primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("note", sa.Text, nullable=False),
        **OPTIONS,
    )
    op.create_table(
        "gaps",
        sa.Column("id", BIG_ID, primary_key=True),
        sa.Column("host_id", sa.Integer, nullable=False),
        sa.Column("epoch", sa.String(191), nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("ranges", LONG, nullable=False),
        sa.Column("first_time", sa.Double, nullable=False),
        sa.Column("last_time", sa.Double, nullable=False),
        sa.Column("received", sa.Double, nullable=False),
        sa.Index("gaps_host", "host_id"),
        **OPTIONS,
    )
    op.create_table(
        "quarantine",
        sa.Column("id", BIG_ID, primary_key=True),
        sa.Column("received", sa.Double, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("payload", PAYLOAD, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        **OPTIONS,
    )
    op.create_table(
        "marks",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
        **OPTIONS,
    )


def downgrade() -> None:
    raise NotImplementedError("restore the database from a backup instead")
