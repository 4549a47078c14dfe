"""Lending: the connection of a transactional step as Django's own, so that what the ORM writes commits with the log.

While the step runs, ``connections[alias]`` is a wrapper around the step's connection, inside an outermost ``atomic``
block that the saga log commits. So ``atomic()`` in the step makes savepoints, ``commit()`` and ``rollback()`` are refused
as they are in any ``atomic`` block, and ``on_commit`` waits for the log's commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import TracebackType
from typing import Any

import psycopg
from django.db import connections
from django.db.backends.postgresql import base
from django.db.backends.signals import connection_created
from django.db.transaction import atomic
from psycopg.adapt import AdaptersMap
from psycopg.rows import tuple_row

from saga.contrib.django.conf import log_database
from saga.errors import SagaError, brief
from saga.telemetry.facts.attempts import HookFailed
from saga.telemetry.stream import emit
from saga.worker.report import describe

_WHERE = "SELECT current_database(), pg_postmaster_start_time()"


class RollbackAsked(SagaError):
    """A transactional step returned, but had marked Django's transaction for rollback."""


class OtherDatabase(SagaError):
    """A transactional step used Django's connection, which is to another database than that of the saga log."""


class DjangoTransaction:
    """Django as a guest in a step's transaction.

    Args:
        driver: the connection of the step.
    """

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._own = log_database()
        self._alias = self._own.alias
        kind: Any = type(self._own)
        self._lent = _lent(kind)(self._own, driver)
        self._outermost = atomic(using=self._alias, savepoint=False)

    def __enter__(self) -> None:
        connections[self._alias] = self._lent
        self._outermost.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._outermost.__exit__(kind, error, trace)
        finally:
            connections[self._alias] = self._own

    def settle(self) -> None:
        """Refuse the commit where Django would not have committed.

        Raises:
            RollbackAsked: it was marked for rollback.
        """
        if self._lent.needs_rollback:
            cause = getattr(self._lent, "rollback_exc", None)
            raise RollbackAsked(
                "the step returned, but its transaction is marked for rollback (by "
                f"{'set_rollback(True)' if cause is None else describe(cause)}), so nothing of it is committed; raise to "
                "say that the step failed, or put what may fail into `with transaction.atomic():`"
            ) from cause

    def committed(self) -> None:
        """Run what ``transaction.on_commit`` was given; the step has succeeded, whatever becomes of it."""
        hooks = self._lent.run_on_commit
        while hooks:
            _, hook, *_ = hooks.pop(0)
            try:
                hook()
            except Exception as error:
                emit(HookFailed(brief(hook), error))


_Connection: Any = object  # whichever of Django's kinds it is, known when it is lent


@lru_cache
def _lent(kind: Any) -> Any:
    """A kind of Django's connections, made to be around a connection that is somebody else's."""
    return type("Lent", (_Lent, kind), {"_kind": kind})


class _Lent(_Connection):
    """What is other in such a connection than in others of its kind.

    Args:
        own: Django's connection, in whose place it is.
        driver: the connection of the step.
    """

    _kind: Any

    def __init__(self, own: Any, driver: psycopg.Connection[Any]) -> None:
        options = {name: value for name, value in own.settings_dict["OPTIONS"].items() if name != "pool"}
        super().__init__({**own.settings_dict, "OPTIONS": options}, own.alias)
        self.execute_wrappers = own.execute_wrappers
        self._own = own
        self._driver = driver

    def connect(self) -> None:
        """Take the step's connection, at its first use, and set it up as one of Django's."""
        self.check_settings()
        params = self.get_connection_params()
        _check_same(self._own, self._driver, params)
        self._looks = {
            "_adapters": AdaptersMap(params["context"].adapters),
            "cursor_factory": params.get("cursor_factory") or self._cursor_factory(),
            "row_factory": tuple_row,
        }
        self.connection: Any = self._driver
        try:
            with self._as_djangos():
                self._set_up()
        except BaseException:
            self.connection = None
            raise

    def _cursor_factory(self) -> Any:
        """The cursors of Django before 5.0, where the parameters do not name them."""
        bound = self.settings_dict["OPTIONS"].get("server_side_binding") is True
        return base.ServerBindingCursor if bound else base.Cursor

    def _set_up(self) -> None:
        self.autocommit = True  # else the time zone and the role would be committed at once
        try:
            self.init_connection_state()
        finally:
            self.autocommit = False
        connection_created.send(sender=self._kind, connection=self)

    @contextmanager
    def _as_djangos(self) -> Iterator[None]:
        """Django's adapters and cursors, for as long as it takes to make a cursor; SQLAlchemy uses the connection, too."""
        before = {name: getattr(self._driver, name) for name in self._looks}
        _set(self._driver, self._looks)
        try:
            yield
        finally:
            _set(self._driver, before)

    def create_cursor(self, name: str | None = None) -> Any:
        with self._as_djangos():
            return super().create_cursor(name)

    def get_autocommit(self) -> bool:
        return bool(self.autocommit)  # without connecting

    def close(self) -> None:
        """Nothing: the connection ends with the step. Celery, and ``close_old_connections``, close before and after."""


def _set(driver: psycopg.Connection[Any], looks: dict[str, Any]) -> None:
    for name, value in looks.items():
        setattr(driver, name, value)


_same: set[tuple[Any, ...]] = set()


def _check_same(own: Any, driver: psycopg.Connection[Any], params: dict[str, Any]) -> None:
    """Whether Django's database is that of the log; if their names differ, a pooler may be why, so the servers are asked.

    Raises:
        OtherDatabase: it is another one.
    """
    here = (driver.info.host, str(driver.info.port), driver.info.dbname)
    there = (params.get("host"), str(params.get("port")), params.get("dbname"))
    if here == there or (here, there) in _same:
        return
    with own.cursor() as cursor:
        cursor.execute(_WHERE)
        found = cursor.fetchone()
    if psycopg.Cursor(driver, row_factory=tuple_row).execute(_WHERE).fetchone() != found:
        raise OtherDatabase(
            f"a transactional step used Django's database {own.alias!r}, which is not the one of the saga log: what it "
            "writes there would not commit with the log. Let SAGA_DATABASE name the log's, or make the step a plain one; "
            "if none of DATABASES is the log's, say SAGA_DATABASE = None"
        )
    _same.add((here, there))
