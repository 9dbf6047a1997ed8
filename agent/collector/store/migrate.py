"""Bring a database to the newest schema. Safe to call at every start, and from several collectors at once."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

MIGRATIONS = Path(__file__).with_name("migrations")
LOCK_SECONDS = 60


def alembic_config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


async def migrate(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.run_sync(_upgrade)


def _upgrade(connection: Connection) -> None:
    """One collector migrates, the others wait for it and then find nothing to do."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        command.upgrade(alembic_config(connection), "head")
        connection.commit()
        return
    connection.exec_driver_sql(f"SELECT GET_LOCK('tocsin_migrate', {LOCK_SECONDS})")
    try:
        command.upgrade(alembic_config(connection), "head")
        connection.commit()
    finally:
        connection.exec_driver_sql("SELECT RELEASE_LOCK('tocsin_migrate')")
