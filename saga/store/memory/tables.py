"""Tables: what a store in memory holds, and transactions on it.

A transaction works on copies of the sagas that it writes to, and has those to itself until it ends: others see what was
committed before, and wait if they want to write there. One lock guards it all.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from saga.core.events import FORMAT
from saga.core.ref import Phase
from saga.store.memory.clock import VirtualClock
from saga.store.memory.jsonb import require
from saga.store.values import Busy, Header, Refused, Row, Schedule, Signal

CENTURY = timedelta(hours=876_000)
"""What is due at once is due a century ago: before all that is due by the clock."""
AT_ONCE_BEFORE = datetime(1980, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Record:
    """An entry of a log: a row as ``entry_from_row`` reads it, its data as text."""

    seq: int
    kind: str
    lane: str | None
    step: str | None
    attempt: int | None
    data: str
    worker: int | None
    at: datetime

    def __post_init__(self) -> None:
        require((self.seq == 1) == (self.kind == "saga_started"), "log_opens_with_start")
        require(self.attempt is None or self.attempt > 0, "log_attempt_positive")

    def row(self) -> Row:
        """Its columns; each reader has the data to itself."""
        return (self.seq, self.kind, self.lane, self.step, self.attempt, json.loads(self.data), self.worker, self.at,
                FORMAT)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Work:
    """A row of work: a lane that waits for a worker, or that one has."""

    lane: str
    step: str
    attempt: int | None
    phase: Phase
    fingerprint: str
    queue: str
    priority: int | None
    due_at: datetime
    watch: float = 0.0
    sent: datetime | None = None
    dispatches: int = 0
    worker: int | None = None
    token: UUID | None = None
    problem: str | None = None
    realm: str = ""
    unknown: bool = False
    until: datetime | None = None

    def __post_init__(self) -> None:
        # What is given by name is not checked by the types alone: Postgres has no row without them.
        require(None not in (self.lane, self.step, self.queue, self.fingerprint, self.watch), "work, not null")
        require((self.worker is None) == (self.token is None), "work_claimed_with_token")
        require(self.attempt is None or self.attempt > 0, "work_attempt_positive")
        require(0 <= self.watch <= 1e9, "work_watch_bounded")

    @property
    def free(self) -> bool:
        """Whether no worker has it."""
        return self.worker is None


@dataclass(slots=True)
class SagaRows:
    """All that is kept of one saga."""

    header: Header
    tags: str
    input_hash: str
    log: list[Record] = field(default_factory=list)
    work: dict[str, Work] = field(default_factory=dict)

    def copy(self) -> SagaRows:
        """It, to be changed without changing the original."""
        return SagaRows(self.header, self.tags, self.input_hash, [*self.log], {**self.work})

    def entry(self, seq: int) -> Record | None:
        """The entry at that place: a log has no gap."""
        return self.log[seq - 1] if 0 < seq <= len(self.log) else None

    def change(self, lane: str, **values: Any) -> None:
        """Set columns of a row of work."""
        self.work[lane] = replace(self.work[lane], **values)


@dataclass(frozen=True, slots=True)
class Probe:
    """The last ping of a queue, and up to when what was sent is known to have had its turn."""

    sent_at: datetime
    through: datetime | None = None
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Member:
    """What a worker process tells of itself."""

    realm: str
    queues: frozenset[str]
    fingerprints: frozenset[str]


class Tables:
    """One log, for all processes that share it.

    Attributes:
        lock: held while anything is read or written.
        active: the sagas that have rows of work.
        definitions: fingerprint to the document, as text.
        signals: those that wait to be taken in, by number; ``posted`` is the last one's.
        schedules: by realm and name.
        relays: the realms that have a relay.
        relayed_elsewhere: those whose relay is another process just now; for tests to change.
        living: the numbers of the workers that live; for tests to change.
        restarted: when the server was started.
        restarts: how often that was done again.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.lock = threading.Condition()
        self.sagas: dict[UUID, SagaRows] = {}
        self.active: dict[UUID, SagaRows] = {}
        self.keys: dict[tuple[str, str], UUID] = {}
        self.definitions: dict[str, str] = {}
        self.relays: set[str] = set()
        self.relayed_elsewhere: set[str] = set()
        self.signals: dict[int, Signal] = {}
        self.posted = 0
        self.schedules: dict[tuple[str, str], Schedule] = {}
        self.probes: dict[tuple[str, str], Probe] = {}
        self.living: set[int] = set()
        self.members: dict[int, Member] = {}
        self.restarted = clock.now
        self.restarts = 0
        self._held: dict[Hashable, Transaction] = {}

    @property
    def now(self) -> datetime:
        """The moment it is."""
        return self.clock.now

    @property
    def at_once(self) -> datetime:
        """When that is due which waits for nothing."""
        return self.clock.now - CENTURY

    def forget(self, saga_id: UUID) -> None:
        """Take out all there is of a saga."""
        header = self.sagas.pop(saga_id).header
        self.active.pop(saga_id, None)
        if header.key is not None:
            del self.keys[header.name, header.key]
        self.signals = {number: signal for number, signal in self.signals.items() if signal.saga_id != saga_id}

    def restart(self) -> None:
        """Let the server start anew: what is committed stays, what was open is lost."""
        self.restarted = self.now
        self.restarts += 1
        for open_one in set(self._held.values()):
            open_one.failed = True
            open_one.drop()

    def held(self, what: Hashable, but_by: Transaction | None = None) -> bool:
        """Whether an open transaction, another than that one, has written that."""
        return self._held.get(what, but_by) is not but_by

    def hold(self, what: Hashable, by: Transaction, patience: float | None) -> None:
        """Let a transaction have something to itself, once no other has it.

        Args:
            patience: seconds to wait; without end if there are none.

        Raises:
            Busy: another one still has it.
        """
        if self._held.get(what, by) is by:
            self._held[what] = by
            return
        other = self._held[what]
        if other.thread == threading.get_ident():
            self.clock.sleep(patience or 0.0)  # which ends in this thread or not at all
            raise Busy("another transaction of this thread, still open, holds what is needed")
        if not self.lock.wait_for(lambda: what not in self._held, patience):
            raise Busy("another transaction, still open, holds what is needed")
        self._held[what] = by

    def release(self, by: Transaction) -> None:
        """Let others have what a transaction had to itself."""
        self._held = {what: holder for what, holder in self._held.items() if holder is not by}
        self.lock.notify_all()


