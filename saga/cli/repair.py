"""``retry``, ``cancel``, ``compensate``, ``pause``, ``resume``, ``abandon`` and ``skip``: what an operator can do, on the record."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import click

from saga.cli.context import Context, pass_context
from saga.cli.filters import Filter, filter_options
from saga.cli.listing import nothing, print_sagas
from saga.cli.naming import find_saga
from saga.cli.output import say
from saga.cli.types import json_value
from saga.cli.waits import read_waits
from saga.client.handle import Handle
from saga.client.orchestrator import Orchestrator
from saga.core.state import Status
from saga.errors import DatabaseNotReady, NotAllowed, SagaError
from saga.store.postgres import work
from saga.store.postgres.errors import clear_errors

_PREVIEW = 20
_COUNTED = 1000
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator asks for, on the record.

    Attributes:
        patience: seconds to wait for the outcome of a pivot that is under way.
    """

    reason: str | None
    by: str
    patience: float = _PATIENCE


@dataclass(frozen=True, slots=True)
class Action:
    """Something that can be done to one saga or to many.

    Attributes:
        statuses: those a filter looks at when it names none.
        run: does it to one saga.
        fits: of some sagas, those that it is for, where their status alone does not tell.
    """

    name: str
    statuses: Sequence[Status]
    run: Callable[[Handle, Order], object]
    help: str
    fits: Callable[[Orchestrator, Sequence[Handle]], Sequence[Handle]] = lambda _, handles: handles

    def all(self, orchestrator: Orchestrator, chosen: Filter) -> Iterator[Handle]:
        """The sagas that a filter means, newest first."""
        for page in chosen.pages(orchestrator, self.statuses):
            yield from page if chosen.statuses else self.fits(orchestrator, page)


def _login() -> str:
    """Who is logged in; a container's user may have a number only."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _on_record(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of everything that an operator does."""
    reason = click.option("--reason", help="Why; it is kept in the log.")
    by = click.option(
        "--by", default=_login, show_default="the user who is logged in", help="Who; it is kept in the log."
    )
    return reason(by(command))


def _command(action: Action) -> click.Command:
    @click.command(action.name, help=action.help, short_help=action.help.split("\n")[0])
    @click.argument("id", required=False)
    @filter_options
    @click.option("--yes", is_flag=True, help="With a filter: do it; else only show what would be done.")
    @_on_record
    @pass_context
    def command(context: Context, chosen: Filter, id: str | None, yes: bool, reason: str | None, by: str) -> None:
        if (id is not None) == chosen.given:
            raise click.UsageError(
                f"{action.name} expected the ID of one saga, or a filter such as --status and --saga"
            )
        orchestrator = context.orchestrator
        if id is not None:
            handle = find_saga(orchestrator, id)
            action.run(handle, Order(reason, by))
            say(f"{handle.id} is {handle.status}")
        elif yes:
            sys.exit(_do_all(action, orchestrator, chosen, Order(reason, by, patience=0)))
        else:
            _preview(action, orchestrator, chosen)

    return command


def _preview(action: Action, orchestrator: Orchestrator, chosen: Filter) -> None:
    found = list(islice(action.all(orchestrator, chosen), _COUNTED))
    if not found:
        say(f"{action.name}: {nothing(orchestrator, chosen)}", err=True)
        return
    shown = found[:_PREVIEW]
    print_sagas(orchestrator.database, shown, read_waits(orchestrator.database, [handle.id for handle in shown]))
    number = f"{len(found)}" if len(found) < _COUNTED else f"{_COUNTED} or more"
    say(
        f"{action.name} would be asked of {number} saga{'' if number == '1' else 's'}; add --yes to do it, nothing is done yet",
        err=True,
    )


