"""Database: the connections of one process to the log's database.

Statements run on psycopg connections in autocommit: one statement, one round trip, one commit. SQLAlchemy pools them.
"""

from __future__ import annotations

import os
import re
import select
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any

import psycopg
import sqlalchemy
from psycopg.rows import tuple_row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from saga.config import Settings, postgres_url
from saga.errors import CorruptLog, DatabaseNotReady, first_line
from saga.store.postgres.errors import not_ready

Row = tuple[Any, ...]

_OTHER_THREADS = 3
"""Of a worker process: the relay, the upkeep and the relief."""


@lru_cache(maxsize=512)
def _text(statement: str, schema: str) -> bytes:
    return statement.replace("{s}", schema).encode()


@lru_cache(maxsize=512)
def _clause(statement: str, schema: str) -> sqlalchemy.TextClause:
    """A statement for any driver of SQLAlchemy's."""
    return sqlalchemy.text(_PARAMETER.sub(r"(:\1)", statement.replace("{s}", schema)).replace("%%", "%"))


_PARAMETER = re.compile(r"%\((\w+)\)s")


class Link:
    """One connection to the log's database: psycopg's own, or a caller's ``Connection`` of SQLAlchemy's.

    Through the latter, statements return rows, and have texts only as parameters and results, so that any driver serves.
    """

    __slots__ = ("connection", "schema")

    def __init__(self, connection: Any, schema: str) -> None:
        self.connection = connection
        self.schema = schema

    def run(self, statement: str, params: Mapping[str, Any]) -> list[Row]:
        """Run one statement and return its rows. ``{s}`` in it stands for the schema, parameters are ``%(name)s``.

        Raises:
            CorruptLog: a row holds JSON that Python does not read: nested too deep, or a number of too many digits.
        """
        return self._run(statement, params, psycopg.Cursor)

    def run_planned(self, statement: str, params: Mapping[str, Any]) -> list[Row]:
        """Like ``run``, and Postgres plans it for these very values: for questions whose best plan depends on them."""
        # Bound on this side they are constants to the planner, which else plans once for any values (PLANNING). Behind a
        # pooler it plans each time, and what comes back as text might be in the format of somebody's DateStyle.
        pooled = getattr(self.connection, "prepare_threshold", 0) is None
        return self._run(statement, params, psycopg.Cursor if pooled else psycopg.ClientCursor)

    def _run(self, statement: str, params: Mapping[str, Any], kind: type[psycopg.Cursor[Any]]) -> list[Row]:
        connection = self.connection
        if not isinstance(connection, psycopg.Connection):
            return [tuple(row) for row in _rows(connection.execute(_clause(statement, self.schema), dict(params)))]
        cursor = kind(connection, row_factory=tuple_row)  # a caller's connection may have another
        # In binary, what comes back is the same in sessions of any DateStyle and TimeZone.
        cursor.execute(_text(statement, self.schema), params, binary=kind is psycopg.Cursor)
        result = cursor.pgresult  # not cursor.description, which builds an object for each column
        # A caller's pipeline brings it only when it is asked for.
        return _rows(cursor) if result is None or result.nfields else []


def _rows(cursor: Any) -> Any:
    try:
        return cursor.fetchall()
    except (ValueError, RecursionError) as error:
        raise CorruptLog(f"stored JSON cannot be read: {type(error).__name__}: {error}") from None
    except (psycopg.DataError, sqlalchemy.exc.DataError) as error:  # such as a time after the year 9999
        raise CorruptLog(f"a stored value cannot be read: {first_line(error)}") from None


