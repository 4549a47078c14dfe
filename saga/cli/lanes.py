"""Lanes: where in a saga something is still to happen, and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from saga import work
from saga.cli.output import due, moment, print_table
from saga.database import Database, clear_errors
from saga.outline import DEADLINE
from saga.work import OpenLane


def read_lanes(database: Database, saga_id: UUID) -> list[OpenLane]:
    """The open lanes of one saga."""
    with clear_errors(database), database.link() as link:
        return work.read_lanes(link, saga_id)


def _what(lane: OpenLane) -> str:
    if lane.lane == DEADLINE:
        return "the saga's deadline"
    return f"undo of {lane.step}" if lane.undo else lane.step


def _where(lane: OpenLane) -> str:
    return f"worker {lane.worker}" if lane.worker is not None else f"queue {lane.queue}"


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
