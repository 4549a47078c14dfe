"""The root of the command line: which commands there are, which app they are for, and how errors are shown."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click
import psycopg
from celery import Celery
from sqlalchemy.exc import SQLAlchemyError

from saga import __version__
from saga.cli.context import AppNotLoaded, Context
from saga.cli.output import inert
from saga.errors import SagaError, closest, first_line
from saga.store.values import Refused

SECTIONS = {
    "Define": {"check": "define", "graph": "define"},
    "Run": {"start": "start", "relay": "relay", "dev": "dev", "demo": "dev"},
    "Read": {
        "list": "listing",
        "show": "show",
        "log": "history",
        "replay": "history",
        "stats": "stats",
        "workers": "workers",
    },
    "Repair": {
        "retry": "repair",
        "skip": "repair",
        "cancel": "repair",
        "compensate": "repair",
        "pause": "repair",
        "resume": "repair",
        "abandon": "repair",
    },
    "Keep": {"db": "db", "doctor": "doctor"},
}
"""Command to the module it is in; that is imported when the command is asked for."""

_MODULES = {command: module for section in SECTIONS.values() for command, module in section.items()}
_INTERRUPTED = 130


class Root(click.Group):
    """Loads its commands when they are asked for, and turns every expected error into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All commands, in the order of the sections."""
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """One command."""
        if cmd_name not in _MODULES:
            return None
        module = import_module(f"saga.cli.{_MODULES[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is asked for; a slip is met with the closest name there is."""
        if args and args[0] not in _MODULES and not args[0].startswith("-"):
            close = closest(args[0], _MODULES)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {close!r}?" if close else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A section for each kind of work."""
        width = formatter.width - 6 - max(map(len, _MODULES))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                found = [(name, self.get_command(ctx, name)) for name in commands]
                formatter.write_dl([(name, command.get_short_help_str(width)) for name, command in found if command])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what pgsaga, the database or an operator's Ctrl-C raise ends it without a traceback."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)
        except AppNotLoaded as error:
            raise click.UsageError(inert(str(error))) from None
        except (psycopg.Error, SQLAlchemyError, Refused) as error:
            said = first_line(getattr(error, "orig", None) or error)
            raise click.ClickException(inert(f"the database refuses: {said}")) from None
        except (SagaError, TimeoutError) as error:
            raise click.ClickException(inert(str(error))) from None


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-A", "--app", "app", metavar="MODULE[:ATTR]", envvar="SAGA_APP", show_envvar=True, help="The Celery app."
)
@click.version_option(__version__, package_name="pgsaga", prog_name="pgsaga")
@click.pass_context
def saga(ctx: click.Context, app: str | None) -> None:
    """Define, run, read and repair sagas: Celery tasks with compensations, and a log in Postgres.

    Every command that reads takes --json. Exit codes: 0 all is well, 1 it is not, 2 bad usage.
    """
    ctx.obj = _within_celery(ctx, app) or Context(app)
    ctx.call_on_close(ctx.obj.close)


def _within_celery(ctx: click.Context, app: str | None) -> Context | None:
    """The app that ``celery -A ... saga`` was given, unless the command line names another for us alone."""
    source = ctx.get_parameter_source("app")
    given = ctx.parent.params.get("app") if ctx.parent else None
    if given is None or (app is not None and source is click.core.ParameterSource.COMMANDLINE):
        return None
    found = getattr(ctx.parent and ctx.parent.obj, "app", None)
    return Context(given if isinstance(given, str) else None, found if isinstance(found, Celery) else None)


def main() -> None:
    """The console script."""
    saga(prog_name="saga")
