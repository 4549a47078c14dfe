"""The stand of the store in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from uuid import UUID

from saga.store.memory.store import MemoryStore
from saga.store.memory.tables import Work
from saga.store.memory.transaction import MemoryConnection
from saga.store.port import Store
from saga.store.values import Ping

from .stand import REALM, Row, Stand


class MemoryStand(Stand):
    """The store in memory, whose time passes at once."""

    store: MemoryStore

    def __init__(self) -> None:
        self.store = MemoryStore(REALM)
        self.tables = self.store.tables

    def beside(self, realm: str) -> Store:
        return self.store.beside(realm)

    def pass_time(self, seconds: float) -> None:
        self.store.clock.sleep(seconds)

    def now(self) -> datetime:
        return self.store.clock.now

    def live(self, *workers: int) -> None:
        self.tables.living.update(workers)

    def die(self, worker: int) -> None:
        self.tables.living.discard(worker)

    def enrol(self, worker: int, fingerprints: Sequence[str], queues: Sequence[str]) -> None:
        self.store.enrol(worker, fingerprints, queues)

    def members(self) -> set[int]:
        return set(self.tables.members)

    def see_ping(self, ping: Ping) -> None:
        self.store.see_ping(ping.queue, ping.number, ping.realm)

    @contextmanager
    def connect(self) -> Iterator[MemoryConnection]:
        connection = self.store.connect()
        connection.begin()
        yield connection
        connection.rollback()

    @contextmanager
    def other_relay(self) -> Iterator[None]:
        self.tables.relayed_elsewhere.add(REALM)
        yield
        self.tables.relayed_elsewhere.discard(REALM)

    def rows(self, saga_id: UUID) -> list[Row]:
        found = self.tables.sagas.get(saga_id)
        return [self._row(work) for _, work in sorted(found.work.items())] if found else []

    def _row(self, work: Work) -> Row:
        now = self.now()
        seconds = (work.due_at - now).total_seconds()
        values = {field.name: getattr(work, field.name, None) for field in fields(Row)}
        values["due"] = None if seconds < -1e9 else seconds
        values["sent"] = None if work.sent is None else (now - work.sent).total_seconds()
        values["until"] = None if work.until is None else (work.until - now).total_seconds()
        return Row(**values)
