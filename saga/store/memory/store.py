"""The store in memory: one verb at a time, each all or nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import Any
from uuid import UUID

from saga.core.due import Due
from saga.core.events import Entry
from saga.core.outline import Outline
from saga.core.rows import Dispatch
from saga.errors import InputError, brief
from saga.store.memory import due, log, purge, schedules, signals, work
from saga.store.memory.clock import VirtualClock
from saga.store.memory.rounds import MemoryRounds
from saga.store.memory.tables import Member, Tables, Transaction
from saga.store.memory.transaction import MemoryConnection, MemoryTransaction
from saga.store.values import Addition, End, Header, Lane, Offer, Opening, Schedule, Signal, Stored, Ticks, Wish


class MemoryStore:
    """The logs in one process's memory, as one of those who share them sees them; safe to share between threads.

    Args:
        realm: whose work this one does.
        tables: what it shares with others; its own if not said.

    Attributes:
        clock: of all who share it. Nothing else moves the time on.
    """

    name = "memory"

    def __init__(self, realm: str = "", tables: Tables | None = None) -> None:
        self.realm = realm
        self.tables = tables or Tables(VirtualClock())
        self.clock = self.tables.clock

    def beside(self, realm: str) -> MemoryStore:
        """The same logs, as one of another realm sees them."""
        return MemoryStore(realm, self.tables)

    @contextmanager
    def _asked(self) -> Iterator[Transaction]:
        """A transaction for one verb."""
        with self.tables.lock:
            within = Transaction(self.tables)
            try:
                yield within
                within.commit()
            finally:
                within.drop()

    # --- what the store is told by tests, and by those who are no part of the port --------------------------------------

    def connect(self) -> MemoryConnection:
        """A caller's connection, on which starts can be part of a transaction."""
        return MemoryConnection(self.tables)

    def enrol(self, worker: int, fingerprints: Sequence[str], queues: Sequence[str]) -> None:
        """Have a worker that lives, and what it tells of itself. It dies when its number leaves ``tables.living``."""
        with self.tables.lock:
            self.tables.living.add(worker)
            self.tables.members[worker] = Member(self.realm, frozenset(queues), frozenset(fingerprints))

    def see_ping(self, queue: str, number: int, realm: str = "") -> None:
        """Note that a ping came through."""
        with self.tables.lock:
            due.see_ping(self.tables, realm, queue, number)

    def restart(self) -> None:
        """Let the server start anew: what is committed stays."""
        with self.tables.lock:
            self.tables.restart()

    # --- the port -------------------------------------------------------------------------------------------------------

    def breaks(self) -> int:
        return self.tables.restarts

    def hold(self) -> AbstractContextManager[None]:
        return nullcontext()

    # --- reading

    def entries(self, saga_id: UUID, after: int = 0, until: int | None = None) -> list[Entry]:
        with self._asked() as within:
            return log.read_entries(within, saga_id, after, until)

    def entries_from(self, saga_id: UUID, seq: int, at: datetime | None) -> list[Entry]:
        with self._asked() as within:
            return log.read_on(within, saga_id, seq, at)

    def header(self, saga_id: UUID) -> Header | None:
        with self._asked() as within:
            return log.read_header(within, saga_id)

    def statuses(self, ids: Sequence[UUID]) -> dict[UUID, str]:
        with self._asked() as within:
            return {saga_id: rows.header.status for saga_id in ids if (rows := within.saga(saga_id)) is not None}

    def ends(self, ids: Sequence[UUID], logs: Sequence[UUID]) -> dict[UUID, End]:
        with self._asked() as within:
            return log.read_ends(within, ids, logs)

    def holders(self, name: str, keys: Sequence[str | None]) -> list[tuple[UUID, str] | None]:
        with self._asked() as within:
            return log.read_holders(within, name, keys)

    def definition(self, fingerprint: str) -> Outline | None:
        with self._asked() as within:
            return log.read_definition(within, fingerprint)

    # --- starting

    def register(self, outline: Outline, patience: float) -> None:
        with self._asked() as within:
            log.register(within, outline, patience)

    def open(self, sagas: Sequence[Opening], patience: float) -> set[UUID]:
        with self._asked() as within:
            return log.open_sagas(within, sagas, self.realm, patience)

    def joined(self, connection: Any) -> JoinedMemory:
        if not isinstance(connection, MemoryConnection):
            raise InputError(f"connection={brief(connection)} expected one that MemoryStore.connect() gave")
        return JoinedMemory(self, connection.transaction(), connection)

    # --- schedules

    def put_schedule(self, schedule: Schedule) -> None:
        with self._asked() as within:
            schedules.put(within, schedule, self.realm)

    def schedules(self) -> list[Schedule]:
        with self.tables.lock:
            return schedules.read(self.tables, self.realm)

    def pause_schedule(self, name: str) -> bool:
        with self._asked() as within:
            return schedules.pause(within, self.realm, name)

    def resume_schedule(self, name: str, next_tick: datetime | None = None) -> bool:
        with self._asked() as within:
            return schedules.resume(within, self.realm, name, next_tick)

    def remove_schedule(self, name: str) -> bool:
        with self._asked() as within:
            return schedules.remove(within, self.realm, name)

    def due_schedules(self, limit: int) -> Ticks:
        with self.tables.lock:
            return schedules.read_due(self.tables, self.realm, limit)

    def advance_schedule(
        self, schedule: Schedule, next_tick: datetime | None, openings: Sequence[Opening], patience: float
    ) -> set[UUID] | None:
        with self._asked() as within:
            return schedules.advance(within, schedule, next_tick, openings, self.realm, patience)

    # --- progress

    def append(self, additions: Sequence[Addition], worker: int | None) -> dict[UUID, Stored]:
        with self._asked() as within:
            return log.append(within, additions, worker)

    def request(self, addition: Addition) -> datetime | None:
        with self._asked() as within:
            return log.request(within, addition)

    def post(self, signal: Signal) -> bool:
        with self._asked() as within:
            return signals.post(within, signal)

    def purge(self, age: float, after: UUID | None, limit: int) -> tuple[int, UUID | None]:
        with self.tables.lock:
            return purge.purge(self.tables, age, after, limit)

    def claim(self, wishes: Sequence[Wish], worker: int, limits: str) -> dict[Lane, Offer]:
        with self._asked() as within:
            return work.claim(within, wishes, worker, self.realm, work.read_limits(limits))

    def transaction(self, timeout: float) -> MemoryTransaction:
        return MemoryTransaction(self.tables, timeout, lambda within: JoinedMemory(self, within))

    # --- lanes

    def owned(self, worker: int) -> list[UUID]:
        with self._asked() as within:
            return work.owned_tokens(within, worker)

    def give_back(self, worker: int, tokens: Sequence[UUID]) -> list[Dispatch]:
        with self._asked() as within:
            return due.free_unrun(within, worker, tokens)

    def park(self, saga_id: UUID, lane: str, problem: str, *, unknown: bool = False) -> None:
        with self._asked() as within:
            work.park(within, saga_id, lane, problem, unknown=unknown)

    def sleep_on(self, saga_id: UUID, lane: str, seen: datetime, due: Due) -> bool:
        with self._asked() as within:
            return work.sleep_on(within, saga_id, lane, seen, due)

    def hand_on(self, saga_id: UUID, lane: str, worker: int) -> list[Dispatch]:
        with self._asked() as within:
            return work.hand_on(within, saga_id, lane, worker)

    def offer_on(self, lanes: Sequence[Lane], *, alone: bool) -> list[Dispatch]:
        with self._asked() as within:
            return work.offer_on(within, lanes, alone=alone)

    def rounds(self, publish: Callable[[Sequence[Any]], None], batch: int) -> MemoryRounds:
        return MemoryRounds(self.tables, self.realm, publish, batch, self._asked)


class JoinedMemory(MemoryStore):
    """The store inside a transaction that somebody else began.

    Args:
        connection: of the caller whose transaction it is. A verb that fails is undone there by itself; in a step's
            transaction it is the end of it.
    """

    def __init__(self, store: MemoryStore, within: Transaction, connection: MemoryConnection | None = None) -> None:
        super().__init__(store.realm, store.tables)
        self._within = within
        self._connection = connection
        within.thread = threading.get_ident()

    @contextmanager
    def _asked(self) -> Iterator[Transaction]:
        with self.tables.lock:
            self._within.require_sound()
            back = self._within.mark()
            try:
                yield self._within
            except BaseException:
                back()
                self._within.failed = self._connection is None
                raise

    def on_commit(self, follow_up: Callable[[], None]) -> bool:
        if self._connection is None:
            return False
        self._connection.on_commit(follow_up)
        return True
