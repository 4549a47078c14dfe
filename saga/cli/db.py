"""``db``: the tables of the saga log."""

from __future__ import annotations

import sys

import click

from saga import schema
from saga.cli.context import Context, pass_context
from saga.cli.output import json_option, print_json
from saga.config import Settings

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
    click.echo(f"{database.name}: {before or 'none'} -> {schema.current(database)}")


@db_command.command("current")
@_url
@json_option
@pass_context
def current(context: Context, url: str | None, as_json: bool) -> None:
    """Say which revision the tables are at; exits with 1 if that is not this version's."""
    database = context.database(url)
    found, head = schema.current(database), schema.head()
    if as_json:
        print_json({"database": database.name, "schema": database.schema, "current": found, "head": head})
    else:
        click.echo(f"{database.name}: {found or 'none'} (this version's is {head})")
    sys.exit(0 if found == head else 1)


@db_command.command("sql")
@pass_context
def sql(context: Context) -> None:
    """Print the statements that make the tables, for someone who runs them by hand."""
    settings = context.orchestrator.settings if context.has_app else Settings.load({})
    click.echo(schema.sql(settings.schema_name))
