"""How Alembic runs the migrations: in the schema and on the database that the caller's configuration carries."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from saga.store.postgres.tables import metadata

_schema: str = context.config.attributes["schema"]
_database = context.config.attributes["database"]


def _offline() -> None:
    context.configure(dialect_name="postgresql", version_table_schema=_schema, target_metadata=metadata, as_sql=True)
    with context.begin_transaction():
        context.execute(f"CREATE SCHEMA IF NOT EXISTS {_schema}")
        context.run_migrations()


def _online() -> None:
    with _database.engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        # Two upgrades at once would both make the tables: the second waits, and finds nothing left to do.
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"pgsaga.migrate.{_schema}"})
        # Also where the schema exists, CREATE SCHEMA wants a right on the whole database.
        if connection.scalar(text("SELECT to_regnamespace(:name) IS NULL"), {"name": _schema}):
            connection.execute(text(f"CREATE SCHEMA {_schema}"))
        context.configure(connection=connection, version_table_schema=_schema, target_metadata=metadata)
        context.run_migrations()
        connection.commit()


if context.is_offline_mode():
    _offline()
else:
    _online()
