"""Liveness: shows the others that this worker process is alive, or gone.

Each worker process holds an advisory lock under its number, on a connection of its own. When the process dies, its
socket closes, and Postgres drops the lock within milliseconds; no heartbeat is written.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import weakref

import psycopg

from saga.config import Settings, postgres_url
from saga.store.postgres.database import Database
from saga.store.postgres.errors import not_ready
from saga.store.postgres.fleet import lock_class
from saga.telemetry.facts.upkeep import LockMissed, LockRegained, NumberTaken
from saga.telemetry.stream import emit
from saga.telemetry.thread import start_thread

_OPTIONS = (
    "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 "
    # Other defaults of the role would end the session, or the wait for the lock.
    "-c idle_session_timeout=0 -c statement_timeout=0 -c lock_timeout=0"
)
_LOOK_EVERY = 0.5
_RECONNECT_EVERY = 0.5


class Liveness:
    """This process's number as a worker, and the lock that shows it is alive.

    Attributes:
        sessions: how often it has taken its lock.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        url = postgres_url(settings.direct_url or settings.database_url)
        self._conninfo = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._database = database
        self._schema = database.schema
        self._connection: psycopg.Connection[tuple[int]] | None = None
        self._watcher: threading.Thread | None = None
        self._worker: int | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.sessions = 0
        _instances.add(self)

    def worker(self) -> int:
        """This process's number; the first call takes one and its lock.

        Raises:
            DatabaseNotReady: the database does not answer.
        """
        if self._worker is None:
            with self._lock:
                if self._worker is None:
                    try:
                        self._worker = self._begin()
                    except psycopg.Error as error:
                        raise not_ready(self._database, error) from error
        return self._worker

    @property
    def number(self) -> int | None:
        """This process's number, if it has taken one."""
        return self._worker

    @property
    def holds(self) -> bool:
        """Whether it has its lock, as far as is known."""
        return self._connection is not None and not self._connection.closed

    def stop(self) -> None:
        """Let the lock go, at once: a pool replaces a process only when it has ended."""
        self._stopping.set()
        self._wake()
        if self._watcher is not None:
            self._watcher.join(timeout=2 * _LOOK_EVERY)

    def _wake(self) -> None:
        """Have the watcher look up from its connection."""
        connection = self._connection
        if connection is None or connection.closed:
            return
        with (
            contextlib.suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(connection.fileno())) as end,
        ):
            end.shutdown(socket.SHUT_RDWR)

    def _begin(self) -> int:
        connection = self._connect()
        worker = self._take_number(connection)
        self._connection, self.sessions = connection, 1
        self._watcher = start_thread("saga-liveness", self._watch, (worker,))
        return worker

    def _take_number(self, connection: psycopg.Connection[tuple[int]]) -> int:
        """The next number whose lock is free: any role that can connect may have taken a lock."""
        while True:
            row = connection.execute(f"SELECT nextval('{self._schema}.worker_id')".encode()).fetchone()
            assert row is not None
            taken = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (lock_class(self._schema), row[0]))
            if taken.fetchone() == (True,):
                return row[0]
            emit(NumberTaken(row[0]))

    def _connect(self) -> psycopg.Connection[tuple[int]]:
        return psycopg.connect(
            self._conninfo, autocommit=True, options=_OPTIONS, application_name="pgsaga liveness",
            connect_timeout=10, prepare_threshold=None, keepalives_idle=5, keepalives_interval=2, keepalives_count=3,
            tcp_user_timeout=10_000,
        )  # fmt: skip

    def _hold(self, connection: psycopg.Connection[tuple[int]], worker: int) -> None:
        # The blocking call: while the old session lingers, this one shows as waiting, and the worker counts as alive.
        connection.execute("SELECT pg_advisory_lock(%s, %s)", (lock_class(self._schema), worker))
        self._connection = connection
        self.sessions += 1

    def _watch(self, worker: int) -> None:
        """Take the lock again whenever its connection breaks; let it go at the end."""
        while not self._stopping.is_set():
            if self._connection is not None and self._is_open(self._connection):
                continue
            try:
                self._hold(self._connect(), worker)
                emit(LockRegained(worker))
            except Exception as error:
                emit(LockMissed(worker, error))
                self._stopping.wait(_RECONNECT_EVERY)
        if self._connection is not None:
            self._connection.close()

    @staticmethod
    def _is_open(connection: psycopg.Connection[tuple[int]]) -> bool:
        """Wait a while for the server to close the connection; whether it still stands."""
        try:
            poll = select.poll()
            poll.register(connection.fileno(), select.POLLIN)
            if poll.poll(_LOOK_EVERY * 1000):
                connection.execute("SELECT 1")
            return not connection.closed
        except (psycopg.Error, OSError, ValueError):
            with contextlib.suppress(psycopg.Error):
                connection.close()
            return False

    def _leave_to_parent(self) -> None:
        """In a forked child: keep the child from holding the parent's session open after the parent is gone."""
        if self._connection is None or self._connection.closed:
            return
        with contextlib.suppress(OSError, psycopg.Error):
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, self._connection.fileno())
            os.close(null)
        self._stopping.set()


_instances: weakref.WeakSet[Liveness] = weakref.WeakSet()


def _after_fork() -> None:
    for instance in list(_instances):
        instance._leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)
