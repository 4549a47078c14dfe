"""``stats``: how many sagas there are, how the relay and the workers are, and what waits for what."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from saga.cli.context import Context, pass_context
from saga.cli.output import json_option, print_json, print_table, span
from saga.client import diagnosis
from saga.client.diagnosis import PATIENCE, reason
from saga.core.state import Status
from saga.store.postgres import fleet, tally
from saga.store.postgres.database import Database
from saga.store.postgres.errors import clear_errors


@click.command("stats")
@json_option
@pass_context
def stats_command(context: Context, as_json: bool) -> None:
    """Count sagas by status, and say what is alive and what waits.

    Tells whether the relay and the workers are well, and what is parked or late, and why.
    """
    found = read_stats(context.orchestrator.database)
    if as_json:
        print_json(found)
        return
    about = found["estimates"]
    rows = [(name, f"{'about ' if name in about else ''}{count}") for name, count in found["statuses"].items()]
    print_table(("status", "sagas"), rows)
    click.echo()
    print_table(("", "alive", "dead"), [("workers", found["workers"]["alive"], found["workers"]["dead"])])
    click.echo(f"\nrelay: {_relay(found['relay'])}")
    if found["waiting"]:
        click.echo()
        print_table(("queue", "saga", "lanes", "for", "waits for"), [
            (row["queue"], row["saga"], row["amount"], span(row["seconds"]), row["waits_for"]) for row in found["waiting"]
        ])  # fmt: skip


def read_stats(database: Database) -> dict[str, Any]:
    """All of it, as JSON."""
    with clear_errors(database), database.link() as link:
        counts, estimated = tally.count_by_status(link)
        members = fleet.read_members(link)
        waiting = fleet.read_waiting(link, PATIENCE)
        looked = fleet.read_relay_age(link, database.realm)
    workers = [member for member in members if member.about.queues]
    return {
        "statuses": {str(status): counts.get(status, 0) for status in Status},
        "estimated": bool(estimated),
        "estimates": sorted(estimated),
        "workers": {
            "alive": sum(member.alive for member in workers),
            "dead": sum(not member.alive for member in workers),
        },
        "relay": {
            "alive": len(diagnosis.relaying(members, database.realm)),
            "looked_seconds_ago": looked,
            "unsent_for": max((each.seconds for each in waiting if not each.sent and not each.problem), default=None),
        },
        "parked": sum(each.lanes for each in waiting if each.problem),
        "waiting": [asdict(each) | {"amount": each.amount, "waits_for": reason(each, members)} for each in waiting],
    }


def _relay(relay: dict[str, Any]) -> str:
    if not relay["alive"]:
        return "none is alive"
    unsent = f"; work has been due for {span(relay['unsent_for'])} and is not sent" if relay["unsent_for"] else ""
    looked = relay["looked_seconds_ago"]
    return f"{relay['alive']} alive{unsent}" + ("" if looked is None else f"; the last look {span(looked)} ago")
