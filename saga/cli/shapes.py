"""Shapes: what is printed as JSON; programs rely on these keys."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from saga.core.events import Entry
from saga.core.state import State, StepState, Track
from saga.store.values import Header


def header_json(header: Header, problem: str | None) -> dict[str, Any]:
    """A saga without its log."""
    return {
        "id": str(header.id),
        "saga": header.name,
        "fingerprint": header.fingerprint,
        "key": header.key,
        "status": header.status,
        "reason": header.reason,
        "problem": problem,
        "tags": header.tags,
        "started_at": _time(header.started_at),
        "updated_at": _time(header.updated_at),
        "finished_at": _time(header.finished_at),
    }


def state_json(saga_id: UUID, state: State) -> dict[str, Any]:
    """What a log amounts to."""
    return {
        "id": str(saga_id),
        "seq": state.seq,
        "status": str(state.status),
        "reason": state.reason,
        "cause": state.cause and asdict(state.cause),
        "input": state.input,
        "skipped": list(state.skipped),
        "undos_owed": list(state.undos_owed),
        "steps": {name: step_json(step) for name, step in state.steps.items()},
    }


def step_json(step: StepState) -> dict[str, Any]:
    """How far a step has come."""
    return {**_track_json(step), "result": step.result, "undo": _track_json(step.undo) if step.undo else None}


def _track_json(track: Track) -> dict[str, Any]:
    return {
        "status": str(track.status),
        "attempts": track.attempts,
        "error": track.error,
        "error_type": track.error_type,
        "code": track.code,
        "details": track.details,
        "due_at": _time(track.due),
    }


def entry_json(entry: Entry) -> dict[str, Any]:
    """One entry of a log."""
    return {
        "seq": entry.seq,
        "at": _time(entry.at),
        "kind": entry.kind,
        "lane": entry.lane,
        "step": entry.step,
        "attempt": entry.attempt,
        "worker": entry.worker,
        "data": entry.data,
    }


def _time(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
