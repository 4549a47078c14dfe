"""``db``: the tables of the saga log."""

from __future__ import annotations

import sys

import click
import sqlalchemy
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from saga import barriers, schema
from saga.cli.context import Context, pass_context
from saga.cli.output import json_option, print_json, say
from saga.config import Settings
from saga.errors import DatabaseNotReady, first_line

_url = click.option("--url", metavar="URL", help="The database; by default the app's, or SAGA_DATABASE_URL.")


@click.group("db")
def db_command() -> None:
    """Make, upgrade and inspect the tables of the saga log.

    \b
        saga db upgrade --url postgresql://user@host:5432/shop
    """


@db_command.command("upgrade")
@_url
@pass_context
def upgrade(context: Context, url: str | None) -> None:
    """Bring the tables to this version; harmless to repeat."""
    database = context.database(url)
    before = schema.current(database)
    schema.upgrade(database)
    say(f"{database.name}: {before or 'none'} -> {schema.current(database)}")


@db_command.command("current")
@_url
@json_option
@pass_context
def current(context: Context, url: str | None, as_json: bool) -> None:
    """Say which revision the tables are at.

    Exits with 1 if it is not the one of this version.
    """
    database = context.database(url)
    found, head = schema.current(database), schema.head()
    if as_json:
        print_json({"database": database.name, "schema": database.schema, "current": found, "head": head})
    else:
        say(f"{database.name}: {found or 'none'} (this version's is {head})")
    sys.exit(0 if found == head else 1)


@db_command.command("sql")
@pass_context
def sql(context: Context) -> None:
    """Print the statements that make the tables, to run by hand."""
    settings = context.orchestrator.settings if context.has_app else Settings.load({})
    say(schema.sql(settings.schema_name))


@db_command.command("barrier")
@click.option("--url", metavar="URL", required=True, help="The other database, of any kind that SQLAlchemy knows.")
@click.option("--sql", "as_sql", is_flag=True, help="Print the statement and change nothing.")
def barrier(url: str, as_sql: bool) -> None:
    """Make the table of `saga.barrier` in another database.

    That is a database in which steps have their effects. Harmless to repeat.
    """
    try:
        parsed = sqlalchemy.make_url(url)
        if "@" in (parsed.host or ""):
            raise click.BadParameter("it has two @: in the password, write @ as %40", param_hint="--url")
        if as_sql:
            say(barriers.table_sql(parsed))
            return
        # SQLAlchemy 2.0 takes a bare name for psycopg2, which is not what we come with.
        bare = parsed.drivername == "postgresql"
        engine = sqlalchemy.create_engine(parsed.set(drivername="postgresql+psycopg") if bare else parsed)
    except ValueError:
        raise click.BadParameter(
            "expected a URL, such as postgresql://user@host:5432/bank", param_hint="--url"
        ) from None
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise click.BadParameter(first_line(error), param_hint="--url") from None
    where = parsed.render_as_string(hide_password=True)
    try:
        new = barriers.create_table(engine)
    except DBAPIError as error:
        raise DatabaseNotReady(f"{where}: {first_line(error.orig or error)}") from None
    finally:
        engine.dispose()
    say(f"{where}: {'made' if new else 'has'} the table {barriers.table.name}")
