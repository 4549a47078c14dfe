"""Facts about attempts, and about code of the user's that has its part in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from saga.core.events import Event
from saga.core.ref import AttemptRef
from saga.telemetry.stream import Fact

if TYPE_CHECKING:  # who only starts or reads sagas need not load it for this
    from celery import Celery


class AttemptName(NamedTuple):
    """Which attempt of which saga a fact is about. A tuple, since two are made for every attempt."""

    saga: str
    saga_id: UUID
    ref: AttemptRef

    def __str__(self) -> str:
        return f"saga {self.saga}[{self.saga_id}], {self.ref.phase.of}step {self.ref.step}, attempt {self.ref.attempt}"


@dataclass(frozen=True, slots=True)
class AttemptBegan(Fact):
    """A step's task is about to be called.

    Attributes:
        task: its name.
        task_id: what the task's request has.
        carrier: the request of the Celery task whose message brought the attempt here.
        app: whose task it is.
    """

    attempt: AttemptName
    task: str
    task_id: UUID
    carrier: Any
    app: Celery


@dataclass(frozen=True, slots=True)
class AttemptLeft(Fact):
    """The task is over, whatever came of it; that is on its way to the log."""

    began: AttemptBegan


@dataclass(frozen=True, slots=True)
class AttemptEnded(Fact):
    """An attempt of this process has ended as the log has it; one that came late: as the log is to keep it.

    Attributes:
        event: the entry that says how.
        began: ``None`` where its task was never called.
        seconds: since then, so with the way to the log.
        error: what the attempt failed with, unless that was a refusal.
        report: what ``sentry`` has kept of it.
    """

    attempt: AttemptName
    event: Event
    began: AttemptBegan | None
    seconds: float
    error: BaseException | None
    report: Any


@dataclass(frozen=True, slots=True)
class AttemptCameLate(Fact):
    """An attempt ended after the log had declared it over.

    Attributes:
        outcome: what it came to: ``success``, ``failure`` or ``interruption``.
    """

    attempt: AttemptName
    outcome: str


@dataclass(frozen=True, slots=True)
class LogFoundGone(Fact):
    """An attempt ended whose saga is no longer in the database."""

    attempt: AttemptName
    error: Exception


@dataclass(frozen=True, slots=True)
class ProcessOverdue(Fact):
    """An attempt holds its process past its timeout, and the process is about to end itself.

    Attributes:
        grace: seconds past the timeout.
    """

    attempt: AttemptName
    grace: float


@dataclass(frozen=True, slots=True)
class ThreadOverdue(Fact):
    """An attempt holds a thread past its timeout, which nobody can end."""

    attempt: AttemptName


@dataclass(frozen=True, slots=True)
class RetryPolicyFailed(Fact):
    """A step's retry policy raised, which means that there is no further attempt."""

    attempt: AttemptName
    error: Exception


@dataclass(frozen=True, slots=True)
class RefusalFailed(Fact):
    """A step's ``abort_on`` raised when asked about an error.

    Attributes:
        place: the saga and the step.
        about: the type of the error it was asked about.
    """

    place: str
    about: str
    error: Exception


@dataclass(frozen=True, slots=True)
class RedactionFailed(Fact):
    """The user's ``saga_redact`` raised. What it raised may hold what it was to take out, so only its type is told."""

    error_type: str


@dataclass(frozen=True, slots=True)
class HookFailed(Fact):
    """What a transactional step gave to Django's ``on_commit`` raised, after the commit.

    Attributes:
        hook: how it looks.
    """

    hook: str
    error: Exception


@dataclass(frozen=True, slots=True)
class BarrierPassedTwice(Fact):
    """A step came to a second barrier under a name that it had passed in the same attempt.

    Attributes:
        database: where the barrier is, without the password.
    """

    saga: str
    saga_id: UUID
    step: str
    database: str
