"""The stand of the store in Postgres."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy
from sqlalchemy.orm import Session

from saga.config import Settings
from saga.store.port import Store
from saga.store.postgres import fleet
from saga.store.postgres.database import Database, Link
from saga.store.postgres.due import take_turn
from saga.store.postgres.pings import see_ping
from saga.store.postgres.store import PostgresStore
from saga.store.values import Ping

from .stand import REALM, Row, Stand

_TABLES = ("log", "work", "instance", "definition", "relay", "probe", "worker", "signal", "schedule")
_TIMES = {
    "log": ["at"],
    "work": ["due_at", "sent", "until"],
    "instance": ["started_at", "updated_at", "finished_at"],
    "probe": ["sent_at", "through"],
    "relay": ["looked_at"],
    "schedule": ["next_tick", "last_tick"],
}


class PostgresStand(Stand):
    """The store in Postgres; of its time, all that has happened is moved into the past."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("+psycopg", "")
        self._settings = Settings.load({}, database_url=url, realm=REALM)
        self._databases = {REALM: Database(self._settings)}
        self.store = PostgresStore(self._databases[REALM])
        self._connection = psycopg.connect(self._url, autocommit=True)
        self._engine = sqlalchemy.create_engine(url)

    def clear(self) -> None:
        """Forget all that a test has left."""
        self.sql("SELECT pg_advisory_unlock_all()")
        self.sql(f"TRUNCATE {', '.join(f'saga.{table}' for table in _TABLES)}")

    def close(self) -> None:
        for database in self._databases.values():
            database.dispose()
        self._engine.dispose()
        self._connection.close()

    def sql(self, statement: str, *parameters: Any) -> list[Any]:
        cursor = self._connection.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []

    def beside(self, realm: str) -> Store:
        if realm not in self._databases:
            self._databases[realm] = Database(self._settings.model_copy(update={"realm": realm}))
        return PostgresStore(self._databases[realm])

    def pass_time(self, seconds: float) -> None:
        self.sql(
            "; ".join(f"UPDATE saga.{table} SET {_earlier(columns, seconds)}" for table, columns in _TIMES.items())
        )

    def now(self) -> datetime:
        found: datetime = self.sql("SELECT clock_timestamp()")[0][0]
        return found

    def live(self, *workers: int) -> None:
        for worker in workers:
            self.sql("SELECT pg_advisory_lock(%s, %s)", fleet.lock_class("saga"), worker)

    def die(self, worker: int) -> None:
        self.sql("SELECT pg_advisory_unlock(%s, %s)", fleet.lock_class("saga"), worker)

    def enrol(self, worker: int, fingerprints: Sequence[str], queues: Sequence[str]) -> None:
        about = fleet.About(REALM, None, "host", worker, "1", False, tuple(queues), tuple(fingerprints))
        with self._databases[REALM].link() as link:
            fleet.enrol(link, worker, about)
        self.live(worker)

    def members(self) -> set[int]:
        return {number for (number,) in self.sql("SELECT number FROM saga.worker")}

    def see_ping(self, ping: Ping) -> None:
        with self._databases[REALM].link() as link:
            see_ping(link, ping.realm, ping.queue, ping.number)

    @contextmanager
    def connect(self) -> Iterator[Session]:
        with Session(self._engine) as session:
            yield session

    @contextmanager
    def other_relay(self) -> Iterator[None]:
        with psycopg.connect(self._url) as other:
            assert take_turn(Link(other, "saga"), REALM)
            yield
            other.rollback()

    def rows(self, saga_id: UUID) -> list[Row]:
        found = self.sql(
            """
            SELECT lane, step, attempt, phase, queue, priority,
                CASE WHEN due_at > '1980-01-01' THEN extract(epoch FROM due_at - clock_timestamp())::float8 END, watch,
                extract(epoch FROM clock_timestamp() - sent)::float8, dispatches, worker, token, problem, realm,
                extract(epoch FROM until - clock_timestamp())::float8
            FROM saga.work WHERE saga_id = %s ORDER BY lane COLLATE "C"
            """,
            saga_id,
        )
        return [Row(*row) for row in found]


def _earlier(columns: Sequence[str], seconds: float) -> str:
    return ", ".join(f"{column} = {column} - make_interval(secs => {seconds})" for column in columns)
