"""Waiter: one thread and one connection that look for all waiting handles of a process.

One statement tells which sagas have ended, and brings the log of those whose result is wanted. A new wait is looked at
at once and then every half a millisecond, an older one less often: a look comes late by a small part of the wait.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from uuid import UUID

from saga.errors import CorruptLog, DatabaseNotReady, SagaNotFound
from saga.store.port import Store
from saga.store.values import End
from saga.telemetry.facts.sagas import LogsNotRead, WaitingFailed
from saga.telemetry.stream import emit
from saga.telemetry.thread import start_thread

_SHORTEST, _LONGEST, _GROWTH = 0.0005, 0.1, 1.15
_BATCH = 1000
_ABSENT = 10.0
"""Seconds without the saga's row after which the wait ends: its start has not been committed by then."""


class _Wait:
    """One call that waits, and when the next look for it is due."""

    __slots__ = ("absent_since", "done", "end", "next", "pause", "saga_id", "wants_log")

    def __init__(self, saga_id: UUID, *, wants_log: bool) -> None:
        self.saga_id = saga_id
        self.wants_log = wants_log
        self.done = threading.Event()
        self.end: End | None = None
        self.pause = _SHORTEST
        self.next = 0.0
        self.absent_since: float | None = None

    def put_off(self, now: float) -> None:
        self.next, self.pause = now + self.pause, min(self.pause * _GROWTH, _LONGEST)

    def see(self, end: End | None, now: float) -> None:
        """Take what a look has found; nothing if there is no such saga."""
        if end is None:
            self.absent_since = self.absent_since or now
            if now - self.absent_since < _ABSENT:
                return
        elif not end.ended:
            self.absent_since = None
            return
        self.end = end
        self.done.set()


class Waiter:
    """Waits for sagas to finish or get stuck."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._waits: set[_Wait] = set()
        self._pid: int | None = None
        self._wake = threading.Event()

    def wait(self, saga_id: UUID, timeout: float | None, *, wants_log: bool = False) -> End | None:
        """Wait until a saga is finished or stuck; ``None`` if it was not within ``timeout`` seconds.

        Args:
            wants_log: bring its log, too, as far as it can be read.

        Raises:
            SagaNotFound: there has been no such saga for seconds.
        """
        wait = _Wait(saga_id, wants_log=wants_log)
        with self._lock:
            self._ensure_poller()
            self._waits.add(wait)
            self._wake.set()
        try:
            if not wait.done.wait(None if timeout is None else min(timeout, threading.TIMEOUT_MAX)):
                return None
        finally:
            with self._lock:
                self._waits.discard(wait)
        if wait.end is None:
            raise SagaNotFound(
                f"there is no saga {saga_id} in {self._store.name}, for {_ABSENT:g} s: its start was not committed, it"
                " was purged, or the database has lost it"
            )
        return wait.end

    def _ensure_poller(self) -> None:
        if self._pid != os.getpid():
            self._waits, self._wake, self._pid = set(), threading.Event(), os.getpid()
            start_thread("saga-waiter", self._poll)

    def _poll(self) -> None:
        while True:
            began = time.monotonic()
            with self._lock:
                self._wake.clear()
                due = [wait for wait in self._waits if wait.next <= began and not wait.done.is_set()]
                nearest = min((wait.next for wait in self._waits), default=None)
            if not due:
                self._wake.wait(None if nearest is None else nearest - began)
                continue
            for begin in range(0, len(due), _BATCH):
                self._look(due[begin : begin + _BATCH])
            # Never busier than half of the time, however many wait.
            time.sleep(time.monotonic() - began)

    def _look(self, waits: Sequence[_Wait]) -> None:
        try:
            ends = self._ask(waits)
        except Exception as error:
            if not isinstance(error, DatabaseNotReady):
                emit(WaitingFailed(error))
            time.sleep(_LONGEST)
            return
        now = time.monotonic()
        for wait in waits:
            wait.put_off(now)
            wait.see(ends.get(wait.saga_id), now)

    def _ask(self, waits: Sequence[_Wait]) -> dict[UUID, End]:
        ids = [wait.saga_id for wait in waits]
        try:
            return self._store.ends(ids, [wait.saga_id for wait in waits if wait.wants_log])
        except CorruptLog as error:
            emit(LogsNotRead(len(ids), error))
            return self._store.ends(ids, [])
