"""Waiter: one poll for all the handles of a process that wait."""

from __future__ import annotations

import logging
import os
import threading
import time
from uuid import UUID

from saga import log
from saga.database import Database
from saga.engine import Unreachable
from saga.state import Status

logger = logging.getLogger("saga")

_SHORTEST, _LONGEST, _GROWTH = 0.002, 0.1, 1.3
_BATCH = 1000


class Waiter:
    """Waits for sagas to finish or get stuck."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waiting: dict[UUID, list[threading.Event]] = {}
        self._pid: int | None = None
        self._wake = threading.Event()

    def wait(self, saga_id: UUID, timeout: float | None) -> bool:
        """Wait until a saga is finished or stuck; whether it was within ``timeout`` seconds."""
        event = threading.Event()
        with self._lock:
            self._ensure_poller()
            self._waiting.setdefault(saga_id, []).append(event)
            self._wake.set()
        try:
            return event.wait(None if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        finally:
            with self._lock:
                events = self._waiting.get(saga_id, [])
                if event in events:
                    events.remove(event)
                if not events:
                    self._waiting.pop(saga_id, None)

    def _ensure_poller(self) -> None:
        if self._pid != os.getpid():
            self._waiting, self._wake, self._pid = {}, threading.Event(), os.getpid()
            threading.Thread(target=self._poll, name="saga-waiter", daemon=True).start()

    def _poll(self) -> None:
        pause = _SHORTEST
        while True:
            with self._lock:
                ids = list(self._waiting)
                fresh = self._wake.is_set()
                self._wake.clear()
            if not ids:
                self._wake.wait()
                continue
            began = time.monotonic()
            try:
                self._look(ids)
            except Exception:
                logger.exception("the waiting for sagas failed; it looks again")
                time.sleep(_LONGEST)
            # Never busier than one part in four, however many wait.
            pause = max(_SHORTEST if fresh else min(pause * _GROWTH, _LONGEST), 3 * (time.monotonic() - began))
            time.sleep(pause)

    def _look(self, ids: list[UUID]) -> None:
        for begin in range(0, len(ids), _BATCH):
            try:
                with self._database.link() as link:
                    statuses = log.read_statuses(link, ids[begin : begin + _BATCH])
            except Unreachable:
                time.sleep(_LONGEST)
                return
            for saga_id, status in statuses.items():
                if Status(status).terminal or status == Status.STUCK:
                    with self._lock:
                        events = self._waiting.get(saga_id, [])
                    for event in events:
                        event.set()
