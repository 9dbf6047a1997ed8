"""Run by Alembic: applies the revisions over the connection that `migrate` hands in."""

from __future__ import annotations

from alembic import context

from agent.collector.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="tocsin_version",
    transactional_ddl=False,
)
context.run_migrations()
