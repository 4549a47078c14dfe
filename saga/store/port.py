"""Port: what the rest of the house asks of a store, whichever it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from saga.core.events import Event
from saga.core.rows import Changes

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """A saga without its log: its row in ``instance``.

    Attributes:
        tags: as they were given.
        reason: what it is stuck on, else why it was abandoned or is rolled back.
        realm: whose it is; empty: anybody's.
    """

    id: UUID
    name: str
    fingerprint: str
    key: str | None
    status: str
    reason: str | None
    tags: Any
    input_hash: str
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    realm: str = ""


@dataclass(frozen=True, slots=True)
class NewStatus:
    """What the instance's row is to say from now on."""

    status: str
    reason: str | None
    terminal: bool


@dataclass(frozen=True, slots=True)
class Addition:
    """What is to be appended to one saga's log: events from ``seq`` on, with all that follows from them.

    Attributes:
        before: the saga's deadline, where one of the events starts an action: after it, nothing is appended.
        after: when the entry before was written, if that is to be looked at, too. A log that does not have the entry
            before, as after a failover to a standby that lagged, takes nothing.
    """

    saga_id: UUID
    seq: int
    events: Sequence[Event]
    changes: Changes | None = None
    status: NewStatus | None = None
    before: datetime | None = None
    after: datetime | None = None


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
        attempt: to make; ``None`` where whoever takes the lane has to decide first, also whether the saga is too late.
        open: the lane was free and due.
        won: the lane is taken, and the start of its attempt appended.
        entries: the columns of what the log has after the entries that were known, the new one last; of the whole log
            where it does not have them; of a lane that is neither taken nor to be decided about, nothing.
    """

    fingerprint: str
    attempt: int | None
    queue: str
    open: bool
    won: bool
    entries: list[Row]


@dataclass(frozen=True, slots=True)
class End:
    """Where a saga stands, for who waits for its end.

    Attributes:
        ended: it is finished or stuck.
        rows: the columns of its entries, if it has ended and they were asked for.
    """

    fingerprint: str
    status: str
    ended: bool
    rows: list[Row]
