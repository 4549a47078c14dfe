"""``workers``: which processes run sagas, where, and what each runs now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from saga.cli.context import Context, pass_context
from saga.cli.output import age, json_option, print_json, print_records, say
from saga.store.postgres import fleet
from saga.store.postgres.errors import clear_errors
from saga.store.postgres.fleet import Member, Running

_MOST = 10_000


@click.command("workers")
@json_option
@pass_context
def workers_command(context: Context, as_json: bool) -> None:
    """List the worker processes, and what each runs now.

    Says where each runs and to which queues it listens. A killed process is shown as dead for some seconds, until a relay takes it off the list.
    """
    database = context.orchestrator.database
    with clear_errors(database), database.link() as link:
        members, running = fleet.read_members(link), fleet.read_running(link, _MOST)
    runs: dict[int, list[Running]] = {}
    for each in running:
        runs.setdefault(each.worker, []).append(each)
    names = {saga.outline.fingerprint: saga.name for saga in context.orchestrator.sagas}
    if as_json:
        print_json([_json(member, runs.get(member.number, []), names) for member in members])
        return
    rows = [_row(member, runs.get(member.number, [])) for member in members]
    print_records(("worker", "state", "realm", "queues", "host", "pid", "up", "version", "runs"), rows)
    if not rows:
        say("no worker is alive: start one with `celery -A … worker`, and see `saga doctor`", err=True)


def _row(member: Member, runs: Sequence[Running]) -> tuple[Any, ...]:
    about = member.about
    state = "alive" if member.alive else "dead"
    queues = ", ".join(about.queues) or "none: a relay only"
    return (
        member.number, state, about.realm, queues, about.host, about.pid, age(member.started_at), about.version,
        "; ".join(map(_told, runs)),
    )  # fmt: skip


def _told(run: Running) -> str:
    return f"{run.saga} {run.phase.of}{run.step} ({run.saga_id})"


def _json(member: Member, runs: Sequence[Running], names: dict[str, str]) -> dict[str, Any]:
    about = member.about
    return {
        "worker": member.number,
        "alive": member.alive,
        "realm": about.realm,
        "node": about.node,
        "host": about.host,
        "pid": about.pid,
        "started_at": member.started_at.isoformat(),
        "version": about.version,
        "relay": about.relays,
        "queues": list(about.queues),
        "fingerprints": list(about.fingerprints),
        "sagas": sorted(names[known] for known in about.fingerprints if known in names),
        "runs": [
            {"saga_id": str(run.saga_id), "saga": run.saga, "lane": run.lane, "step": run.step, "undo": run.undo,
             "attempt": run.attempt, "seconds": run.seconds}
            for run in runs
        ],
    }  # fmt: skip