def _do_all(action: Action, orchestrator: Orchestrator, chosen: Filter, order: Order) -> int:
    """Do it to all that match; those that do not allow it are named and left. Returns the exit code."""
    done = failed = 0
    for handle in action.all(orchestrator, chosen):
        try:
            action.run(handle, order)
            done += 1
        except DatabaseNotReady:
            raise
        except (SagaError, TimeoutError) as error:
            failed += 1
            say(f"{handle.id}: {error}", err=True)
    say(f"{action.name}: {done} done, {failed} not")
    return 1 if failed else 0


def _cancel(handle: Handle, order: Order) -> None:
    if not handle.cancel(order.reason, by=order.by, timeout=order.patience):
        raise NotAllowed(f"saga {handle.id} is not rolled back: its pivot came first, and it is {handle.status}")


def _retry(handle: Handle, order: Order) -> None:
    handle.retry(order.reason, by=order.by)


def _to_retry(orchestrator: Orchestrator, handles: Sequence[Handle]) -> Sequence[Handle]:
    """Those that are stuck, and of the others those that wait for a retry."""
    ids = [handle.id for handle in handles if handle.header.status != Status.STUCK]
    with clear_errors(orchestrator.database), orchestrator.database.link() as link:
        waiting = work.read_waiting(link, ids)
    return [handle for handle in handles if handle.header.status == Status.STUCK or handle.id in waiting]


def _compensate(handle: Handle, order: Order) -> None:
    handle.compensate(order.reason, by=order.by)


def _pause(handle: Handle, order: Order) -> None:
    handle.pause(order.reason, by=order.by)


def _resume(handle: Handle, order: Order) -> None:
    handle.resume(order.reason, by=order.by)


def _abandon(handle: Handle, order: Order) -> None:
    handle.abandon(order.reason, by=order.by)


_EITHER = "Takes one ID (or its beginning, a key, SAGA/KEY), or a filter; a filter shows what it would do until --yes is added."

_MAY_WAIT = [Status.STUCK, Status.RUNNING, Status.COMPENSATING]

retry_command = _command(Action("retry", _MAY_WAIT, _retry, f"""\
Try what is stuck, or waits for a retry, again now.

The retry budget is fresh, the idempotency keys stay. {_EITHER}""", _to_retry))  # fmt: skip

cancel_command = _command(Action("cancel", [Status.RUNNING, Status.PAUSED, Status.STUCK], _cancel, f"""\
Roll back sagas that are under way.

Exits with 1 where a pivot succeeds first. {_EITHER}"""))  # fmt: skip

compensate_command = _command(Action("compensate", [Status.COMPLETED], _compensate, f"""\
Undo sagas that have completed and have no pivot.

{_EITHER}"""))  # fmt: skip

pause_command = _command(Action("pause", [Status.RUNNING, Status.COMPENSATING], _pause, f"""\
Start nothing new; what runs comes to its end.

{_EITHER}"""))  # fmt: skip

resume_command = _command(Action("resume", [Status.PAUSED], _resume, f"""\
Go on after a pause.

{_EITHER}"""))  # fmt: skip


abandon_command = _command(Action("abandon", [Status.STUCK], _abandon, f"""\
End sagas without undoing more; what they still owe stays listed.

They are then neither completed nor compensated, for good. {_EITHER} A filter looks at stuck sagas unless it says
--status."""))  # fmt: skip


@click.command("skip")
@click.argument("id")
@click.argument("step")
@click.option("--result", type=json_value, help="JSON: what the action would have returned; later steps get it.")
@click.option("--undo", is_flag=True, help="Undo the action if the saga is rolled back later.")
@_on_record
@pass_context
def skip_command(context: Context, id: str, step: str, result: Any, undo: bool, reason: str | None, by: str) -> None:
    """Declare a stuck step, or its stuck undo, done by hand.

    \b
        saga -A shop.app skip ID confirm --result true --reason "seen"
    """
    handle = find_saga(context.orchestrator, id)
    handle.skip(step, result, undo, reason=reason, by=by)
    say(f"{handle.id} is {handle.status}")
