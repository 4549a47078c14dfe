"""Draft: an event of a saga and all that follows from it, before it is written and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from saga.core.commands import RunStep
from saga.core.events import Entry, Event
from saga.core.machine import beginning, extend
from saga.core.outline import Outline
from saga.core.rows import Changes, Dispatch
from saga.core.state import State
from saga.errors import CorruptLog
from saga.language.definition import Saga
from saga.store.values import NewStatus


@dataclass(frozen=True, slots=True)
class Instance:
    """The saga that is written about.

    Attributes:
        saga: its definition, if this process has exactly that one.
        foreign: it is of another realm, whose relay sends its messages.
    """

    id: UUID
    outline: Outline
    saga: Saga | None
    foreign: bool = False

    @classmethod
    def of(cls, saga_id: UUID, saga: Saga) -> Instance:
        """A saga whose definition is at hand."""
        return cls(saga_id, saga.outline, saga)

    def __str__(self) -> str:
        return f"{self.outline.name}[{self.id}]"

    def replay(self, entries: Sequence[Entry], known: State | None = None) -> State:
        """The state that entries of the stored log give, from the first one on or from those already known.

        Raises:
            CorruptLog: an entry is missing, or does not fit those before it; the text names saga and seq.
        """
        seq = known.seq if known else 0
        if entries and entries[-1].seq != seq + len(entries):
            missing = next(number for number, entry in enumerate(entries, seq + 1) if entry.seq != number)
            raise CorruptLog(f"saga {self.id}, entry {missing} is missing")
        state = beginning(self.outline, known)
        try:
            extend(self.outline, state, entries)
        except Exception as error:  # whatever a damaged log does to the machine, which checks nothing
            text = f"it does not fit the entries before it: {type(error).__name__}: {error}"
            raise CorruptLog(f"saga {self.id}, entry {state.seq + 1}: {text}") from error
        return state


@dataclass(frozen=True, slots=True)
class Lease:
    """The worker that writes: its number, and the token under which it owns its lane."""

    worker: int
    token: UUID
    queue: str


@dataclass(frozen=True, slots=True)
class Draft:
    """An event, or several, and all that follows from it, ready to be appended after ``state``.

    Attributes:
        after: the state with the events, but for the start of what is kept.
        kept: the attempt that the writer starts in the same statement and goes on with.
        before: the saga's own deadline, if an action is started: after it, nothing of this is appended.
    """

    instance: Instance
    state: State
    after: State
    events: tuple[Event, ...]
    worker: int | None
    changes: Changes | None = None
    status: NewStatus | None = None
    kept: RunStep | None = None
    before: datetime | None = None

    def is_too_late(self, state: State) -> bool:
        """Whether the saga's deadline kept it out of the log: a later state shows that no other entry came first."""
        return self.before is not None and (state.seq, state.at) == (self.state.seq, self.state.at)


class Advance(NamedTuple):
    """How far a writer came.

    Attributes:
        state: the last that it knows.
        draft: what it last wanted to append; ``None`` when there was nothing more to append.
        written: that it was appended; ``None`` when others kept coming first.
    """

    state: State
    draft: Draft | None = None
    written: Written | None = None

    @property
    def entered(self) -> tuple[Draft, Written] | None:
        """What was appended, if anything was."""
        return None if self.draft is None or self.written is None else (self.draft, self.written)


@dataclass(frozen=True, slots=True)
class Written:
    """A draft that won: its entries, the state after them, when that was, and the messages that are owed."""

    entries: Sequence[Entry]
    state: State
    at: datetime
    kept: RunStep | None
    dispatches: Sequence[Dispatch]
