"""Waits: what work waits for that is parked, or has waited for longer than it should."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from saga.cli.output import say, span
from saga.client.diagnosis import PATIENCE, obstacle, reason
from saga.store.postgres import fleet
from saga.store.postgres.database import Database
from saga.store.postgres.errors import clear_errors
from saga.store.postgres.fleet import Member, Waiting


@dataclass(frozen=True, slots=True)
class Wait:
    """Why work of a saga waits.

    Attributes:
        problem: what for.
        text: that, and whether it is parked, or since when it waits.
    """

    problem: str
    text: str


def read_waits(database: Database, ids: Sequence[UUID]) -> dict[UUID, Wait]:
    """What work of these sagas waits for, if it is parked, late, or if no worker can take it."""
    with clear_errors(database), database.link() as link:
        waiting = fleet.read_waiting_of(link, ids, 0.0)
        members = fleet.read_members(link) if waiting else []
    return {
        saga_id: _wait(found, members)
        for saga_id, found in waiting.items()
        if found.seconds >= PATIENCE or obstacle(found, members)
    }


def problem_of(waits: Mapping[UUID, Wait], saga_id: UUID) -> str | None:
    """What one of them waits for, if it does."""
    found = waits.get(saga_id)
    return found.problem if found else None


def _wait(waiting: Waiting, members: Sequence[Member]) -> Wait:
    problem = reason(waiting, members)
    return Wait(problem, f"{'parked' if waiting.problem else f'waits for {span(waiting.seconds)}'}: {problem}")


def warn_of_obstacle(database: Database, saga_id: UUID) -> None:
    """Say on standard error why no worker takes a saga's work, if that is so."""
    with clear_errors(database), database.link() as link:
        waiting = fleet.read_waiting_of(link, [saga_id], 0.0).get(saga_id)
        why = obstacle(waiting, fleet.read_members(link)) if waiting else None
    if why:
        say(f"it waits: {why}; see `saga stats`", err=True)


def warn_of_delay(database: Database, saga_id: UUID) -> None:
    """Say on standard error what a saga's work waits for, if it is late."""
    wait = read_waits(database, [saga_id]).get(saga_id)
    if wait:
        say(wait.text, err=True)
