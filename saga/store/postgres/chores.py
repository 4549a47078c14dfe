"""Chores: what the relay does to lanes, each in a transaction of its own; lane by lane, if one lane makes it fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg import errors as pg

from saga.core.rows import Dispatch
from saga.crashpoints import reach
from saga.errors import DatabaseNotReady, first_line
from saga.store.postgres import clock, due, fleet, pings, signals
from saga.store.postgres.database import Database, Link
from saga.store.postgres.due import CHORES, WATCH_ON, Chore
from saga.store.postgres.errors import told_apart
from saga.store.postgres.fleet import lock_class
from saga.store.values import NotMyTurn, Ping, Task
from saga.telemetry.facts.lanes import ChoreDone, ChoreFailed, LaneLeftAside, LaneNotPutOff, LanePutOff, SignalPutOff
from saga.telemetry.facts.upkeep import ClockStepped, TimesNotSet
from saga.telemetry.stream import emit

Message = TypeVar("Message", Dispatch, Ping)

PARTLY = (psycopg.DataError, psycopg.IntegrityError, pg.RaiseException, pg.InternalError_, pg.LockNotAvailable,
           pg.QueryCanceled, pg.DeadlockDetected)  # fmt: skip
"""The errors of a statement about many lanes that one of the lanes causes."""
_PATIENCE_WITH_ONE = 0.1
_LONGEST = 2.0
_ASIDE = 5.0
_STRIKES = 3
_TAKE_IN = "be taken in"
_MOST_ASIDE = 1000


class Chores:
    """The relay's transactions on the work of its realm, and on work without a realm.

    Args:
        publish: sends messages, without waiting for the broker.
        batch: to how many lanes a statement does something.
    """

    def __init__(self, database: Database, publish: Callable[[Sequence[Any]], None], batch: int) -> None:
        self._database = database
        self._publish = publish
        self.realms = sorted({"", database.realm})
        self.batch = batch
        self._aside: dict[UUID, tuple[float, int]] = {}
        self._seen = clock.Look(noted=False, now=0.0, behind=None, ahead=None)
        self._stumbles = 0

    @contextmanager
    def turn(self, patience: float = 1.0) -> Iterator[Link]:
        """A transaction in which this process is the relay.

        Raises:
            NotMyTurn: another process is.
        """
        mine, failed = False, None
        with self._database.link() as link:
            try:
                with link.connection.transaction():
                    if mine := due.take_turn(link, self._database.realm, patience):
                        yield link
            except PARTLY as error:
                if link.connection.closed:
                    raise
                failed = error  # it is rolled back, and the connection as good as before
        if failed is not None:
            raise failed
        if not mine:
            raise NotMyTurn

    def enrol(self) -> bool:
        """Have a row to lock; whether there was none."""
        with self._told_apart(), self._database.link() as link:
            return due.enrol(link, self._database.realm)

    def transact(self, find: Callable[[Link], list[Message]], patience: float = 1.0, *, silent: bool = False) -> int:
        """One transaction as the relay; how many messages it found.

        What it marked as sent is sent only after its commit, when it can be claimed.
        """
        found: list[Message] = []
        with self.turn(patience) as link:
            found = find(link)
            reach("relay.before_commit", link.connection)
            if not found:
                raise psycopg.Rollback  # a commit would have the disk wait for the lock of the turn
        reach("relay.after_commit")
        if not silent:
            self._publish(found)
        return len(found)

    def do(self, task: Task, **which: Any) -> int:
        """Do something to the lanes that it is to be done to, and send their messages; to how many it was done."""
        with self._told_apart():
            return self._do(CHORES[task], **which)

    def take_in(self) -> int:
        """Take signals of callers' transactions into the logs, and send the messages of lanes that wait; how many they were."""
        asked = {"realms": self.realms, "limit": self.batch, "aside": self._set_aside()}
        with self._told_apart():
            try:
                done = self._take_in(asked)
            except PARTLY as error:
                emit(ChoreFailed(_TAKE_IN, error))
                with self.turn() as link:
                    picked = signals.pick(link, asked)
                done = sum(self._take_in_one(*each) for each in picked)
        if done:
            emit(ChoreDone(_TAKE_IN, done))
        return done

    def _take_in(self, asked: dict[str, Any], patience: float = 1.0) -> int:
        done, found = 0, list[Dispatch]()
        with self.turn(patience) as link:
            done, found = signals.take_in(link, asked)
            reach("relay.before_commit", link.connection)
            if not done:
                raise psycopg.Rollback
        reach("relay.after_commit")
        self._publish(found)
        return done

    def _take_in_one(self, number: int, saga_id: UUID) -> int:
        try:
            return self._take_in({"id": number}, _PATIENCE_WITH_ONE)
        except PARTLY as error:
            emit(SignalPutOff(saga_id, number, error))
            with self.turn(_PATIENCE_WITH_ONE) as link:
                signals.put_off(link, number, first_line(error))
            return 0

    def ping(self, realm: str, after: str, lots: int) -> str:
        """Send the pings that are due; returns after which queue to go on."""

        def find(link: Link) -> list[Ping]:
            nonlocal after
            sent, after = pings.next_pings(link, realm, after, lots)
            return sent

        with self._told_apart():
            self.transact(find)
        return after

    def absent(self) -> tuple[list[int], float]:
        """The workers that hold lanes and show no sign of life, and for how many seconds the store has been up."""
        absent: list[int] = []
        age = 0.0
        with self._told_apart(), self.turn() as link:
            absent = due.absent_workers(link, lock_class(self._database.schema), self.realms)
            age = due.server_age(link)
            self._seen = clock.look(link, self._database.realm)
            if not self._seen.noted:
                raise psycopg.Rollback
        return absent, age

    def set_times_right(self, seconds: float) -> tuple[bool, bool]:
        """Go on, for so long, with the times that a step of the clock made wrong, as the last ``absent`` found it.

        Returns:
            whether there may be more of them, and whether some would come too early before they are right.
        """
        seen = self._seen
        if seen.behind is None and seen.ahead is None:
            return False, False
        if seen.noted:
            emit(ClockStepped(None if seen.behind is None or seen.ahead is not None else round(seen.behind)))
        until = time.monotonic() + seconds
        with self._told_apart():
            try:
                while (more := self._set_some_right(seen)) and time.monotonic() < until:
                    pass
                self._stumbles = 0
            except PARTLY as error:
                more = self._stumble(error)
        return more, more and seen.ahead is not None

    def _set_some_right(self, seen: clock.Look) -> bool:
        """One transaction of it."""
        realm = self._database.realm
        with self.turn() as link:
            if seen.ahead is not None:
                more = clock.put_back(link, realm, self.batch)
            else:
                more = clock.move_claimed(link, realm) or clock.move_waiting(link, realm, self.batch)
            reach("clock.before_commit", link.connection)
        return more

    def _stumble(self, error: psycopg.Error) -> bool:
        """Try it again, but not for ever: whatever it is that fails, all else is to go on."""
        self._stumbles += 1
        final = self._stumbles >= _STRIKES
        emit(TimesNotSet(error, final))
        if final:
            self._stumbles = 0
            with self.turn() as link:
                clock.give_up(link, self._database.realm)
        return not final

    def bury(self, limit: int) -> None:
        """Take out the rows of workers that are gone."""
        with self._told_apart(), self.turn() as link:
            fleet.bury(link, limit)

    @contextmanager
    def _told_apart(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            known = told_apart(self._database, error)
            if not isinstance(known, DatabaseNotReady):
                raise
            raise known from error

    def _do(self, chore: Chore, **params: Any) -> int:
        asked = {"realms": self.realms, "limit": self.batch, "aside": self._set_aside(),
                 "until": self._seen.now + clock.STEP, **params}  # fmt: skip
        try:
            done = self.transact(lambda link: due.do(link, chore, asked), silent=chore is WATCH_ON)
        except PARTLY as error:
            emit(ChoreFailed(chore.word, error))
            done = self._one_by_one(chore, asked)
        if done:
            emit(ChoreDone(chore.word, done))
        return done

    def _one_by_one(self, chore: Chore, asked: dict[str, Any]) -> int:
        with self.turn() as link:
            places = due.pick(link, chore, asked)
        until = time.monotonic() + _LONGEST
        done = 0
        for place in places:
            if time.monotonic() > until:
                break
            done += self._do_one(chore, asked, *place)
        return done

    def _do_one(self, chore: Chore, asked: dict[str, Any], saga_id: UUID, lane: str) -> int:
        try:
            return self.transact(
                lambda link: due.do_one(link, chore, asked, saga_id, lane), _PATIENCE_WITH_ONE, silent=chore is WATCH_ON
            )
        except PARTLY as error:
            self._leave_alone(chore, saga_id, lane, error)
            return 0

    def _leave_alone(self, chore: Chore, saga_id: UUID, lane: str, error: psycopg.Error) -> None:
        """Set a saga aside for a while, and park the lane unless it may only be in the middle of an append."""
        strikes = self._aside.get(saga_id, (0.0, 0))[1] + 1
        self._aside[saga_id] = time.monotonic() + _ASIDE, strikes
        if isinstance(error, psycopg.OperationalError) and strikes < _STRIKES:
            emit(LaneLeftAside(saga_id, lane, chore.word, error))
            return
        problem = f"it cannot {chore.word}: {first_line(error)}"
        emit(LanePutOff(saga_id, lane, problem))
        try:
            with self.turn(_PATIENCE_WITH_ONE) as link:
                due.put_off(link, saga_id, lane, problem)
        except PARTLY as failed:
            emit(LaneNotPutOff(saga_id, lane, failed))

    def _set_aside(self) -> list[UUID]:
        """The sagas to leave alone for now. How often that was is remembered for a while longer."""
        now = time.monotonic()
        kept = [(saga_id, aside) for saga_id, aside in self._aside.items() if now < aside[0] + 60]
        self._aside = dict(kept[-_MOST_ASIDE:])
        return [saga_id for saga_id, (until, _) in self._aside.items() if now < until]
