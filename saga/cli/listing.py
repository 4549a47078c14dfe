"""``list``: which sagas there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import click

from saga.cli.context import Context, pass_context
from saga.cli.filters import Filter, filter_options
from saga.cli.naming import find_saga
from saga.cli.output import age, console, json_option, print_json, print_records, say
from saga.cli.shapes import header_json
from saga.cli.waits import Wait, problem_of, read_waits
from saga.client.handle import Handle
from saga.client.orchestrator import Orchestrator
from saga.errors import cut, did_you_mean
from saga.store.postgres import short_ids
from saga.store.postgres.database import Database
from saga.store.postgres.errors import clear_errors


@click.command("list")
@filter_options
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many.")
@click.option("--after", metavar="ID", help="Go on after the last one of the page before.")
@json_option
@pass_context
def list_command(context: Context, chosen: Filter, limit: int, after: str | None, as_json: bool) -> None:
    """List sagas, newest first, a page at a time.

    On a terminal, ids are cut to a unique beginning. Every command takes such a beginning.

    \b
        saga -A shop.app list --status stuck --since 2h
    """
    orchestrator = context.orchestrator
    found = chosen.page(orchestrator, limit + 1, after and find_saga(orchestrator, after))
    page, more = found[:limit], len(found) > limit
    waits = read_waits(orchestrator.database, [handle.id for handle in page])
    if as_json:
        sagas = [header_json(handle.header, problem_of(waits, handle.id)) for handle in page]
        print_json({"sagas": sagas, "after": str(page[-1].id) if more else None})
        return
    print_sagas(orchestrator.database, page, waits)
    if more:
        say(f"there is more: --after {page[-1].id}", err=True)
    if not found:
        say(nothing(orchestrator, chosen), err=True)


def print_sagas(database: Database, handles: Sequence[Handle], waits: Mapping[UUID, Wait]) -> None:
    """A table of sagas, with what their work waits for; whole ids where a program may read them."""
    headers = [handle.header for handle in handles]
    names = {header.id: str(header.id) for header in headers}
    if console().is_terminal:
        with clear_errors(database), database.link() as link:
            names = short_ids.shorten(link, list(names))
    rows = [
        (names[header.id], header.status, header.name, header.key, age(header.started_at),
         _reason(header.reason, waits.get(header.id)))
        for header in headers
    ]  # fmt: skip
    print_records(("id", "status", "saga", "key", "age", "reason"), rows)


def _reason(reason: str | None, wait: Wait | None) -> str:
    return cut("; ".join(part for part in (reason, wait and wait.text) if part), _REASON)


_REASON = 300


def nothing(orchestrator: Orchestrator, chosen: Filter) -> str:
    """Why a filter finds no saga."""
    known = [saga.name for saga in orchestrator.sagas]
    if chosen.saga and chosen.saga not in known:
        hint = did_you_mean(chosen.saga, known) or f"; known are: {', '.join(known) or 'none'}"
        return f"no saga of the name {chosen.saga!r} is in the log, and none is registered{hint}"
    return "no saga matches" if chosen.given else "the log has no sagas yet"
