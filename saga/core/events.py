"""What happened: the events of a saga log, each a frozen dataclass, named in the past tense.

An event is a fact about one saga. Its entry in the log adds where it stands (``seq``), when it was written, by the
database's clock (``at``), and by which worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from saga.core.ref import AttemptRef, Phase
from saga.errors import CorruptLog

FORMAT = 3
"""The version of the entries that this code writes and the newest that it reads."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a saga as a whole."""

    kind: ClassVar[str]


@dataclass(frozen=True, slots=True)
class SagaStarted(Event):
    """The first entry of every log; it holds the input.

    Attributes:
        deadline: seconds after the start at which an unfinished saga is rolled back.
        delay: seconds after the start before which nothing runs.
        priority: the message priority of the steps that name none.
        asks: the steps whose unknown outcome a person settles, before anything is undone for it.
        ask_first: a person decides at any failure whether it goes forward or back.
        trace: the headers that carry on the trace in which it was started.
        parent: of which saga it is a part, as ``Parent.data`` says it.
    """

    kind = "saga_started"
    input: Any = None
    deadline: float | None = None
    delay: float | None = None
    priority: int | None = None
    asks: list[str] | None = None
    ask_first: bool = False
    trace: dict[str, str] | None = None
    parent: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class AttemptEvent(Event):
    """Something that happened to one attempt of a step."""

    lane: str
    step: str
    attempt: int
    phase: Phase = Phase.STEP

    @property
    def undo(self) -> bool:
        """Whether it is one of the step's undo."""
        return self.phase is Phase.COMPENSATION

    @property
    def ref(self) -> AttemptRef:
        """The attempt it is about."""
        return AttemptRef(self.lane, self.step, self.attempt, self.phase)


@dataclass(frozen=True, slots=True)
class AttemptStarted(AttemptEvent):
    """Written before the user's code runs; ``timeout`` is in seconds from the entry's time."""

    kind = "started"
    timeout: float = 0.0


@dataclass(frozen=True, slots=True)
class AttemptSucceeded(AttemptEvent):
    """The task returned, and its result could be stored."""

    kind = "succeeded"
    result: Any = None


OUTCOMES = frozenset({"retry", "aborted", "unknown", "failed"})
"""What may follow a failed attempt."""


@dataclass(frozen=True, slots=True)
class AttemptFailed(AttemptEvent):
    """The attempt failed, and this is what follows.

    Attributes:
        outcome: ``retry``, or of an action for good ``aborted`` (no effect) or ``unknown`` (there may be one), or of an
            undo for good ``failed``.
        wait: seconds from the entry's time to the next attempt, drawn once.
        held: the worker keeps the lane while it waits.
        effect: the attempt may have had an effect.
        error_type: the class of the exception, by its name.
        code: what ``Abort`` was given, as JSON; likewise ``details``.
    """

    kind = "failed"
    outcome: str = "unknown"
    error: str = ""
    traceback: str | None = None
    wait: float | None = None
    held: bool = False
    effect: bool = True
    error_type: str | None = None
    code: Any = None
    details: Any = None


@dataclass(frozen=True, slots=True)
class AttemptTimedOut(AttemptEvent):
    """The attempt was not over at its deadline; the next worker that claims the lane asks the retry policy."""

    kind = "attempt_timed_out"


@dataclass(frozen=True, slots=True)
class AttemptLost(AttemptEvent):
    """The worker that ran the attempt is gone; the next worker that claims the lane asks the retry policy."""

    kind = "attempt_lost"


@dataclass(frozen=True, slots=True)
class AttemptInterrupted(AttemptEvent):
    """The worker was told to stop and gave the lane back. The step did not fail, so this costs no attempt."""

    kind = "attempt_interrupted"
    error: str = ""


@dataclass(frozen=True, slots=True)
class LateResult(AttemptEvent):
    """The result of an attempt that had been declared over: evidence, never used."""

    kind = "late_result"
    outcome: str = ""
    error: str | None = None
    result: Any = None
    error_type: str | None = None
    code: Any = None
    details: Any = None


