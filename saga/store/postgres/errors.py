"""Errors: what a driver raises, told apart: what may have been committed, what was refused, what another one holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import psycopg
from psycopg import errors as pg
from sqlalchemy import exc as sa_errors
from sqlalchemy.exc import DBAPIError

from saga.core.text import Unencodable
from saga.errors import DatabaseNotReady, first_line
from saga.store.values import Busy, Refused, ValueRefused


class Named(Protocol):
    """A database that texts can name."""

    @property
    def name(self) -> str: ...


def not_ready(database: Named, error: BaseException) -> DatabaseNotReady:
    """The clear error for a database that is down, not upgraded, read-only or not open to this role."""
    if isinstance(error, _NOT_UPGRADED):
        return _refusal(f"the saga log in {database.name} is not upgraded: run `saga db upgrade`")
    problem = first_line(error)
    if isinstance(error, pg.ReadOnlySqlTransaction):
        return _refusal(f"the saga log in {database.name} takes no entry: {complaint(error)}")
    if isinstance(error, pg.InsufficientPrivilege):
        text = f"this role may not do that to the saga log in {database.name}: {problem}"
        return _refusal(f'{text}; the documentation has the grants under "Roles"')
    return DatabaseNotReady(f"the saga log in {database.name} cannot be reached: {problem}")


def _refusal(text: str) -> DatabaseNotReady:
    error = DatabaseNotReady(text)
    error.refused = True
    return error


def complaint(error: BaseException) -> str:
    """Why the database did not do what it was asked, in a line for an operator."""
    told = error.__cause__ if isinstance(error, DatabaseNotReady) and error.__cause__ else error
    cause = told.orig if isinstance(told, DBAPIError) and told.orig else told
    if isinstance(cause, pg.ReadOnlySqlTransaction):
        return (
            f"it is read-only ({first_line(cause)}): give the URL of the primary, not of a standby, "
            "and set `default_transaction_read_only` to off"
        )
    if isinstance(cause, _NOT_UPGRADED):
        return "the saga log is not upgraded: run `saga db upgrade`"
    return first_line(error)


_NOT_UPGRADED = (pg.UndefinedTable, pg.InvalidSchemaName, pg.UndefinedColumn, pg.UndefinedFunction)
_NOT_READY = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    *_NOT_UPGRADED,
    pg.InsufficientPrivilege,
    pg.ReadOnlySqlTransaction,
)


def driver_error(error: BaseException) -> BaseException:
    """What a driver raised, as psycopg's error of that kind whichever the driver is."""
    found = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if isinstance(found, psycopg.Error):
        return found
    state = getattr(found, "sqlstate", None) or getattr(found, "pgcode", None)
    if state is None and found.args and isinstance(found.args[0], dict):  # pg8000's
        state = found.args[0].get("C")
    try:
        return pg.lookup(state)(first_line(found)) if state else found
    except KeyError:
        return found


@contextmanager
def clear_errors(database: Named) -> Iterator[None]:
    """Turn what the driver raises into ``DatabaseNotReady``, for callers that do not try again."""
    try:
        yield
    except (psycopg.Error, DBAPIError) as error:
        cause = driver_error(error)
        if not isinstance(cause, _NOT_READY) or isinstance(cause, pg.LockNotAvailable):
            raise
        raise not_ready(database, cause) from None


UNREACHABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,
    pg.InsufficientPrivilege,
    pg.UndefinedTable,
    pg.UndefinedColumn,
    pg.InvalidSchemaName,
    sa_errors.OperationalError,
    sa_errors.InterfaceError,
    sa_errors.InternalError,
    sa_errors.ProgrammingError,
    DatabaseNotReady,
)
"""What it means for the database not to answer, not in time, or not yet: what was under way may have been committed.

Not among them is what comes again for the same rows and values, however often they are tried: ``DataError``,
``IntegrityError``.
"""


def told_apart(database: Named, error: BaseException) -> BaseException | None:
    """What the port calls an error of a driver; ``None`` for what it has no name for."""
    cause = driver_error(error) if isinstance(error, (psycopg.Error, DBAPIError)) else error
    if isinstance(cause, pg.LockNotAvailable):
        return Busy(f"another transaction, still open, holds what is needed: {first_line(cause)}")
    if isinstance(cause, (*_NOT_READY, psycopg.InternalError)):
        return not_ready(database, cause)
    if isinstance(cause, (psycopg.DataError, Unencodable, UnicodeError)):
        return ValueRefused(first_line(cause))
    if isinstance(cause, psycopg.IntegrityError):
        return Refused(first_line(cause))
    return None