class Transaction:
    """Changes that show once they are committed; each method is called with the lock held.

    Attributes:
        thread: where it began.
        failed: it can only be rolled back.
    """

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.thread = threading.get_ident()
        self._sagas: dict[UUID, SagaRows] = {}
        self._keys: dict[tuple[str, str], UUID] = {}
        self._definitions: dict[str, str] = {}
        self._signals: list[Signal] = []
        self._schedules: dict[tuple[str, str], Schedule | None] = {}
        self._taken = False
        self.failed = False

    def require_sound(self) -> None:
        """Go on only if nothing in it has failed.

        Raises:
            Refused: something has.
        """
        if self.failed:
            raise Refused("the transaction has failed: it takes nothing more")

    def saga(self, saga_id: UUID) -> SagaRows | None:
        """A saga as this transaction sees it, not to be changed."""
        return self._sagas.get(saga_id) or self.tables.sagas.get(saga_id)

    def of_key(self, name: str, key: str) -> UUID | None:
        """The saga that has a key."""
        return self._keys.get((name, key)) or self.tables.keys.get((name, key))

    def definition(self, fingerprint: str) -> str | None:
        """The document of a definition."""
        return self._definitions.get(fingerprint) or self.tables.definitions.get(fingerprint)

    def signals(self) -> list[Signal]:
        """Those that wait to be taken in."""
        return [*self.tables.signals.values(), *self._signals]

    def post(self, signal: Signal) -> None:
        """Have one wait to be taken in."""
        self._signals.append(signal)

    def schedule(self, realm: str, name: str, patience: float) -> Schedule | None:
        """A schedule to be changed, once no other transaction changes it."""
        self._hold(("schedule", realm, name), patience)
        if (realm, name) in self._schedules:
            return self._schedules[realm, name]
        return self.tables.schedules.get((realm, name))

    def set_schedule(self, schedule: Schedule) -> None:
        """Have a schedule, in place of the one of its name."""
        self._schedules[schedule.realm, schedule.name] = schedule

    def drop_schedule(self, schedule: Schedule) -> None:
        """Have it no more."""
        self._schedules[schedule.realm, schedule.name] = None

    def take(self, saga_id: UUID) -> SagaRows | None:
        """A saga to be changed, once no other transaction changes it; ``None`` if there is none."""
        self._hold(saga_id, None)
        found = self._sagas.get(saga_id)
        if found is None and (known := self.tables.sagas.get(saga_id)) is not None:
            found = self._sagas[saga_id] = known.copy()
        return found

    def put(self, saga_id: UUID, rows: SagaRows, patience: float) -> bool:
        """Have a new saga; whether its id and its key were free."""
        key = (rows.header.name, rows.header.key) if rows.header.key is not None else None
        self._hold(saga_id, patience)
        if key is not None:
            self._hold(("key", *key), patience)
        if self.saga(saga_id) is not None or (key is not None and self.of_key(*key) is not None):
            return False
        self._sagas[saga_id] = rows
        if key is not None:
            self._keys[key] = saga_id
        return True

    def define(self, fingerprint: str, doc: str, patience: float) -> None:
        """Store a definition, unless it is."""
        if self.definition(fingerprint) is None:
            self._hold(("definition", fingerprint), patience)
            if self.definition(fingerprint) is None:
                self._definitions[fingerprint] = doc

    def _hold(self, what: Hashable, patience: float | None) -> None:
        self._taken = True
        self.tables.hold(what, self, patience)

    def mark(self) -> Callable[[], None]:
        """A savepoint; call what is returned to go back to it."""
        sagas = {saga_id: rows.copy() for saga_id, rows in self._sagas.items()}
        keys, definitions = {**self._keys}, {**self._definitions}
        signals, schedules = [*self._signals], {**self._schedules}

        def back() -> None:
            self._sagas, self._keys, self._definitions = sagas, keys, definitions
            self._signals, self._schedules = signals, schedules

        return back

    def commit(self) -> None:
        """Let all see what it wrote."""
        tables = self.tables
        tables.keys.update(self._keys)
        tables.definitions.update(self._definitions)
        for place, schedule in self._schedules.items():
            tables.schedules.pop(place, None)
            if schedule is not None:
                tables.schedules[place] = schedule
        for signal in self._signals:
            tables.posted += 1
            tables.signals[tables.posted] = signal
        for saga_id, rows in self._sagas.items():
            tables.sagas[saga_id] = rows
            if rows.work:
                tables.active[saga_id] = rows
            else:
                tables.active.pop(saga_id, None)
        self.drop()

    def drop(self) -> None:
        """Forget what it wrote and was not committed."""
        self._sagas, self._keys, self._definitions, self._signals, self._schedules = {}, {}, {}, [], {}
        if self._taken:
            self.tables.release(self)


def lanes(tables: Tables, saga_ids: Iterable[UUID] | None = None) -> list[tuple[UUID, Work]]:
    """The rows of work that nobody changes just now, of all sagas or of some, in the order of their sagas' ids."""
    found = sorted(tables.active if saga_ids is None else saga_ids)
    free = [saga_id for saga_id in found if not tables.held(saga_id) and saga_id in tables.active]
    return [(saga_id, work) for saga_id in free for work in tables.active[saga_id].work.values()]


def refuse_twice(rows: SagaRows, lane: str) -> None:
    """Keep to the primary key of work.

    Raises:
        Refused: the lane has a row.
    """
    if lane in rows.work:
        raise Refused(f"this violates the constraint work_pkey: lane {lane!r} has a row")
