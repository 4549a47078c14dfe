"""``list``: which sagas there are."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import click

from saga import work
from saga.cli.context import Context, pass_context
from saga.cli.filters import Filter, filter_options
from saga.cli.output import age, json_option, print_json, print_table
from saga.cli.shapes import header_json
from saga.database import Database, clear_errors
from saga.handle import Handle


@click.command("list")
@filter_options
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many.")
@click.option("--after", metavar="ID", help="Go on after the last one of the page before.")
@json_option
@pass_context
def list_command(context: Context, chosen: Filter, limit: int, after: str | None, as_json: bool) -> None:
    """List sagas, newest first, a page at a time.

    \b
        saga -A shop.app list --status stuck --since 2h
    """
    orchestrator = context.orchestrator
    found = chosen.page(orchestrator, limit + 1, after)
    page, more = found[:limit], len(found) > limit
    problems = read_problems(orchestrator.database, [handle.id for handle in page])
    if as_json:
        sagas = [header_json(handle.header, problems.get(handle.id)) for handle in page]
        print_json({"sagas": sagas, "after": str(page[-1].id) if more else None})
        return
    print_sagas(page, problems)
    if more:
        click.echo(f"there is more: --after {page[-1].id}", err=True)


def read_problems(database: Database, ids: Sequence[UUID]) -> dict[UUID, str]:
    """Why work of these sagas is parked, where it is."""
    with clear_errors(database), database.link() as link:
        return work.read_problems(link, ids)


def print_sagas(handles: Sequence[Handle], problems: dict[UUID, str]) -> None:
    """A table of sagas."""
    rows = [
        (header.id, header.name, header.key, header.status, _reason(header.reason, problems.get(header.id)),
         age(header.started_at))
        for header in (handle.header for handle in handles)
    ]  # fmt: skip
    print_table(("id", "saga", "key", "status", "reason", "age"), rows)


def _reason(reason: str | None, problem: str | None) -> str:
    return "; ".join(part for part in (reason, f"parked: {problem}" if problem else None) if part)
