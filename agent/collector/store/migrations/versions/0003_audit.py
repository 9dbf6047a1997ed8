"""The audit and its chain, and the claims by which one of several collectors answers."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import MEDIUMTEXT

revision = "0003"
down_revision = "0002"
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
LONG = sa.Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("chain", sa.String(63), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("actor", sa.String(191), nullable=False),
        sa.Column("verb", sa.String(63), nullable=False),
        sa.Column("hosts", LONG, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("entry", LONG, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Index("audit_time", "time"),
        **OPTIONS,
    )
    op.create_table(
        "claims",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("time", sa.Double, nullable=False),
        **OPTIONS,
    )


def downgrade() -> None:
    raise NotImplementedError("restore the database from a backup instead")
