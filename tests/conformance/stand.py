"""A stand: a store with all around it that a test moves: the time, who lives, a caller's transaction, pings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from saga.core.due import Due
from saga.core.events import AttemptStarted, AttemptSucceeded, Event, SagaStarted
from saga.core.outline import DEADLINE, Fork, Outline
from saga.core.ref import Parent, Phase
from saga.core.rows import Changes, Dispatch, Place
from saga.core.text import dumps
from saga.store.port import Rounds, Store
from saga.store.values import Addition, NewStatus, Offer, Opening, Ping, Task, Wish
from tests.unit.helpers import fork, outline_of

REALM = "conformance"
QUEUE = "celery"
LINE = outline_of("a", "b", "c", name="line")
FORKED = outline_of(fork("b", "c"), "d", name="forked")
TIMEOUT = 300.0


@dataclass(frozen=True)
class Row:
    """A row of work, as a test sees it.

    Attributes:
        due: seconds from now; ``None`` where it is due at once.
        sent: seconds since.
        until: seconds from now.
    """

    lane: str
    step: str
    attempt: int | None
    phase: str
    queue: str
    priority: int | None
    due: float | None
    watch: float
    sent: float | None
    dispatches: int
    worker: int | None
    token: UUID | None
    problem: str | None
    realm: str
    until: float | None


class Stand(ABC):
    """A store under test.

    Attributes:
        store: that of a process of the realm ``conformance``.
    """

    store: Store

    @abstractmethod
    def beside(self, realm: str) -> Store:
        """The same logs, as a process of another realm sees them."""

    @abstractmethod
    def pass_time(self, seconds: float) -> None:
        """Let so much time pass. Moments that were read before are not those that are read after."""

    @abstractmethod
    def now(self) -> datetime:
        """The moment it is, by the store's clock."""

    @abstractmethod
    def live(self, *workers: int) -> None:
        """Let workers live; all are dead at first."""

    @abstractmethod
    def die(self, worker: int) -> None:
        """Let a worker be gone."""

    @abstractmethod
    def enrol(self, worker: int, fingerprints: Sequence[str], queues: Sequence[str]) -> None:
        """Let a worker of the realm tell of itself."""

    @abstractmethod
    def members(self) -> set[int]:
        """The workers that have told of themselves."""

    @abstractmethod
    def see_ping(self, ping: Ping) -> None:
        """Let a ping come through."""

    @abstractmethod
    def connect(self) -> AbstractContextManager[Any]:
        """A caller's connection with an open transaction; it has ``commit`` and ``rollback``."""

    @abstractmethod
    def other_relay(self) -> AbstractContextManager[None]:
        """Where another process is the relay of the realm."""

    @abstractmethod
    def rows(self, saga_id: UUID) -> list[Row]:
        """The rows of work of a saga, in the order of their lanes."""

    # --- what tests do with it, on either ---------------------------------------------------------------------------------

    def row(self, saga_id: UUID) -> Row:
        """The only row of a saga."""
        [found] = self.rows(saga_id)
        return found

    def start(self, outline: Outline = LINE, **said: Any) -> UUID:
        """A new saga."""
        self.store.register(outline, 1.0)
        opening = opening_of(outline, **said)
        assert self.store.open([opening], 1.0) == {opening.id}
        return opening.id

    def kinds(self, saga_id: UUID) -> list[str]:
        """The kinds of its entries."""
        return [entry.kind for entry in self.store.entries(saga_id)]

    def at(self, saga_id: UUID, seq: int) -> datetime:
        """When an entry was written."""
        [entry] = self.store.entries(saga_id, seq - 1, seq)
        assert entry.at is not None
        return entry.at

    def append(self, saga_id: UUID, *events: Event, worker: int | None = 1, **said: Any) -> bool:
        """Append at the next place, or at ``seq``; whether it won."""
        addition = Addition(saga_id, said.pop("seq", len(self.kinds(saga_id)) + 1), events, **said)
        return self.store.append([addition], worker).keys() == {saga_id}

    def claim(self, saga_id: UUID, *lanes: str, worker: int = 1, store: Store | None = None) -> dict[str, Offer]:
        """Claim lanes of a saga, by default the main one; nothing of its log is known."""
        wishes = [Wish(saga_id, lane, uuid4()) for lane in lanes or ["main"]]
        return {lane: offer for (_, lane), offer in (store or self.store).claim(wishes, worker, LIMITS).items()}

    def claimed(self, saga_id: UUID, lane: str = "main", worker: int = 1) -> UUID:
        """Claim a lane that can be claimed; returns its token."""
        assert self.claim(saga_id, lane, worker=worker)[lane].won
        [token] = [row.token for row in self.rows(saga_id) if row.lane == lane]
        assert token is not None
        return token

    def relay(self, batch: int = 500, store: Store | None = None) -> Relaying:
        """The relay of the realm."""
        return Relaying(store or self.store, batch)