@dataclass(frozen=True, slots=True)
class Request(Event):
    """Something an operator asked for; ``by`` says who, ``reason`` why.

    Attributes:
        session_user: the operator's role in Postgres, as the database says it.
    """

    by: str | None = None
    reason: str | None = None
    session_user: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class CancelRequested(Request):
    """Roll back what is under way."""

    kind = "cancel_requested"


@dataclass(frozen=True, slots=True)
class CompensateRequested(Request):
    """Undo a saga that had completed."""

    kind = "compensate_requested"


@dataclass(frozen=True, slots=True)
class Paused(Request):
    """Start nothing new."""

    kind = "paused"


@dataclass(frozen=True, slots=True)
class Resumed(Request):
    """Go on after a pause."""

    kind = "resumed"


@dataclass(frozen=True, slots=True)
class RetryRequested(Request):
    """Give everything stuck or waiting a fresh budget, now."""

    kind = "retry_requested"


@dataclass(frozen=True, slots=True)
class StepSkipped(Request):
    """A stuck step was settled by hand: an action with a result, or an undo.

    Attributes:
        undo_later: the action is to be undone if the saga is rolled back later.
    """

    kind = "step_skipped"
    lane: str = ""
    step: str = ""
    undo: bool = False
    result: Any = None
    undo_later: bool = False


@dataclass(frozen=True, slots=True)
class Abandoned(Request):
    """Ended without undoing more."""

    kind = "abandoned"


@dataclass(frozen=True, slots=True)
class DeadlinePassed(Event):
    """The saga's own deadline came before its end."""

    kind = "deadline_passed"


@dataclass(frozen=True, slots=True)
class HistoryLost(Event):
    """Entries that a worker knew are gone, as after a failover to a standby that lagged: evidence, never used.

    Attributes:
        known: the last entry that the worker knew.
        entries: ``seq``, ``kind``, ``lane``, ``step`` and ``attempt`` of those that it had lately written itself.
    """

    kind = "history_lost"
    known: int = 0
    entries: Any = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log.

    Attributes:
        seq: its position, from 1.
        at: when it was written, by the database's clock; ``None`` only before it is.
        worker: the number of the worker that wrote it.
    """

    seq: int
    event: Event
    at: datetime | None = None
    worker: int | None = None

    @property
    def kind(self) -> str:
        """The kind as it is stored, in the past tense."""
        return kind_of(self.event)

    @property
    def lane(self) -> str | None:
        """The lane it concerns, if it concerns one."""
        return getattr(self.event, "lane", None)

    @property
    def step(self) -> str | None:
        """The step it concerns, if it concerns one."""
        return getattr(self.event, "step", None)

    @property
    def attempt(self) -> int | None:
        """The number of the attempt it concerns, if it concerns one."""
        return getattr(self.event, "attempt", None)

    @property
    def data(self) -> dict[str, Any]:
        """What else the event says."""
        return data_of(self.event)


_PHASED: tuple[type[AttemptEvent], ...] = (AttemptStarted, AttemptSucceeded, AttemptFailed)
"""Their kinds begin with the phase; of the others about attempts, the data says it where it is not the action's."""
_COLUMNS = ("lane", "step", "attempt", "phase")
_KINDS: dict[str, tuple[type[Event], dict[str, Any]]] = {
    event.kind: (event, {})
    for event in (SagaStarted, AttemptTimedOut, AttemptLost, AttemptInterrupted, LateResult, CancelRequested,
                  CompensateRequested, Paused, Resumed, RetryRequested, StepSkipped, Abandoned, DeadlinePassed, HistoryLost)
}  # fmt: skip
_KINDS |= {f"{phase}_{event.kind}": (event, {"phase": phase}) for event in _PHASED for phase in Phase}