class Database:
    """The log's database as one process sees it. Safe to share between threads, and usable after a fork.

    Attributes:
        breaks: how many connections have been given up. After each, another server may answer, which may have lost the
            latest of what the one before had.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = postgres_url(settings.database_url)
        self.schema = settings.schema_name
        self.realm = settings.realm or ""
        self._pool_size = settings.pool_size
        self._engines: dict[int, sqlalchemy.Engine] = {}
        self._lock = threading.Lock()
        self._local = threading.local()
        self.breaks = 0

    @property
    def name(self) -> str:
        """Where it is, without the password."""
        return f"{self.url.host or 'localhost'}:{self.url.port or 5432}/{self.url.database or ''}"

    @property
    def engine(self) -> sqlalchemy.Engine:
        """This process's pool; a forked child makes its own and leaves the parent's connections alone."""
        pid = os.getpid()
        engine = self._engines.get(pid)
        if engine is None:
            with self._lock:
                engine = self._engines.get(pid) or self._make_engine()
                for inherited in self._engines.values():
                    inherited.dispose(close=False)
                self._engines = {pid: engine}
        return engine

    def _make_engine(self) -> sqlalchemy.Engine:
        # In any encoding but UTF-8, some texts could not even be sent; it is said at the start, which poolers understand.
        options: dict[str, Any] = {"application_name": "pgsaga", "connect_timeout": 10, "client_encoding": "utf8"}
        if not self.settings.prepared_statements:
            options["prepare_threshold"] = None
        engine = sqlalchemy.create_engine(
            self.url,
            isolation_level="AUTOCOMMIT",
            pool_size=self._pool_size,
            max_overflow=self._pool_size,  # as many transactional steps as threads; any more wait
            pool_use_lifo=True,
            connect_args=options,
            hide_parameters=True,
        )
        sqlalchemy.event.listen(engine, "connect", lambda connection, _: self._set_up(connection))
        sqlalchemy.event.listen(engine, "checkin", _drop_if_lent)
        return engine

    @property
    def session_settings(self) -> str:
        """The statements that make a session as our own statements want it; empty behind a transaction pooler."""
        if not self.settings.prepared_statements:
            return ""
        return "; ".join(f"SET {name} = {value}" for name, value in (SESSION | PLANNING).items())

    def _set_up(self, connection: psycopg.Connection[Row]) -> None:
        if settings := self.session_settings:
            connection.execute(settings.encode())
            return
        # Behind a pooler a session is not ours to set, and our statements are the same whatever its formats; but not in
        # another isolation level.
        [(isolation,)] = connection.execute("SHOW default_transaction_isolation")
        if isolation != _ISOLATION:
            role = connection.info.user
            connection.close()
            raise DatabaseNotReady(
                f"the saga log in {self.name} would be written in isolation level {isolation!r}, in which processes "
                f"that write at once fail: {isolation_remedy(role)}"
            )

    def keep(self, threads: int) -> None:
        """Keep enough connections for that many threads of steps, and the others of a worker."""
        size = max(self.settings.pool_size, threads + _OTHER_THREADS)
        if size != self._pool_size:
            self._pool_size = size
            self.dispose()

    def link(self) -> AbstractContextManager[Link]:
        """A connection in autocommit. After any exception it is thrown away: what it last did is unknown."""
        return getattr(self._local, "held", None) or _Borrowed(self)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep one connection for all that this thread does inside."""
        if getattr(self._local, "held", None) is not None:
            yield
            return
        held = self._local.held = _Held(self)
        try:
            yield
        finally:
            self._local.held = None
            held.close()

    def connect(self) -> PoolProxiedConnection:
        """Borrow a connection from the pool.

        Raises:
            DatabaseNotReady: the database does not answer.
        """
        try:
            while _is_stale(connection := self.engine.raw_connection()):
                self.breaks += 1
                connection.invalidate()
                connection.close()
            return connection
        except DBAPIError as error:
            raise not_ready(self, error.orig or error) from None
        except PoolTimeout as error:
            raise DatabaseNotReady(f"no connection to {self.name} is free in this process: {error}") from None

    def begin(self) -> sqlalchemy.Connection:
        """A SQLAlchemy connection for user code, READ COMMITTED, no transaction begun yet.

        Raises:
            DatabaseNotReady: the database does not answer.
        """
        self.connect().close()  # leaves the pool with a connection on top that is not stale
        try:
            return self.engine.connect().execution_options(isolation_level="READ COMMITTED")
        except DBAPIError as error:
            raise not_ready(self, error.orig or error) from None

    def dispose(self) -> None:
        """Close the pool of this process."""
        engine = self._engines.pop(os.getpid(), None)
        if engine is not None:
            engine.dispose()


_ISOLATION = "read committed"

SESSION = {
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "'UTC'",
    "standard_conforming_strings": "on",
    "search_path": "''",
    "default_transaction_isolation": f"'{_ISOLATION}'",
}
"""Settings that our statements and the driver rely on, in place of the defaults of the database and the role."""


def isolation_remedy(role: str) -> str:
    """What to do about another default than READ COMMITTED."""
    return f"run `ALTER ROLE {role} SET default_transaction_isolation = '{_ISOLATION}'`, and connect anew"


PLANNING = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
"""How our prepared statements are planned: once, for planning takes longer than running them, and for tables of any size,
by their keys, also if the tables were small or not yet analysed when it was done."""


LENT_SETTINGS = (*PLANNING, "IntervalStyle", "TimeZone", "standard_conforming_strings", "search_path")
"""Settings that user code gets with its role's defaults again; not ``DateStyle``, which the driver needs to read dates."""

LENT = "saga_lent"
"""Marks a connection that user code uses, until its session is as it was."""


def _drop_if_lent(_: object, record: ConnectionPoolEntry) -> None:
    if record.info.pop(LENT, False):
        record.invalidate()


def _is_stale(connection: Any) -> bool:
    """Whether a pooled connection broke while it was idle: only then is there something to read. Costs no round trip."""
    poll = select.poll()
    poll.register(connection.driver_connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class _Held:
    """A connection that is kept from use to use, until something goes wrong with it."""

    __slots__ = ("_connection", "_database", "_link", "_pid")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pid = os.getpid()
        self._connection: PoolProxiedConnection | None = None
        self._link: Link | None = None

    def __enter__(self) -> Link:
        if self._pid != os.getpid():
            # A step has forked: the connection is its parent's.
            self._connection, self._link, self._pid = None, None, os.getpid()
        if self._link is None:
            self._connection = self._database.connect()
            self._link = Link(self._connection.driver_connection, self._database.schema)
        return self._link

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._connection is not None:
            self._database.breaks += 1
            self._connection.invalidate()
            self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._link = None


class _Borrowed(_Held):
    """A connection for one use."""

    __slots__ = ()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        super().__exit__(kind, *rest)
        self.close()
