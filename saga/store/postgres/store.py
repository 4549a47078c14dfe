"""The store in Postgres: a verb is a statement, on a connection of its own or on the one that is held."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy

from saga.core.due import Due
from saga.core.events import Entry
from saga.core.outline import Outline
from saga.core.rows import Dispatch
from saga.crashpoints import reach
from saga.store.clock import REAL
from saga.store.port import Clock
from saga.store.postgres import appends, caller, claims, due, fleet, log, purge, schedules, search, signals, work
from saga.store.postgres.caller import CallerConnection
from saga.store.postgres.chores import Chores
from saga.store.postgres.database import Database, Link
from saga.store.postgres.errors import told_apart
from saga.store.postgres.transaction import StepTransaction
from saga.store.values import Addition, Busy, End, Header, Lane, Offer, Opening, Schedule, Signal, Stored, Ticks, Wish


class _Asked:
    """A connection for one verb. What its driver raises is told apart, once the connection has been given up."""

    __slots__ = ("_database", "_link")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._link: AbstractContextManager[Link] | None = None

    def __enter__(self) -> Link:
        self._link = self._database.link()
        try:
            return self._link.__enter__()
        except Exception as error:  # a pooled connection that was found broken
            if (known := told_apart(self._database, error)) is not None:
                raise known from error
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        assert self._link is not None
        self._link.__exit__(kind, error, trace)
        if isinstance(error, Exception) and (known := told_apart(self._database, error)) is not None:
            raise known from error


class PostgresStore:
    """The logs of one database, for one process; safe to share between threads, and usable after a fork."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.name = database.name
        self.clock: Clock = REAL
        self.realm = database.realm

    def breaks(self) -> int:
        with self._ask():
            return self.database.breaks  # to take a connection finds out whether it stands, and costs no round trip

    def _ask(self) -> AbstractContextManager[Link]:
        return _Asked(self.database)

    def hold(self) -> AbstractContextManager[None]:
        return self.database.hold()

    # --- reading

    def entries(self, saga_id: UUID, after: int = 0, until: int | None = None) -> list[Entry]:
        with self._ask() as link:
            return log.read_entries(link, saga_id, after, until)

    def entries_from(self, saga_id: UUID, seq: int, at: datetime | None) -> list[Entry]:
        with self._ask() as link:
            return log.read_on(link, saga_id, seq, at)

    def header(self, saga_id: UUID) -> Header | None:
        with self._ask() as link:
            return search.read_header(link, saga_id)

    def statuses(self, ids: Sequence[UUID]) -> dict[UUID, str]:
        with self._ask() as link:
            return search.read_statuses(link, ids)

    def ends(self, ids: Sequence[UUID], logs: Sequence[UUID]) -> dict[UUID, End]:
        with self._ask() as link:
            return log.read_ends(link, ids, logs)

    def holders(self, name: str, keys: Sequence[str | None]) -> list[tuple[UUID, str] | None]:
        with self._ask() as link:
            return search.read_holders(link, name, keys)

    def definition(self, fingerprint: str) -> Outline | None:
        with self._ask() as link:
            return log.read_definition(link, fingerprint)

    # --- starting

    def register(self, outline: Outline, patience: float) -> None:
        with self._ask() as link:
            log.register(link, outline, patience)

    def open(self, sagas: Sequence[Opening], patience: float) -> set[UUID]:
        rows, works = self._opened(sagas)
        with self._ask() as link:
            reach("start.before_open", link.connection)
            return set(log.open_sagas(link, rows, works, patience))

    def _opened(self, sagas: Sequence[Opening]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        # In the order of their keys: two batches that share keys would otherwise wait for each other.
        ordered = sorted(sagas, key=lambda saga: (saga.name, saga.key or "", str(saga.id)))
        rows = [log.header_row(saga) | {"realm": self.realm} for saga in ordered]
        return rows, [row for saga in ordered for row in log.work_rows(saga)]

    def joined(self, connection: CallerConnection) -> CallersStore:
        return CallersStore(self.database, connection)

    # --- schedules

    def put_schedule(self, schedule: Schedule) -> None:
        with self._ask() as link:
            schedules.put(link, schedule, self.realm)

    def schedules(self) -> list[Schedule]:
        with self._ask() as link:
            return schedules.read(link, self.realm)

    def pause_schedule(self, name: str) -> bool:
        with self._ask() as link:
            return schedules.pause(link, self.realm, name)

    def resume_schedule(self, name: str, next_tick: datetime | None = None) -> bool:
        with self._ask() as link:
            return schedules.resume(link, self.realm, name, next_tick)

    def remove_schedule(self, name: str) -> bool:
        with self._ask() as link:
            return schedules.remove(link, self.realm, name)

    def due_schedules(self, limit: int) -> Ticks:
        with self._ask() as link:
            return schedules.read_due(link, self.realm, limit)

    def advance_schedule(
        self, schedule: Schedule, next_tick: datetime | None, openings: Sequence[Opening], patience: float
    ) -> set[UUID] | None:
        rows, works = self._opened(openings)
        with self._ask() as link:
            return schedules.advance(link, schedule, next_tick, rows, works, patience)

    # --- progress

    def append(self, additions: Sequence[Addition], worker: int | None) -> dict[UUID, Stored]:
        with self._ask() as link:
            return appends.append(link, additions, worker)

    def request(self, addition: Addition) -> datetime | None:
        with self._ask() as link:
            return appends.request(link, addition)

    def post(self, signal: Signal) -> bool:
        with self._ask() as link:
            return signals.post(link, signal)

    def purge(self, age: float, after: UUID | None, limit: int) -> tuple[int, UUID | None]:
        with self._ask() as link:
            return purge.purge(link, age, after, limit)

    def claim(self, wishes: Sequence[Wish], worker: int, limits: str) -> dict[Lane, Offer]:
        with self._ask() as link:
            reach("claim.before", link.connection)
            return claims.claim(link, wishes, worker, self.realm, limits)

    def transaction(self, timeout: float) -> PostgresTransaction:
        return PostgresTransaction(self.database, timeout)

    # --- lanes

    def owned(self, worker: int) -> list[UUID]:
        with self._ask() as link:
            return work.owned_tokens(link, worker)

    def give_back(self, worker: int, tokens: Sequence[UUID]) -> list[Dispatch]:
        with self._ask() as link:
            return due.free_unrun(link, worker, tokens)

    def park(self, saga_id: UUID, lane: str, problem: str, *, unknown: bool = False) -> None:
        with self._ask() as link:
            work.park(link, saga_id, lane, problem, unknown=unknown)

    def sleep_on(self, saga_id: UUID, lane: str, seen: datetime, due: Due) -> bool:
        with self._ask() as link:
            return work.sleep_on(link, saga_id, lane, seen, due)

    def hand_on(self, saga_id: UUID, lane: str, worker: int) -> list[Dispatch]:
        with self._ask() as link:
            return fleet.hand_on(link, saga_id, lane, worker)

    def offer_on(self, lanes: Sequence[Lane], *, alone: bool) -> list[Dispatch]:
        with self._ask() as link:
            return work.offer_on(link, lanes, alone=alone)

    def rounds(self, publish: Callable[[Sequence[Any]], None], batch: int) -> Chores:
        return Chores(self.database, publish, batch)


class Joined(PostgresStore):
    """Statements inside somebody's transaction: what its driver raises is theirs, but for a lock that is not to be had."""

    def __init__(self, database: Database, link: Link) -> None:
        super().__init__(database)
        self._joined_link = link

    @contextmanager
    def _ask(self) -> Iterator[Link]:
        try:
            with self._part():
                yield self._joined_link
        except Exception as error:
            known = told_apart(self.database, error)
            if isinstance(known, Busy):
                raise known from error
            raise

    def _part(self) -> AbstractContextManager[None]:
        return nullcontext()


class CallersStore(Joined):
    """Statements inside a caller's transaction, each in a savepoint of its own."""

    def __init__(self, database: Database, connection: CallerConnection) -> None:
        super().__init__(database, caller.join(connection, database.schema))
        self._session = caller.session_of(connection)

    def _part(self) -> AbstractContextManager[None]:
        return caller.savepoint(self._joined_link)

    def on_commit(self, follow_up: Callable[[], None]) -> bool:
        if self._session is None:
            return False
        sqlalchemy.event.listen(self._session, "after_commit", lambda _: follow_up())
        return True


class PostgresTransaction(StepTransaction):
    """A transaction for a step, which gives its entry a store of its own."""

    def settled(self) -> PostgresStore:
        """Take it back from user code; what the store that is returned writes becomes part of it."""
        return Joined(self.database, self.settle())
