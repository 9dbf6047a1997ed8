"""How the tables came to be what `schema` says; run by Alembic when the store opens."""
