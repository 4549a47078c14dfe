"""The relay: finds work that is due, overdue, orphaned or lost on its way, and sends it.

It decides nothing: it appends facts, frees rows and sends messages; whoever claims a lane next decides. Any number may
run, one looks at a time: each look takes a transaction's advisory lock, so that none can be the relay and be stuck.
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Callable, Sequence

from psycopg import errors as pg

from saga import due, fleet
from saga.crashpoints import reach
from saga.database import Database, Link, complaint
from saga.due import Ping
from saga.engine import Unreachable
from saga.errors import first_line
from saga.fleet import lock_class
from saga.work import Dispatch

logger = logging.getLogger("saga")

_TWO_LOOKS = 0.45
"""Seconds between two looks that both miss a worker, before it counts as gone."""
_BURY_EVERY = 10.0
_BURIED = 1000
"""Rows of dead workers that are taken out at a time."""


class Relay:
    """One process's share in the relay.

    Args:
        publish: sends messages, without waiting for the broker.
        interval: seconds between two looks.
        batch: how many rows one statement sends.
        grace: seconds after a restart of the database or a reconnect during which no worker is declared lost.
    """

    def __init__(
        self,
        database: Database,
        publish: Callable[[Sequence[Dispatch | Ping]], None],
        *,
        interval: float = 0.5,
        batch: int = 500,
        grace: float = 10.0,
    ) -> None:
        self._database = database
        self._publish = publish
        self._interval = interval
        self._batch = batch
        self._grace = grace
        self._key = zlib.crc32(f"pgsaga.relay.{database.schema}".encode())
        self._suspects: dict[int, float] = {}
        self._quiet_until = 0.0
        self._failing = False
        self._next_burial = 0.0

    def run(self, stopping: threading.Event) -> None:
        """Look again and again until told to stop."""
        # On one connection: that it broke is then noticed, whatever broke it, and begins a grace.
        with self._database.hold():
            while True:
                # Who was the relay looks again first; the others stand by in case it does not.
                pause = self._interval if self._tick_safely() else self._interval * 2
                if stopping.wait(pause):
                    return

    def _tick_safely(self) -> bool:
        """A look that leaves the relay alive whatever is wrong with what it looked at."""
        try:
            return self.tick()
        except Exception:
            logger.exception("the relay failed; it looks again")
            return False

    def tick(self) -> bool:
        """One look; whether it was this process's turn."""
        try:
            mine = self._look()
        except Unreachable as error:
            self._quiet_until = time.monotonic() + self._grace
            self._suspects.clear()
            if not self._failing:
                logger.warning("the relay cannot reach the database: %s", complaint(error))
            self._failing = True
            return False
        if self._failing:
            self._failing = False
            logger.info("the relay reaches the database again")
        return mine

    def _look(self) -> bool:
        while True:
            messages = self._transact(self._find_due)
            if messages is None:
                return False
            # One entry ends one attempt of a saga; its other branches take another round.
            if not self._end_gone() and len(messages) < self._batch:
                return True

    def _end_gone(self) -> bool:
        """Whether attempts were ended that are overdue or lost."""
        try:
            return bool(self._transact(self._find_gone))
        except (pg.LockNotAvailable, pg.QueryCanceled, pg.DeadlockDetected) as error:
            # Somebody stands in the middle of an append; what is due is sent all the same.
            logger.warning("an attempt that is over could not be ended yet: %s", first_line(error))
            return False

    def _transact(self, find: Callable[[Link], list[Dispatch | Ping]]) -> list[Dispatch | Ping] | None:
        """One transaction as the relay; what it marked as sent is sent only after its commit, when it can be claimed."""
        with self._database.link() as link, link.connection.transaction():
            if not due.become_relay(link, self._key):
                self._suspects.clear()
                return None
            messages = find(link)
            reach("relay.before_commit", link.connection)
        reach("relay.after_commit")
        self._publish(messages)
        return messages

    def _find_due(self, link: Link) -> list[Dispatch | Ping]:
        messages: list[Dispatch | Ping] = []
        messages += due.mark_due_sent(link, self._batch)
        messages += due.mark_lost_sent(link, self._batch)
        messages += due.next_pings(link)
        return messages

    def _find_gone(self, link: Link) -> list[Dispatch | Ping]:
        gone = self._gone_workers(link)
        self._bury(link)
        messages: list[Dispatch | Ping] = []
        messages += due.lose(link, gone, self._batch) if gone else []
        messages += due.time_out(link, self._batch)
        due.watch_on(link)
        return messages

    def _bury(self, link: Link) -> None:
        """Take the rows of dead workers out of the table of workers, now and then."""
        now = time.monotonic()
        if now < self._next_burial or now < self._quiet_until or due.server_age(link) < self._grace:
            return
        self._next_burial = now + _BURY_EVERY
        fleet.bury(link, _BURIED)

    def _gone_workers(self, link: Link) -> list[int]:
        """Workers that were absent at two looks some time apart, outside any grace."""
        absent = due.absent_workers(link, lock_class(self._database.schema))
        now = time.monotonic()
        if not absent or now < self._quiet_until or due.server_age(link) < self._grace:
            self._suspects.clear()
            return []
        self._suspects = {worker: self._suspects.get(worker, now) for worker in absent}
        gone = [worker for worker, since in self._suspects.items() if now - since >= _TWO_LOOKS]
        if gone:
            logger.warning("worker %s gone; its attempts are given back", ", ".join(map(str, gone)))
        return gone
