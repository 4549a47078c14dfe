"""Attempt: one attempt that this process owns."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from saga.core.ref import AttemptRef
from saga.core.scope import Scope
from saga.core.state import State, StepStatus, Track
from saga.engine.draft import Instance, Lease
from saga.language.definition import Job, Saga
from saga.store.port import Clock
from saga.telemetry.facts.attempts import AttemptName
from saga.telemetry.watch import Watch


@dataclass(slots=True)
class Attempt:
    """One attempt that this process owns.

    Attributes:
        state: the saga as this attempt last saw it.
        started_at: by the store's clock; ``began`` is when ``clock``, this process's, showed that moment, in seconds.
        held: seconds to sleep before the attempt may start, when it has not yet.
        watch: what is to be told of it at its end.
        over: its task is over, and its outcome on the way to the log.
    """

    saga: Saga
    saga_id: UUID
    state: State
    ref: AttemptRef
    lease: Lease
    started_at: datetime | None
    clock: Clock
    held: float | None = None
    over: bool = False
    watch: Watch | None = None
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.begin(self.started_at)

    def begin(self, at: datetime | None) -> None:
        """Count its time from now on, which is that moment by the store's clock."""
        self.started_at, self.began = at, self.clock.monotonic()

    @property
    def instance(self) -> Instance:
        """The saga it belongs to."""
        return Instance.of(self.saga_id, self.saga)

    @property
    def name(self) -> AttemptName:
        """Which attempt it is, for listeners that are told of it."""
        return AttemptName(self.saga.name, self.saga_id, self.ref)

    @property
    def lane(self) -> str:
        """The lane it runs in."""
        return self.ref.lane

    @property
    def step(self) -> str:
        """The step it is an attempt of."""
        return self.ref.step

    @property
    def number(self) -> int:
        """Its number, from 1."""
        return self.ref.attempt

    @property
    def undo(self) -> bool:
        """Whether it is an attempt of the step's undo."""
        return self.ref.undo

    @property
    def job(self) -> Job:
        """What it runs."""
        return self.saga.job(self.ref.step, self.ref.undo)

    @property
    def path(self) -> str:
        """Which way it goes: ``run`` for an action, ``undo`` for an undo."""
        return "undo" if self.ref.undo else "run"

    @property
    def track(self) -> Track:
        """Where its action or undo stands."""
        return self.state.track(self.ref.step, self.ref.undo)

    @property
    def scope(self) -> Scope:
        """Where the innermost scope of its step stands."""
        return self.state.scopes[self.saga.outline.step(self.ref.step).scope]

    @property
    def stands(self) -> bool:
        """Whether the log still has this attempt open."""
        track = self.track
        mine = track.worker in (None, self.lease.worker)  # after entries were lost, another may have started the same
        return mine and track.status is StepStatus.RUNNING and track.attempts == self.ref.attempt

    def __str__(self) -> str:
        return str(self.name)
