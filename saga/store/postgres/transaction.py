"""Transaction: what a transactional step and the log's entry share. Afterwards nothing of the step is left in the session.

User code may do anything on the connection: change settings, take locks, even end the transaction. A savepoint, set
before and released after, tells whether the transaction still stands. The session is made clean in the statements that
settle and commit the transaction anyway, at no further round trip. A connection that was not made clean is dropped when
it comes back to the pool.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Protocol, Self

import psycopg
import sqlalchemy
from psycopg import errors as pg
from psycopg.adapt import AdaptersMap
from psycopg.rows import tuple_row
from sqlalchemy.exc import DBAPIError

from saga.store.postgres.database import LENT, LENT_SETTINGS, Database, Link
from saga.store.values import TransactionEnded

_SAVEPOINT = "saga_step"
_CLEAN = """
    CLOSE ALL; UNLISTEN *; DISCARD TEMP; DISCARD SEQUENCES;
    SELECT pg_advisory_unlock_all(), EXISTS (SELECT FROM pg_prepared_statements WHERE from_sql)
"""
"""``DISCARD ALL`` without the settings, which a rollback or ``settle`` sets back, and without prepared statements: the
driver's are its own affair, and a session in which user code prepared some is dropped."""
_ENDED = (pg.InvalidSavepointSpecification, pg.NoActiveSqlTransaction)


class Guest(Protocol):
    """Another library through which user code may write in the transaction of a step. It is entered before the task is
    run, and left after it."""

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def settle(self) -> None:
        """Raise if what the task wrote must not be committed, though the task returned."""

    def committed(self) -> None:
        """The transaction is known to be committed. It may be told again."""


_invited: list[Callable[[psycopg.Connection[Any]], Guest]] = []


def invite(guest: Callable[[psycopg.Connection[Any]], Guest]) -> None:
    """Have such a guest in each transaction of a step; it is given the connection."""
    if guest not in _invited:
        _invited.append(guest)


class StepTransaction:
    """A transaction for user code, and then for the log's entry. It is rolled back unless it was committed.

    Args:
        timeout: seconds that a statement may take, and that the transaction may idle.

    Attributes:
        connection: for user code.
        ended: user code ended the transaction itself; what it had written may be committed.
    """

    connection: sqlalchemy.Connection

    def __init__(self, database: Database, timeout: float) -> None:
        self.database = database
        limit = f"'{max(1, round(timeout * 1000))}ms'"
        self._limits = _local(dict.fromkeys(("statement_timeout", "idle_in_transaction_session_timeout"), limit))
        self._guests: list[Guest] = []
        self._over = False
        self.ended = False

    def __enter__(self) -> Self:
        self.connection = self.database.begin()
        try:
            self._lend()
        except BaseException:
            self.connection.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if not self._over and (kind is None or issubclass(kind, Exception)):
                self._roll_back()
        finally:
            self.connection.close()

    def _lend(self) -> None:
        fairy = self.connection.connection
        self._info = fairy.info
        self._info[LENT] = True
        driver: Any = fairy.driver_connection
        self.driver: psycopg.Connection[Any] = driver
        self.connection.begin()
        defaults = _local(dict.fromkeys(LENT_SETTINGS, "DEFAULT"))
        self.connection.exec_driver_sql(f"{self._limits}; {defaults}; SAVEPOINT {_SAVEPOINT}")
        # A copy for user code: what one of the two registers does not show in the other.
        self._adapters, driver._adapters = driver.adapters, AdaptersMap(driver.adapters)
        self._looks = _looks(driver)

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Where the task is run: the guests are there."""
        with ExitStack() as stack:
            for make in _invited:
                guest = make(self.driver)
                stack.enter_context(guest)
                self._guests.append(guest)
            yield

    def committed(self) -> None:
        """Tell the guests, once it is known."""
        for guest in self._guests:
            guest.committed()

    def settle(self) -> Link:
        """Take the transaction back from user code, with its deferred constraints checked and its settings set back.

        Returns:
            the transaction, for the log's entry.

        Raises:
            TransactionEnded: it is over.
            Exception: a guest wants no commit.
        """
        if self.connection.closed:
            self._over = self.ended = True
            raise TransactionEnded
        for guest in self._guests:
            guest.settle()
        own = self.database.session_settings
        try:
            self.connection.exec_driver_sql(
                f"RELEASE SAVEPOINT {_SAVEPOINT}; SET CONSTRAINTS ALL IMMEDIATE; "
                f"RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; {own}{';' if own else ''} {self._limits}"
            )
        except DBAPIError as error:
            if not isinstance(error.orig, _ENDED):
                raise
            self._over = self.ended = True
            raise TransactionEnded from None
        return Link(self.driver, self.database.schema)

    def commit(self) -> None:
        """Commit, and make the session clean."""
        self._over = True
        self._end("COMMIT")

    def _roll_back(self) -> None:
        self._over = True
        if self.connection.closed:
            self.ended = True
            return
        if self.connection.invalidated:
            return
        try:
            self._end(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}; ROLLBACK")
        except _ENDED:
            self.ended = True
        except psycopg.Error:
            return  # the connection is dropped

    def _end(self, how: str) -> None:
        cursor = psycopg.Cursor(self.driver, row_factory=tuple_row)
        cursor.execute(f"{how}; {_CLEAN}".encode())
        while cursor.nextset():
            pass
        [(_, prepared)] = cursor.fetchall()
        if not prepared and _looks(self.driver) == self._looks:
            self.driver._adapters = self._adapters
            self._info.pop(LENT, None)


def _looks(driver: psycopg.Connection[Any]) -> dict[str, Any]:
    """What user code may have set in the driver: row factories, handlers, isolation."""
    return {name: [*value] if isinstance(value, (list, deque)) else value for name, value in vars(driver).items()}


def _local(settings: dict[str, str]) -> str:
    return "; ".join(f"SET LOCAL {name} TO {value}" for name, value in settings.items())
