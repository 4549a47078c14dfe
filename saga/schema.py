"""Schema: the saga log's tables brought to this version, by Alembic."""

from __future__ import annotations

import io
from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from saga.errors import DatabaseNotReady
from saga.store.postgres.database import Database
from saga.store.postgres.errors import clear_errors

ENCODING = "UTF8"
"""The one encoding of Postgres that holds every text."""

ENCODING_REMEDY = "make another: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"


def encoding_problem(encoding: str) -> str:
    """What is wrong with a database of another encoding."""
    return (
        f"the encoding of the database is {encoding}, which cannot hold every text that a step may return or fail with"
    )


def _config(database: Database | None, schema: str, output: io.TextIOBase | None = None) -> Config:
    config = Config(output_buffer=output)  # type: ignore[arg-type]
    config.set_main_option("script_location", str(files("saga.migrations")))
    config.attributes["schema"] = schema
    config.attributes["database"] = database
    return config


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the tables to a revision; safe to run again, and from several processes at once.

    Raises:
        DatabaseNotReady: the database cannot be reached, or cannot hold every text.
    """
    with clear_errors(database):
        with database.link() as link:
            [(encoding,)] = link.run("SHOW server_encoding", {})
        if encoding != ENCODING:
            raise DatabaseNotReady(f"{database.name}: {encoding_problem(encoding)}; {ENCODING_REMEDY}")
        command.upgrade(_config(database, database.schema), revision)


def downgrade(database: Database, revision: str) -> None:
    """Take the tables back to a revision; ``base`` drops them with everything in them."""
    with clear_errors(database):
        command.downgrade(_config(database, database.schema), revision)


def current(database: Database) -> str | None:
    """The revision the tables are at; ``None`` when there are none."""
    with clear_errors(database), database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table_schema": database.schema})
        return context.get_current_revision()


def head() -> str:
    """The newest revision this version of pgsaga knows."""
    revision = ScriptDirectory.from_config(_config(None, "saga")).get_current_head()
    assert revision is not None
    return revision


def check(database: Database) -> None:
    """Make sure that the tables are at the newest revision.

    Raises:
        DatabaseNotReady: they are not.
    """
    found = current(database)
    if found != head():
        raise DatabaseNotReady(
            f"the saga log in {database.name} is at revision {found or 'none'}, this pgsaga needs {head()}: run `saga db upgrade`"
        )


def sql(schema: str = "saga") -> str:
    """The statements that make the tables, for someone who runs them by hand."""
    output = io.StringIO()
    command.upgrade(_config(None, schema, output), "head", sql=True)
    return output.getvalue()
