"""Caller: the transaction of a caller that a start becomes part of, in any library that we know.

A connection without a transaction, which would commit the start by itself, is refused. Statements on SQLAlchemy's
connections go through its own SQL, and so through any driver for Postgres; those on Django's and psycopg's connections go
through psycopg.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

import psycopg
import sqlalchemy
from psycopg.pq import TransactionStatus
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Session, scoped_session

from saga.errors import InputError, brief
from saga.store.postgres.database import Link


class DjangoConnection(Protocol):
    """A connection of Django."""

    def ensure_connection(self) -> None:
        """Connect, if it is not connected yet."""


class DjangoProxy(Protocol):
    """``django.db.connection``, which stands for the connection that a thread has."""

    def __contains__(self, key: Any, /) -> bool: ...

    def __delattr__(self, name: str, /) -> None: ...

    def __getattr__(self, name: str, /) -> Any: ...


CallerConnection: TypeAlias = (
    Session | scoped_session[Any] | sqlalchemy.Connection | psycopg.Connection[Any] | DjangoConnection | DjangoProxy
)
"""What ``connection=`` takes: whatever has a transaction that a start can be part of."""

_NEEDLESS = "or leave connection= out"


def join(connection: CallerConnection, schema: str) -> Link:
    """What runs a statement in the caller's transaction.

    Raises:
        InputError: it is of a kind that we do not know, or it commits each statement.
    """
    if isinstance(connection, scoped_session):
        connection = connection()
    if isinstance(connection, (Session, sqlalchemy.Connection)):
        return Link(_of_sqlalchemy(connection), schema)
    if hasattr(connection, "ensure_connection"):
        return Link(_of_django(connection), schema)
    if isinstance(connection, psycopg.Connection):
        return Link(_of_psycopg(connection), schema)
    raise InputError(f"connection={brief(connection)} {_what_to_give(connection)}")


def session_of(connection: CallerConnection) -> Session | None:
    """The SQLAlchemy session that a connection is, if it is one."""
    found = connection() if isinstance(connection, scoped_session) else connection
    return found if isinstance(found, Session) else None


@contextmanager
def savepoint(link: Link) -> Iterator[None]:
    """A savepoint in the caller's transaction, and the caller's own lock timeout afterwards."""
    before = link.run("SELECT pg_catalog.current_setting('lock_timeout')", {})[0][0]
    connection = link.connection
    nested = connection.transaction() if isinstance(connection, psycopg.Connection) else connection.begin_nested()
    with nested:
        yield
        link.run("SELECT pg_catalog.set_config('lock_timeout', %(before)s, true)", {"before": before})


def _of_sqlalchemy(given: sqlalchemy.Connection | Session) -> sqlalchemy.Connection:
    try:
        found = given.connection() if isinstance(given, Session) else given
    except UnboundExecutionError:
        raise InputError(
            "connection= is a Session with several databases; give its connection to that of the saga log: "
            "session.connection(bind_arguments={'bind': engine})"
        ) from None
    if found.dialect.name != "postgresql":
        raise InputError(
            f"connection= is one of {found.dialect.name}, and the saga log is in Postgres: give one of that database, {_NEEDLESS}"
        )
    pooled = found.connection
    if getattr(pooled.driver_connection, "autocommit", False) or getattr(pooled.dbapi_connection, "autocommit", False):
        raise _commits_each(
            "isolation level AUTOCOMMIT",
            'one with a transaction, such as engine.execution_options(isolation_level="READ COMMITTED").begin()',
        )
    return found


def _of_django(wrapper: Any) -> psycopg.Connection[Any]:
    if wrapper.get_autocommit():
        raise _commits_each("Django's autocommit", "it inside `with transaction.atomic():`")
    wrapper.ensure_connection()
    found = wrapper.connection
    if not isinstance(found, psycopg.Connection):
        raise InputError(
            f"connection= is Django's of {wrapper.vendor}, through {type(found).__module__}; expected one of Postgres, "
            f"through psycopg 3, {_NEEDLESS}"
        )
    return found


def _of_psycopg(connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    if connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
        raise _commits_each("autocommit", "it inside `with connection.transaction():`")
    return connection


def _commits_each(why: str, remedy: str) -> InputError:
    return InputError(
        f"connection= commits each statement on its own ({why}), so the start could be no part of its transaction; "
        f"give {remedy}, {_NEEDLESS}"
    )


def _what_to_give(connection: Any) -> str:
    # Its modules cannot be imported where greenlet is missing.
    if any(kind.__module__.startswith("sqlalchemy.ext.asyncio") for kind in type(connection).__mro__):
        return "is asynchronous; use `await session.run_sync(lambda s: orchestrator.start(..., connection=s))`"
    if isinstance(connection, psycopg.AsyncConnection):
        return "is asynchronous; give a psycopg.Connection, or a SQLAlchemy AsyncSession by its run_sync"
    return "expected a SQLAlchemy Session or Connection, a psycopg 3 connection, or Django's connection"
