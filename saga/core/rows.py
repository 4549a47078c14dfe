"""Rows: what the lanes of a saga's log lead to in the table of work: who may claim what, from when on.

The rows are a function of the state: a lane with something to be done has a row, free or owned, and no other lane has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar
from uuid import UUID

from saga.core.commands import AskPolicy, Command, KeepWatch, RunStep, Wait
from saga.core.due import Due, is_at_once
from saga.core.ref import Phase
from saga.core.state import State


class Prioritized(Protocol):
    """What runs a step's action or undo."""

    @property
    def priority(self) -> int | None:
        """Of its messages; ``None`` for that of the saga."""


class Definition(Protocol):
    """What rows are made from of a saga's definition.

    Attributes:
        shortest_timeout: seconds after which a claimed lane is looked at: that of the steps that may follow inline.
    """

    @property
    def shortest_timeout(self) -> float: ...

    def job(self, step: str, undo: bool) -> Prioritized:
        """What runs the action of the step at an address, or its undo."""


S = TypeVar("S", bound=Definition)
_Asked = TypeVar("_Asked", bound=Definition, contravariant=True)


class Queues(Protocol[_Asked]):
    """Who knows where steps run."""

    def queue(self, saga: _Asked | None, step: str, undo: bool) -> str:
        """The queue of a step's action or undo; the default one without saga or step."""


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
        until: the end of the time that the step's action has as a whole. Past it, the worker that claims the lane decides
            first; and a claim leaves its attempt no more than what is left.
    """

    lane: str
    step: str
    attempt: int | None
    phase: Phase
    queue: str | None
    priority: int | None = None
    due: Due | None = None
    owned: bool = False
    watch: float = 0.0
    sent: bool = False
    until: Due | None = None

    def row(self) -> dict[str, Any]:
        """It as JSON."""
        due = self.due or _NOW
        said = (
            {"until": self.until.moment and self.until.moment.isoformat(), "within": self.until.seconds}
            if self.until
            else {}
        )
        return {"lane": self.lane, "step": self.step, "attempt": self.attempt, "phase": self.phase, "queue": self.queue,
                "priority": self.priority, "due": due.moment and due.moment.isoformat(), "wait": due.seconds,
                "owned": self.owned, "watch": self.watch, "sent": self.sent, **said}  # fmt: skip


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


def next_inline(before: Sequence[Command], after: Sequence[Command]) -> RunStep | None:
    """The attempt that the same worker may go on with: the only one that has become possible, and at once."""
    known = {command.lane: command for command in before}
    fresh = [command for command in after if not isinstance(command, Wait) and command != known.get(command.lane)]
    if len(fresh) != 1 or not isinstance(fresh[0], RunStep) or not is_at_once(fresh[0].due):
        return None
    return fresh[0]


def plan(
    queues: Queues[S],
    fingerprint: str,
    saga: S | None,
    state: State,
    before: Sequence[Command],
    after: Sequence[Command],
    kept: RunStep | None = None,
    token: UUID | None = None,
) -> Changes:
    """The changes that lead from the rows of one decision to those of the next.

    Args:
        before: the commands of the first decision. Lanes that have not moved may be left out here and in ``after``.
        saga: the definition, if this process has it.
        kept: the attempt that the writer goes on with itself, under ``token``.
    """
    changes = Changes(fingerprint, token, queues.queue(None, "", False))
    old = {command.lane: command for command in before}
    new = {command.lane: command for command in after}
    changes.removed = [lane for lane in old if lane not in new]
    for lane, command in new.items():
        owned = command is kept or isinstance(command, Wait)
        was = old.get(lane)
        if command == was or (owned and isinstance(was, Wait)):
            continue
        place = place_of(queues, saga, state, command, owned=owned)
        (changes.added if was is None else changes.moved).append(place)
    return changes


def place_of(queues: Queues[S], saga: S | None, state: State, command: Command, *, owned: bool = False) -> Place:
    """The row that a command stands for."""
    if isinstance(command, KeepWatch):
        default = queues.queue(saga, "", False)
        return Place(command.lane, "", None, Phase.STEP, default, state.priority, command.due)
    assert isinstance(command, (RunStep, AskPolicy, Wait))
    ref = command.ref
    queue = queues.queue(saga, ref.step, ref.undo) if saga else None
    job = saga.job(ref.step, ref.undo) if saga else None
    priority = state.priority if job is None or job.priority is None else job.priority
    place = Place(ref.lane, ref.step, None, ref.phase, queue, priority)
    if isinstance(command, AskPolicy):
        return replace(place, sent=saga is not None)
    if owned:
        assert saga is not None
        return replace(place, attempt=ref.attempt, owned=True, watch=saga.shortest_timeout)
    assert isinstance(command, RunStep), "a lane that waits has an owner"
    # Who does not know the queue leaves the sending to the relay.
    return replace(place, attempt=ref.attempt, due=command.due, sent=is_at_once(command.due) and saga is not None)


def dispatches(saga_id: UUID, changes: Changes) -> list[Dispatch]:
    """The messages to send once the changes are committed."""
    return [
        Dispatch(saga_id, place.lane, place.queue, place.priority)
        for place in (*changes.added, *changes.moved)
        if place.sent and place.queue
    ]
