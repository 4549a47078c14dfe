"""Lanes: where in a saga something is still to happen, and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from saga.cli.output import due, moment, print_table
from saga.core.outline import DEADLINE
from saga.store.postgres import work
from saga.store.postgres.database import Database
from saga.store.postgres.errors import clear_errors
from saga.store.postgres.work import OpenLane


def read_lanes(database: Database, saga_id: UUID) -> list[OpenLane]:
    """The open lanes of one saga."""
    with clear_errors(database), database.link() as link:
        return work.read_lanes(link, saga_id)


def _what(lane: OpenLane) -> str:
    if lane.lane == DEADLINE:
        return "the saga's deadline"
    return f"{lane.phase.of}{lane.step}"


def _where(lane: OpenLane) -> str:
    if lane.worker is None:
        return f"queue {lane.queue}"
    return f"worker {lane.worker}" + (f" ({lane.host}, process {lane.pid})" if lane.host else "")


def print_lanes(lanes: Sequence[OpenLane]) -> None:
    """A table of them."""
    rows = [
        (lane.lane, _what(lane), lane.attempt, _where(lane), moment(lane.due_at),
         "" if lane.worker is not None else due(lane.due_at), lane.problem)
        for lane in lanes
    ]  # fmt: skip
    print_table(("lane", "next", "attempt", "at", "due", "", "problem"), rows)


def lane_json(lane: OpenLane) -> dict[str, Any]:
    """It as JSON."""
    return {
        "lane": lane.lane,
        "step": lane.step or None,
        "undo": lane.undo,
        "attempt": lane.attempt,
        "queue": lane.queue,
        "due_at": lane.due_at.isoformat(),
        "sent_at": lane.sent_at and lane.sent_at.isoformat(),
        "worker": lane.worker,
        "problem": lane.problem,
    }


def workers_json(lanes: Sequence[OpenLane]) -> list[dict[str, Any]]:
    """The workers that have them, and where these run, as JSON."""
    found = {lane.worker: lane for lane in lanes if lane.worker is not None}
    return [{"worker": worker, "host": lane.host, "pid": lane.pid} for worker, lane in found.items()]
