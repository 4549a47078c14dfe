"""State: what follows from a saga's log: where the saga stands, and how far each of its steps has come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from saga.core.commands import Command
from saga.core.due import Due, moment_of
from saga.core.scope import OUTERMOST, Scope
from saga.errors import Cause


class Status(StrEnum):
    """Where a saga stands."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    COMPENSATED = "compensated"
    STUCK = "stuck"
    ABANDONED = "abandoned"

    @property
    def terminal(self) -> bool:
        """Whether nothing will happen any more, unless an operator asks for it."""
        return self in (Status.COMPLETED, Status.COMPENSATED, Status.ABANDONED)


class StepStatus(StrEnum):
    """Where a step's action stands, or its undo."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    UNDECIDED = "undecided"
    SUCCEEDED = "succeeded"
    ABORTED = "aborted"
    UNKNOWN = "unknown"
    FAILED = "failed"
    SKIPPED = "skipped"


_SETTLED = frozenset({StepStatus.SUCCEEDED, StepStatus.SKIPPED})
_OPEN = frozenset({StepStatus.RUNNING, StepStatus.UNDECIDED})
_OVER = frozenset({StepStatus.ABORTED, StepStatus.UNKNOWN, StepStatus.FAILED})


@dataclass(frozen=True)
class Track:
    """How far an action or an undo has come.

    Attributes:
        status: where it stands.
        attempts: how many were started; the number of the latest.
        result: what it returned, as JSON.
        error: what ended the latest failed attempt, in words.
        error_type: the class of that exception, by its name; ``WorkerLost`` or ``StepTimeout`` if there was no exception.
        code: what ``Abort`` was given, as JSON; likewise ``details``.
        again: when the next attempt may start.
        deadline: when the open attempt is over.
        began: when the first attempt of the present budget started.
        uncounted: attempts outside the present budget.
        losses: how many attempts ended with their worker.
        certain: no attempt that is over can have had an effect.
        held: a worker keeps the lane while it waits.
        ended: what ended the attempt of an undecided track: ``timed out``, ``lost`` or ``interrupted``.
    """

    status: StepStatus = StepStatus.PENDING
    attempts: int = 0
    result: Any = None
    error: str | None = None
    again: Due | None = None
    deadline: datetime | None = None
    began: datetime | None = None
    uncounted: int = 0
    losses: int = 0
    certain: bool = True
    held: bool = False
    ended: str = ""
    worker: int | None = None
    error_type: str | None = None
    code: Any = None
    details: Any = None

    @property
    def due(self) -> datetime | None:
        """When the next attempt may start, if it has to wait."""
        return moment_of(self.again)

    @property
    def settled(self) -> bool:
        """Whether it was done, by a worker or by hand."""
        return self.status in _SETTLED

    @property
    def open(self) -> bool:
        """Whether an attempt runs, or ended and nothing says yet what follows."""
        return self.status in _OPEN

    @property
    def between_attempts(self) -> bool:
        """Whether it may have another attempt, and no worker holds it."""
        return not self.held and self.status in (StepStatus.WAITING, StepStatus.UNDECIDED)

    @property
    def over(self) -> bool:
        """Whether it failed for good."""
        return self.status in _OVER


@dataclass(frozen=True)
class StepState(Track):
    """How far a step has come: its action's track, and in ``undo`` its undo's, once it owes one."""

    undo: Track | None = None
    undo_later: bool = True


NOTHING_YET = StepState()
"""A step that has not begun."""
FRESH = Track()
"""An undo that is owed and has not begun."""


class Standing(NamedTuple):
    """The place of a lane that has begun and is not over.

    Attributes:
        place: how many of its items are behind it.
        command: what is to be done there; ``None`` if it waits for others.
        awaited: how many of its branches are not over, if it stands at a fork.
    """

    place: int
    command: Command | None = None
    awaited: int = 0


class Lanes:
    """Where the lanes of a saga stand.

    Attributes:
        standing: lane to where it stands; of the lanes that have begun and are not over.
        moved: the lanes that have been moved since this was copied, in order; ``None`` for all of them.
    """

    __slots__ = ("moved", "standing")

    def __init__(self, standing: Mapping[str, Standing] | None = None) -> None:
        self.standing: dict[str, Standing] = dict(standing or {})
        self.moved: dict[str, None] | None = {}

    def put(self, lane: str, standing: Standing | None) -> None:
        """Move a lane; to nowhere when it is over."""
        if self.moved is not None:
            self.moved[lane] = None
        if standing is None:
            self.standing.pop(lane, None)
        else:
            self.standing[lane] = standing

    def copy(self) -> Lanes:
        """The same lanes, none of which has moved yet."""
        return Lanes(self.standing)


class Results(Mapping[str, Any]):
    """The results of the settled steps, as JSON, by name; looked up one by one, for an attempt needs few of them."""

    __slots__ = ("_steps",)

    def __init__(self, steps: Mapping[str, StepState]) -> None:
        self._steps = steps

    def __getitem__(self, name: str) -> Any:
        step = self._steps[name]
        if not step.settled:
            raise KeyError(name)
        return step.result

    def __iter__(self) -> Iterator[str]:
        return (name for name, step in self._steps.items() if step.settled)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass
class State:
    """What a log amounts to.

    Attributes:
        seq: the last entry it includes; ``at`` is when that was written.
        input: the saga's input, as JSON.
        steps: step name to how far it has come; only steps of this saga, in the order of definition.
        scopes: scope to the way it goes and what is left in it; the saga itself is the outermost.
        asks: the steps whose unknown outcome a person settles.
        ask_first: a person decides at any failure whether it goes forward or back.
        abandon_reason: who abandoned it, why, and why it was not going on; ``None`` if it is not abandoned.
        stuck_on: what an operator has to settle: ``(step, undo)`` to the reason.
        skipped: the steps whose undo was done by hand.
        past_pivot: the pivot succeeded, so there is no way back.
        cancel_reason: a request to cancel that waits for the pivot's outcome.
        paused: nothing new starts.
        opening: the moment before which no first attempt starts.
        closing: when it is rolled back if it has not ended.
        trace: the headers that carry on the trace in which it was started.
        lanes: where its lanes stand; entries move them on.
    """

    steps: dict[str, StepState]
    scopes: dict[str, Scope]
    seq: int = 0
    at: datetime | None = None
    input: Any = None
    stuck_on: dict[tuple[str, bool], str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    past_pivot: bool = False
    cancel_reason: str | None = None
    paused: bool = False
    opening: Due | None = None
    closing: Due | None = None
    priority: int | None = None
    asks: frozenset[str] = frozenset()
    ask_first: bool = False
    abandon_reason: str | None = None
    trace: dict[str, str] | None = None
    lanes: Lanes | None = field(default=None, compare=False, repr=False)

    @property
    def status(self) -> Status:
        """Where the saga stands."""
        if self.abandoned:
            return Status.ABANDONED
        if self.stuck_on:
            return Status.STUCK
        whole = self.scopes[OUTERMOST]
        if whole.over:
            return Status.COMPENSATED if whole.backward else Status.COMPLETED
        if self.paused:
            return Status.PAUSED
        return Status.COMPENSATING if whole.backward else Status.RUNNING

    @property
    def rolling_back(self) -> bool:
        """Whether the saga as a whole goes backward."""
        return self.scopes[OUTERMOST].backward

    @property
    def open(self) -> int:
        """How many actions have an attempt that runs or is undecided."""
        return self.scopes[OUTERMOST].open

    @property
    def done(self) -> int:
        """How many actions are settled."""
        return sum(step.settled for step in self.steps.values())

    @property
    def owed(self) -> int:
        """How many undos are not settled."""
        return self.scopes[OUTERMOST].owed

    @property
    def rollback_reason(self) -> str | None:
        """Why the saga as a whole is rolled back."""
        return self.scopes[OUTERMOST].reason

    @property
    def rollback_cause(self) -> Cause | None:
        """The failure it is rolled back for, or was stuck on when it was abandoned, if there was one."""
        return self.scopes[OUTERMOST].cause

    @property
    def not_before(self) -> datetime | None:
        """When its first step may start, if it has to wait."""
        return moment_of(self.opening)

    @property
    def deadline(self) -> datetime | None:
        """When it is rolled back if it is not over, nor past its pivot."""
        return moment_of(self.closing)

    @property
    def abandoned(self) -> bool:
        """Whether an operator ended it without undoing more."""
        return self.abandon_reason is not None

    @property
    def undos_owed(self) -> tuple[str, ...]:
        """The steps that owe an undo which is not done, in the order of definition. An abandoned saga keeps them."""
        return (
            tuple(name for name, step in self.steps.items() if step.undo and not step.undo.settled)
            if self.scopes[OUTERMOST].owed
            else ()
        )

    @property
    def asking(self) -> bool:
        """Whether nothing new starts until a person says if it goes forward or back."""
        return bool(self.stuck_on) and not self.past_pivot and not self.rolling_back

    @property
    def halted(self) -> bool:
        """Whether nothing new starts until an operator speaks; what runs goes on."""
        return self.paused or self.asking

    @property
    def problem(self) -> str | None:
        """What an operator has to settle, in words."""
        return "; ".join(self.stuck_on.values()) or None

    @property
    def cause(self) -> Cause | None:
        """The failure it is stuck on (the first, if there are several), else the one it is rolled back for."""
        for step, undo in self.stuck_on:
            return Cause.of(step, undo, self.track(step, undo))
        return self.rollback_cause

    @property
    def reason(self) -> str | None:
        """Why it was abandoned or is rolled back, else what it is stuck on."""
        return self.abandon_reason or self.rollback_reason or self.problem

    @property
    def headline(self) -> str | None:
        """What lists of sagas say of it: what it is stuck on, else its reason."""
        return self.problem if self.status is Status.STUCK else self.reason

    def track(self, step: str, undo: bool) -> Track:
        """The track of a step's action or undo."""
        found = self.steps[step]
        return (found.undo or FRESH) if undo else found

    def copy(self) -> State:
        """A state that can go on without changing this one."""
        new = object.__new__(State)
        new.__dict__.update(
            self.__dict__, steps=dict(self.steps), scopes=dict(self.scopes), stuck_on=dict(self.stuck_on)
        )
        new.lanes = self.lanes and self.lanes.copy()
        return new

    def results(self) -> dict[str, Any]:
        """The results of the settled steps, as JSON."""
        return dict(Results(self.steps))
