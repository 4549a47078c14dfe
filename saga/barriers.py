"""Barriers: a row for each action and undo, in the database that has their effect, so that the effect comes once.

The sub-transaction barrier of DTM (https://en.dtm.pub/practice/barrier.html): the row is written in one transaction
with the effect, so the database itself knows what has been done there, even if the worker died.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import sqlalchemy
from sqlalchemy import Column, Connection, DateTime, Engine, MetaData, String, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateTable

from saga.context import Current, current
from saga.errors import AbandonedStep, BarrierError, brief
from saga.telemetry.facts.attempts import BarrierPassedTwice
from saga.telemetry.stream import emit

metadata = MetaData()

table = Table(
    "saga_barrier",
    metadata,
    Column("key", String(400), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("reason", String(6), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.current_timestamp()),
)
"""What was done here. ``key`` is the idempotency key of an action or an undo; ``reason`` says which of the two wrote the row."""

_ON_CONFLICT: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}

_passed: ContextVar[tuple[Current | None, frozenset[tuple[str, str]]]] = ContextVar(
    "saga.barriers", default=(None, frozenset())
)


@contextmanager
def barrier(connection: Connection | Session, name: str = "") -> Iterator[bool]:
    """Let a step have its effect in another database once, even if it is called again, and not after its undo.

    Both the action and its compensation use it, on the same database::

        @app.task
        def debit(payer: str, amount: Decimal) -> None:
            with bank.begin() as connection, saga.barrier(connection) as first:
                if first:
                    connection.execute(...)

    It is true when the block should have its effect now. It is false when the block should be skipped: in a duplicate
    call, and in an undo whose action has had no effect here. If a block does not look at it and writes all the same, what
    it writes on the connection is rolled back.

    The block is part of the connection's transaction, and the caller commits that. If no transaction has begun, the
    barrier begins one and commits it at the end of the block.

    Args:
        connection: a SQLAlchemy ``Connection`` or ``Session`` of the database that has the effect. ``saga db barrier``
            makes the table ``saga_barrier`` there.
        name: tells apart several blocks of one step in one database; the action and its undo use the same.

    Raises:
        AbandonedStep: this is an action that comes after its undo; the saga no longer waits for it.
        BarrierError: there is no saga, no table or no transaction here.
    """
    if not isinstance(connection, (Connection, Session)):
        raise BarrierError(f"barrier({brief(connection)}) expected a SQLAlchemy Connection or Session")
    attempt = current()
    if attempt is None:
        raise BarrierError("barrier() is for the steps of a saga, and this code does not run in one")
    with _transaction(connection):
        if _is_first(connection, attempt, name):
            yield True
        else:
            _warn_of_second(connection, attempt, name)
            with _undone(connection):
                yield False
    _passed.set((attempt, _passed_by(attempt) | {(_where(connection), name)}))


def create_table(engine: Engine) -> bool:
    """Make the table ``saga_barrier``; false if it is there already."""
    if sqlalchemy.inspect(engine).has_table(table.name):
        return False
    metadata.create_all(engine)
    return True


def table_sql(url: sqlalchemy.URL) -> str:
    """The statement that makes the table in a database of that kind, for someone who runs it by hand."""
    return str(CreateTable(table).compile(dialect=url.get_dialect()())).strip() + ";"


# --- who was here -----------------------------------------------------------------------------------------------------


def _is_first(connection: Connection | Session, attempt: Current, name: str) -> bool:
    own, action = attempt.idempotency_key, attempt.action_key
    if attempt.compensating:
        # In this order: should the action come later, or be on its way, it finds the row or waits for it.
        action_was_here = not _write(connection, action, name, "undo")
        undo_is_first = _write(connection, own, name, "undo")
        return action_was_here and undo_is_first
    if _write(connection, own, name, "action"):
        return True
    writer = _writer(connection, own, name)
    if writer == "undo":
        raise AbandonedStep(
            f"saga {attempt.saga}[{attempt.saga_id}], step {attempt.step}: its undo was here before it; it came too late "
            f"and has no effect"
        )
    if writer is None:
        raise BarrierError(
            f"{_where(connection)}: another transaction has just passed this barrier, and this one does not see it; "
            f"begin it at isolation level READ COMMITTED"
        )
    return False


def _write(connection: Connection | Session, key: str, name: str, reason: str) -> bool:
    """Write a row; false if it is there already. This waits for another transaction that is writing the same row."""
    values = {"key": key, "name": name, "reason": reason}
    insert = _ON_CONFLICT.get(_bind(connection).dialect.name)
    try:
        if insert is None:
            return _write_in_savepoint(connection, values)
        new = insert(table).values(values).on_conflict_do_nothing().returning(table.c.key)
        return bool(connection.execute(new).all())
    except (ProgrammingError, OperationalError) as error:
        if not _lacks_table(error):
            raise
        raise BarrierError(
            f"{_where(connection)} has no table {table.name}: run `saga db barrier --url URL` ({error.orig})"
        ) from None


def _write_in_savepoint(connection: Connection | Session, values: dict[str, str]) -> bool:
    """The same in a database whose INSERT has no ON CONFLICT."""
    try:
        with connection.begin_nested():
            connection.execute(table.insert().values(values))
    except IntegrityError:
        if _writer(connection, values["key"], values["name"]) is None:
            raise
        return False
    return True


def _writer(connection: Connection | Session, key: str, name: str) -> str | None:
    """Who wrote a row, an action or an undo."""
    found: str | None = connection.execute(
        select(table.c.reason).where(table.c.key == key, table.c.name == name)
    ).scalar()
    return found


def _lacks_table(error: DBAPIError) -> bool:
    sqlstate = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    return sqlstate == "42P01" or f"no such table: {table.name}" in str(error.orig)


# --- the block --------------------------------------------------------------------------------------------------------


@contextmanager
def _transaction(connection: Connection | Session) -> Iterator[None]:
    """A transaction for the block, or a savepoint in the caller's, which is rolled back if the block fails."""
    own = not connection.in_transaction()
    with connection.begin() if own else nullcontext():
        driver = _connection(connection).connection.driver_connection
        if _commits_each_statement(driver):
            raise BarrierError(
                f"barrier() got a connection to {_where(connection)} that commits each statement on its own (isolation "
                f"level AUTOCOMMIT); the effect and its row have to be one transaction"
            )
        if isinstance(driver, sqlite3.Connection) and not driver.in_transaction:
            driver.execute("BEGIN")  # which the driver leaves out, so that a savepoint would commit by itself
        with nullcontext() if own else connection.begin_nested():
            yield


