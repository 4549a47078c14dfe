"""Values: what is asked of a store, what it answers, and what it raises."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

from saga.core.events import Entry, Event, SagaStarted, data_of, entry_from_row
from saga.core.ref import Parent
from saga.core.rows import Changes, Dispatch, Place
from saga.errors import DatabaseNotReady, SagaError

Lane = tuple[UUID, str]
"""A saga and one of its lanes."""


class Busy(DatabaseNotReady):
    """Another transaction, still open, holds what is needed."""

    refused = True


class Refused(SagaError):
    """The store does not take that, however often it is tried; nothing of it is stored."""


class ValueRefused(Refused):
    """It does not take one of the values."""


Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """A saga without its log: its row in ``instance``.

    Attributes:
        tags: as they were given.
        reason: what it is stuck on, else why it was abandoned or is rolled back.
        realm: whose it is; empty: any app's.
        parent: of which saga it is a part.
    """

    id: UUID
    name: str
    fingerprint: str
    key: str | None
    status: str
    reason: str | None
    tags: Any
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    realm: str = ""
    parent: Parent | None = None


@dataclass(frozen=True, slots=True)
class NewStatus:
    """What the instance's row is to say from now on.

    Attributes:
        parent: of a part of another saga: whose lane is to be told. A status that is terminal or stuck, or follows on stuck,
            makes that lane due at once, if it is free and without an attempt, and its problem says if this saga is stuck.
    """

    status: str
    reason: str | None
    terminal: bool
    parent: Parent | None = None


@dataclass(frozen=True, slots=True)
class Addition:
    """What is to be appended to one saga's log: events from ``seq`` on, with all that follows from them.

    Attributes:
        before: the saga's deadline, where one of the events starts an action: after it, nothing is appended.
        after: when the entry before was written, if that is to be looked at, too. A log that does not have the entry
            before, as after a failover to a standby that lagged, takes nothing.
        not_before: before that moment, by the store's clock, nothing is appended: the twin of ``before``.
        openings: parts of this saga that begin with this, in the same transaction. Their realm is its own; if a key of theirs
            is taken, the append is ``Refused``.
        signal_key: nothing is appended if the log has a ``signal_received`` with this key.
    """

    saga_id: UUID
    seq: int
    events: Sequence[Event]
    changes: Changes | None = None
    status: NewStatus | None = None
    before: datetime | None = None
    after: datetime | None = None
    not_before: datetime | None = None
    openings: Sequence[Opening] = ()
    signal_key: str | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal that is sent in a caller's transaction, until its saga's log has it.

    Attributes:
        name: with the element that it is for, as in ``approval[3]``.
        payload: JSON.
        by: who sends it, and ``reason`` why.
    """

    saga_id: UUID
    name: str
    payload: Any = None
    key: str | None = None
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """That an addition won.

    Attributes:
        at: when, by the store's clock.
        woken: the message that offers the parent's lane.
    """

    at: datetime
    woken: tuple[Dispatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """A lane that a worker wants.

    Attributes:
        token: of the claim, should it win.
        known: the last entry of its saga that the worker has, and when that was written.
    """

    saga_id: UUID
    lane: str
    token: UUID
    known: int = 0
    known_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """What became of a wish.

    Attributes:
        attempt: to make; ``None`` if the worker that takes the lane has to decide first, also whether the saga is too late.
        open: the lane was free and due.
        won: the lane is taken, and the start of its attempt appended.
        entries: the columns of what the log has after the entries that were known, the new one last. Of the whole log, if
            it does not have those; empty, if the lane is neither taken nor to be decided about.
        due: of a lane that is to be decided about, since when; who finds nothing to do tells ``sleep_on``.
    """

    fingerprint: str
    attempt: int | None
    queue: str
    open: bool
    won: bool
    entries: list[Row]
    due: datetime | None = None


@dataclass(frozen=True, slots=True)
class End:
    """Where a saga stands, for a caller that waits for its end.

    Attributes:
        ended: it is finished or stuck.
        rows: the columns of its entries, if it has ended and they were asked for.
    """

    fingerprint: str
    status: str
    ended: bool
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Opening:
    """A new saga: what its row in the index is to say, its first entry, and its first rows of work.

    Attributes:
        tags: as JSON.
        input_hash: what a second start under the same key is compared by.
        sent: the messages of what is due at once go out right after the commit.
        parent: of which saga it is a part; its first entry says it, too.
    """

    id: UUID
    name: str
    fingerprint: str
    key: str | None
    tags: Any
    input_hash: str
    started: SagaStarted
    rows: Sequence[Place]
    sent: bool
    parent: Parent | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The data of its first entry."""
        said = data_of(self.started)
        return said if self.parent is None else {**said, "parent": self.parent.data}

    @property
    def dispatches(self) -> list[Dispatch]:
        """The messages to send once it is committed."""
        return [
            Dispatch(self.id, place.lane, place.queue, place.priority)
            for place in self.rows
            if place.sent and self.sent and place.queue
        ]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A saga that is started again and again.

    Attributes:
        name: of the schedule, in its realm.
        saga: the name of the saga.
        input: JSON, the same each time.
        key_prefix: what the keys of the sagas begin with; a slash and the time they are started for come after it.
        spec: JSON that says when; who advances the schedule understands it.
        missed: what becomes of times that nobody was there for.
        next_tick: when it is to start a saga next; ``None`` for never again.
        last_tick: the time before, for which it did.
    """

    name: str
    saga: str
    input: Any
    key_prefix: str
    spec: Any
    missed: str
    next_tick: datetime | None
    paused: bool = False
    last_tick: datetime | None = None
    realm: str = ""


@dataclass(frozen=True, slots=True)
class Ticks:
    """The schedules whose time has come, the longest due first; and the time, by the store's clock."""

    now: datetime
    due: list[Schedule]


class TransactionEnded(SagaError):
    """The step ended the transaction that the log's entry was to be part of."""

    def __init__(self) -> None:
        super().__init__("the step ended the log's own transaction; leave the commit and the rollback to the saga")


def entries_of(saga_id: UUID, rows: Iterable[Row]) -> list[Entry]:
    """Rows of the log as entries.

    Raises:
        CorruptLog: one of them is damaged.
    """
    return [entry_from_row(saga_id, row) for row in rows]


@dataclass(frozen=True, slots=True)
class Ping:
    """A numbered message that follows a queue's unclaimed work, to learn whether the broker still has that work.

    Attributes:
        number: when it was sent, in microseconds since 1970 by the database's clock.
        realm: whose work it follows.
    """

    queue: str
    number: int
    priority: int | None
    realm: str = ""


class NotMyTurn(Exception):
    """Another process is the relay."""


class Task(Enum):
    """What a relay does to lanes."""

    SEND_DUE = "send due"
    SEND_LOST = "send lost"
    TIME_OUT = "time out"
    LOSE = "lose"
    WATCH_ON = "watch on"
