"""``show``: one saga at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from saga.cli.context import Context, pass_context
from saga.cli.lanes import lane_json, print_lanes, read_lanes, workers_json
from saga.cli.naming import find_saga
from saga.cli.output import age, json_option, moment, print_json, print_table, shortened
from saga.cli.shapes import header_json, state_json
from saga.cli.waits import Wait, problem_of, read_waits
from saga.core.state import State, Status, StepState, Track
from saga.store.postgres.work import OpenLane
from saga.store.values import Header


@click.command("show")
@click.argument("id")
@json_option
@pass_context
def show_command(context: Context, id: str, as_json: bool) -> None:
    """Show one saga: its steps, and what happens next.

    ID is its id or a beginning of its id, its key, or SAGA/KEY.

    \b
        saga -A shop.app show order-1001
    """
    orchestrator = context.orchestrator
    handle = find_saga(orchestrator, id)
    state, header = handle.replay(), handle.refresh()
    lanes = read_lanes(orchestrator.database, handle.id)
    waits = read_waits(orchestrator.database, [handle.id])
    wait = waits.get(handle.id)
    if as_json:
        about = header_json(header, problem_of(waits, handle.id))
        work = {"work": [lane_json(lane) for lane in lanes], "workers": workers_json(lanes)}
        print_json({**about, **state_json(handle.id, state), **work})
        return
    print_table(("saga", header.name), _about(header, state, lanes, wait))
    click.echo()
    print_steps(state.steps)
    if lanes:
        click.echo()
        print_lanes(lanes)


def _problem(lanes: Sequence[OpenLane]) -> str | None:
    return next((lane.problem for lane in lanes if lane.problem), None)


def _about(header: Header, state: State, lanes: Sequence[OpenLane], wait: Wait | None) -> list[tuple[str, object]]:
    """What is known of a saga as a whole; what there is nothing of is left out."""
    rows = [
        ("id", header.id),
        ("key", header.key),
        ("tags", shortened(header.tags)),
        ("status", state.status),
        ("reason", state.reason),
        ("stuck on", state.problem if state.status is Status.STUCK and state.problem != state.reason else None),
        ("parked", _problem(lanes)),
        ("late", None if _problem(lanes) else wait and wait.text),
        ("asked", state.cancel_reason and f"{state.cancel_reason}; it waits for the pivot"),
        ("input", shortened(state.input, 200)),
        ("started", f"{moment(header.started_at)}, {age(header.started_at)} ago"),
        ("finished", moment(header.finished_at)),
        ("undone by hand", ", ".join(state.skipped)),
        ("not undone", ", ".join(state.undos_owed) if state.status.terminal else None),
    ]
    return [(name, value) for name, value in rows if value]


def print_steps(steps: Mapping[str, StepState]) -> None:
    """A table of steps: how far each has come, and its undo where it owes one."""
    rows = [
        (name, step.status, step.attempts or None, step.undo and step.undo.status, _error(step), shortened(step.result))
        for name, step in steps.items()
    ]
    print_table(("step", "status", "attempts", "undo", "error", "result"), rows)


def _error(step: StepState) -> str | None:
    undo = _told(step.undo) if step.undo else None
    return "; ".join(part for part in (_told(step), f"undo: {undo}" if undo else None) if part) or None


def _told(track: Track) -> str | None:
    """An error, with what its ``Abort`` carried."""
    carried = [
        f"{name} {shortened(value)}" for name in ("code", "details") if (value := getattr(track, name)) is not None
    ]
    return f"{track.error} ({', '.join(carried)})" if carried else track.error
