"""Rows: what the lanes of a saga's log lead to in the table of work: who may claim what, from when on.

The rows are a function of the state: a lane with something to be done has a row, free or owned, and no other lane has one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from saga.core.due import Due


@dataclass(frozen=True, slots=True)
class Place:
    """What a lane's row is to say.

    Attributes:
        attempt: the attempt to make; ``None`` if the worker that claims the lane has to decide first.
        queue: ``None`` for its present queue, if the writer does not have the definition.
        due: the earliest claim; ``None`` is at once.
        owned: the worker that writes it keeps the lane.
        watch: of an owned lane, seconds after which the relay looks at it: the shortest timeout of what may follow.
        sent: its message goes out right after the commit.
    """

    lane: str
    step: str
    attempt: int | None
    undo: bool
    queue: str | None
    priority: int | None = None
    due: Due | None = None
    owned: bool = False
    watch: float = 0.0
    sent: bool = False

    def row(self) -> dict[str, Any]:
        """It as JSON."""
        due = self.due or _NOW
        return {"lane": self.lane, "step": self.step, "attempt": self.attempt, "undo": self.undo, "queue": self.queue,
                "priority": self.priority, "due": due.moment and due.moment.isoformat(), "wait": due.seconds,
                "owned": self.owned, "watch": self.watch, "sent": self.sent}  # fmt: skip


_NOW = Due()


@dataclass(slots=True)
class Changes:
    """What an entry changes in its saga's rows; no lane appears twice.

    Attributes:
        token: of the worker that writes it, for the lanes it keeps.
        default_queue: of the lanes whose queue the writer does not know.
    """

    fingerprint: str
    token: UUID | None
    default_queue: str = ""
    removed: list[str] = field(default_factory=list)
    added: list[Place] = field(default_factory=list)
    moved: list[Place] = field(default_factory=list)

    def removed_rows(self, saga_id: str) -> list[dict[str, Any]]:
        """The rows to delete, as JSON; likewise those to insert and those to update."""
        return [{"saga": saga_id, "lane": lane} for lane in self.removed]

    def added_rows(self, saga_id: str) -> list[dict[str, Any]]:
        return [self._row(saga_id, place) | {"fingerprint": self.fingerprint, "default_queue": self.default_queue}
                for place in self.added]  # fmt: skip

    def moved_rows(self, saga_id: str) -> list[dict[str, Any]]:
        return [self._row(saga_id, place) for place in self.moved]

    def _row(self, saga_id: str, place: Place) -> dict[str, Any]:
        row = place.row()
        row["saga"] = saga_id
        if place.owned:
            row["token"] = str(self.token)
        return row


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A message to send: a lane to offer, and the queue to offer it on.

    Attributes:
        alone: it shares its message with no other lane.
    """

    saga_id: UUID
    lane: str
    queue: str
    priority: int | None = None
    alone: bool = False
