"""Facts about sagas and their logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from saga.core.events import Event
from saga.core.state import State
from saga.telemetry.stream import Fact


@dataclass(frozen=True, slots=True)
class SagaOpened(Fact):
    """A new saga is in the log; in a caller's transaction: its commit was seen."""

    saga: str
    saga_id: UUID


@dataclass(frozen=True, slots=True)
class Appended(Fact):
    """Entries are in the log, and the messages that they owe handed over.

    Attributes:
        events: what was appended together.
        moved: the saga's status or its reason is another one now.
        worker: the number of the worker that wrote them, if one did.
    """

    saga: str
    saga_id: UUID
    events: Sequence[Event]
    before: State
    after: State
    moved: bool
    worker: int | None


@dataclass(frozen=True, slots=True)
class HistoryCut(Fact):
    """A log has lost entries that this process knew.

    Attributes:
        known: the last entry that was known here.
        written: what of them this process had written, in words.
    """

    saga: str
    saga_id: UUID
    known: int
    written: str


@dataclass(frozen=True, slots=True)
class EvidenceNotKept(Fact):
    """What nothing uses, but somebody may ask for, could not be appended."""

    saga: str
    saga_id: UUID
    error: Exception


@dataclass(frozen=True, slots=True)
class OutcomeUnknown(Fact):
    """Nobody knows whether an append was committed; the log is asked until it answers."""

    saga: str
    saga_id: UUID
    error: Exception


@dataclass(frozen=True, slots=True)
class OutcomesUnknown(Fact):
    """The same of an append to several sagas.

    Attributes:
        sagas: how many.
    """

    sagas: int
    error: BaseException


@dataclass(frozen=True, slots=True)
class LogsNotRead(Fact):
    """Logs for which somebody waits cannot be read together, because of one of them; their ends are told without.

    Attributes:
        logs: how many.
    """

    logs: int
    error: Exception


@dataclass(frozen=True, slots=True)
class WaitingFailed(Fact):
    """What looks for the ends of sagas for those who wait raised; it looks again."""

    error: Exception
