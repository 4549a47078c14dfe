"""Context: what a task can ask about the saga it runs in."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Current:
    """The attempt in which the calling task runs.

    Attributes:
        saga: the saga's name.
        attempt: its number, from 1; it goes on over an operator's ``retry``.
        idempotency_key: the same on every attempt of this action, or of this undo; give it to the system that has the effect.
        action_key: the action's key, which its undo knows too.
        compensating: it is an undo.
        connection: the SQLAlchemy connection of a transactional step.
    """

    saga_id: UUID
    saga: str
    step: str
    attempt: int
    idempotency_key: str
    action_key: str
    compensating: bool
    connection: Any = None


_current: ContextVar[Current | None] = ContextVar("saga.current", default=None)


def current() -> Current | None:
    """The attempt in which the calling task runs; ``None`` outside a saga."""
    return _current.get()


set_current = _current.set
reset_current = _current.reset


def action_key(saga_id: UUID, step: str) -> str:
    """The idempotency key of a step's action."""
    return f"{saga_id}/{step}"


def undo_key(saga_id: UUID, step: str) -> str:
    """The idempotency key of a step's undo."""
    return f"{saga_id}/{step}/undo"