def _commits_each_statement(driver: Any) -> bool:
    if getattr(driver, "autocommit", False) is True:
        return True
    if isinstance(driver, sqlite3.Connection):
        return driver.isolation_level is None and not driver.in_transaction
    ask = getattr(driver, "get_autocommit", None)  # of MySQL's drivers
    return bool(ask is not None and ask())


@contextmanager
def _undone(connection: Connection | Session) -> Iterator[None]:
    """Take back what the block does, and let it commit nothing."""

    def refuse(connection: Connection) -> None:
        connection.connection.rollback()  # SQLAlchemy takes the transaction for over, and would leave it open
        raise BarrierError("the block of a barrier that is skipped commits: let it ask `if first`, and commit after it")

    used = _connection(connection)
    sqlalchemy.event.listen(used, "commit", refuse)
    savepoint = connection.begin_nested()
    try:
        yield
    finally:
        sqlalchemy.event.remove(used, "commit", refuse)
        if savepoint.is_active:
            savepoint.rollback()


def _connection(connection: Connection | Session) -> Connection:
    return connection.connection() if isinstance(connection, Session) else connection


def _warn_of_second(connection: Connection | Session, attempt: Current, name: str) -> None:
    """Warn of a second block under one name in one attempt: it looks like a duplicate, but may be another effect."""
    if (_where(connection), name) in _passed_by(attempt):
        emit(BarrierPassedTwice(attempt.saga, attempt.saga_id, attempt.step, _where(connection)))


def _passed_by(attempt: Current) -> frozenset[tuple[str, str]]:
    """The databases and names of the blocks that this attempt has finished."""
    of, passed = _passed.get()
    return passed if of is attempt else frozenset()


def _bind(connection: Connection | Session) -> Engine | Connection:
    return connection.get_bind() if isinstance(connection, Session) else connection


def _where(connection: Connection | Session) -> str:
    """The database, without the password."""
    url = _bind(connection).engine.url
    return url.render_as_string(hide_password=True)