class Relaying:
    """A relay, and what it has sent.

    Attributes:
        sent: since it was last looked at by ``lanes``.
    """

    def __init__(self, store: Store, batch: int) -> None:
        self.sent: list[Any] = []
        self.rounds: Rounds = store.rounds(self.sent.extend, batch)
        self.rounds.enrol()
        self._realm = store.realm

    def do(self, task: Task, **which: Any) -> list[str]:
        """Do something once, at a look of its own; the lanes whose messages were sent."""
        self.sent.clear()
        self.rounds.absent()
        if task is Task.SEND_LOST:
            which = {"realm": self._realm, "after": "", "lots": 500, **which}
        self.rounds.do(task, **which)
        return self.lanes

    def ping(self, after: str = "", lots: int = 500) -> list[Ping]:
        """Send the pings that are due."""
        self.sent.clear()
        self.rounds.ping(self._realm, after, lots)
        return [message for message in self.sent if isinstance(message, Ping)]

    @property
    def lanes(self) -> list[str]:
        """The lanes whose messages were sent."""
        return sorted(message.lane for message in self.sent if isinstance(message, Dispatch))


def opening_of(
    outline: Outline, *, key: str | None = None, tags: Any = None, delay: float = 0.0, sent: bool = True, queue: str = QUEUE,
    deadline: float | None = None, priority: int | None = None, input: Any = None,
    hash: str = "hash", id: UUID | None = None, parent: Parent | None = None,
) -> Opening:  # fmt: skip
    """What opens a saga of an outline."""
    first = outline.main.items[0]
    lanes = list(first.lanes) if isinstance(first, Fork) else [outline.main]
    due = Due(None, delay) if delay else None
    places = [
        Place(lane.name, lane.items[0].name, 1, Phase.STEP, queue, priority, due, sent=due is None)  # type: ignore[union-attr]
        for lane in lanes
    ]
    if deadline is not None:
        places.append(Place(DEADLINE, "", None, Phase.STEP, queue, priority, Due(None, deadline)))
    started = SagaStarted(input, deadline=deadline, delay=delay or None)
    return Opening(id or uuid4(), outline.name, outline.fingerprint, key, tags, hash, started, places, sent, parent)


def limits_of(*outlines: Outline, timeout: float = TIMEOUT) -> str:
    """What a worker that has these definitions claims by."""
    steps = {outline.fingerprint: {name: {"timeout": timeout} for name in outline.steps} for outline in outlines}
    return dumps({print: dict.fromkeys(Phase, named) | {"watch": timeout} for print, named in steps.items()})


LIMITS = limits_of(LINE, FORKED)


def place(lane: str = "main", step: str = "b", attempt: int | None = 1, **said: Any) -> Place:
    """What a row is to say."""
    return replace(Place(lane, step, attempt, Phase.STEP, QUEUE), **said)


def changes(token: UUID | None = None, **said: Any) -> Changes:
    """What an entry changes in the rows."""
    return Changes(LINE.fingerprint, token, "default", **said)


def started(step: str = "a", attempt: int = 1, lane: str = "main", *, phase: Phase = Phase.STEP) -> AttemptStarted:
    """That an attempt was started."""
    return AttemptStarted(lane, step, attempt, phase, timeout=TIMEOUT)


def succeeded(step: str = "a", attempt: int = 1, lane: str = "main", result: Any = None) -> AttemptSucceeded:
    """That an attempt succeeded."""
    return AttemptSucceeded(lane, step, attempt, result=result)


COMPLETED = NewStatus("completed", None, True)