_NOTHING = type(None)
_STORED_AS: dict[str, frozenset[type]] = {
    "str": frozenset({str}),
    "str | None": frozenset({str, _NOTHING}),
    "bool": frozenset({bool}),
    "int": frozenset({int}),
    "int | None": frozenset({int, _NOTHING}),
    "list[str] | None": frozenset({list, _NOTHING}),
    "float": frozenset({float, int, _NOTHING}),  # a claim stores null for a step that its definition does not have
    "float | None": frozenset({float, int, _NOTHING}),
    "dict[str, str] | None": frozenset({dict, _NOTHING}),
}
"""The annotation of a field to the types that JSON has for its values; whatever is not here may be anything."""
_TYPES: dict[type[Event], dict[str, frozenset[type]]] = {
    event: {f.name: _STORED_AS[str(f.type)] for f in fields(event) if str(f.type) in _STORED_AS}
    for event, _ in _KINDS.values()
}
_COLUMN_TYPES = {"lane": str, "step": str, "attempt": int}
_PRIORITIES = range(256)

KINDS = tuple(sorted(_KINDS))
"""Every kind an entry can be of."""


def kind_of(event: Event) -> str:
    """The kind under which an event is stored: what an undo does is told apart from what a step does."""
    return f"{event.phase}_{event.kind}" if isinstance(event, _PHASED) else event.kind


_DEFAULTS: dict[type[Event], list[tuple[str, Any]]] = {
    event: [(f.name, f.default) for f in fields(event) if f.name not in _COLUMNS] for event, _ in _KINDS.values()
}


def data_of(event: Event) -> dict[str, Any]:
    """What an event says beyond the log's own columns, defaults left out."""
    data = {}
    if isinstance(event, AttemptEvent) and not isinstance(event, _PHASED):
        data = event.phase.data
    for name, default in _DEFAULTS[type(event)]:
        value = getattr(event, name)
        if value != default or type(value) is not type(default):
            data[name] = value
    return data


def entry_from_row(saga_id: UUID, row: tuple[Any, ...]) -> Entry:
    """Read ``(seq, kind, lane, step, attempt, data, worker, at, format)`` as it stands in the log.

    Raises:
        CorruptLog: the entry is damaged, or of a kind or format that this version does not know.
    """
    seq, kind, lane, step, attempt, data, worker, at, format_ = row
    if format_ > FORMAT:
        raise CorruptLog(
            f"saga {saga_id}, entry {seq}: format {format_} is newer than this pgsaga reads ({FORMAT}): upgrade it"
        )
    try:
        event, implied = _KINDS[kind]
    except KeyError:
        raise CorruptLog(
            f"saga {saga_id}, entry {seq}: unknown kind {kind!r}; a newer pgsaga may have written it"
        ) from None
    try:
        return Entry(seq, _built(event, _columns(event, lane, step, attempt), implied, data), at, worker)
    except (AttributeError, TypeError, ValueError) as error:
        raise CorruptLog(f"saga {saga_id}, entry {seq}: damaged {kind}: {error}") from None


def _columns(
    event: type[Event], lane: str | None, step: str | None, attempt: int | None
) -> Mapping[str, str | int | None]:
    if issubclass(event, AttemptEvent):
        return {"lane": lane, "step": step, "attempt": attempt}
    if issubclass(event, StepSkipped):
        return {"lane": lane, "step": step}
    return {}


def _built(
    event: type[Event], columns: Mapping[str, Any], implied: Mapping[str, Any], data: Mapping[str, Any]
) -> Event:
    for name, value in columns.items():
        if type(value) is not _COLUMN_TYPES[name]:
            raise ValueError(f"it has no {name}")
    types = _TYPES[event]
    for name, value in data.items():
        if name in types and type(value) not in types[name]:
            raise ValueError(f"its {name} is of the wrong type")
    if issubclass(event, AttemptEvent) and not implied:
        implied, data = Phase.read(data)
    found = event(**columns, **implied, **data)
    if isinstance(found, AttemptFailed) and found.outcome not in OUTCOMES:
        raise ValueError(f"unknown outcome {found.outcome!r:.100}")
    if isinstance(found, SagaStarted) and found.priority is not None and found.priority not in _PRIORITIES:
        raise ValueError("its priority is none")
    if isinstance(found, SagaStarted) and not all(type(name) is str for name in found.asks or ()):
        raise ValueError("its asks is of the wrong type")
    return found
