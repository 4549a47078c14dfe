"""Transaction: those of steps and of callers in memory, which the log's entries become part of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Self

from saga.errors import DatabaseNotReady, InputError
from saga.store.memory.tables import Tables, Transaction
from saga.store.port import Store
from saga.store.values import TransactionEnded


class MemoryTransaction:
    """A transaction for a step, which has no connection to give it. It is rolled back unless it was committed.

    Args:
        timeout: seconds that it may idle.
        joined: a store inside it.

    Attributes:
        ended: the step ended it itself, by ``end``.
    """

    connection = None
    driver = None

    def __init__(self, tables: Tables, timeout: float, joined: Callable[[Transaction], Store]) -> None:
        self._tables = tables
        self._timeout = timeout
        self._joined = joined
        self._within: Transaction | None = None
        self._began = 0.0
        self.ended = False

    def __enter__(self) -> Self:
        self._within = Transaction(self._tables)
        self._began = self._tables.clock.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._drop()

    def _drop(self) -> None:
        if self._within is not None:
            with self._tables.lock:
                self._within.drop()
        self._within = None

    def shared(self) -> AbstractContextManager[None]:
        """Where the task is run."""
        return nullcontext()

    def end(self) -> None:
        """End it, as a step must not."""
        self._drop()
        self.ended = True

    def settled(self) -> Store:
        """Take it back from user code; what the store that is returned writes becomes part of it.

        Raises:
            TransactionEnded: the step ended it.
            DatabaseNotReady: it was idle for too long.
        """
        if self._tables.clock.monotonic() - self._began > self._timeout:
            self._drop()
            raise DatabaseNotReady(f"the transaction was idle for more than {self._timeout:g} s")
        if self._within is None:
            raise TransactionEnded
        return self._joined(self._within)

    def commit(self) -> None:
        """Commit.

        Raises:
            Refused: one of its statements has failed.
        """
        if self._within is not None:
            with self._tables.lock:
                self._within.require_sound()
                self._within.commit()
        self._within = None

    def committed(self) -> None:
        """It is known to be committed."""


class MemoryConnection:
    """A caller's connection: what is started on it is there once it commits."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._within: Transaction | None = None
        self._follow_ups: list[Callable[[], None]] = []

    def begin(self) -> None:
        """Begin a transaction, in place of none."""
        self.rollback()
        self._within = Transaction(self._tables)

    def transaction(self) -> Transaction:
        """The one that is open.

        Raises:
            InputError: there is none.
        """
        if self._within is None:
            raise InputError(
                "connection= has no transaction, so the start could be no part of it; call begin(), or leave connection= out"
            )
        return self._within

    def on_commit(self, follow_up: Callable[[], None]) -> None:
        """Have that called after the commit of the open transaction."""
        self._follow_ups.append(follow_up)

    def commit(self) -> None:
        """Commit, if there is anything to."""
        if self._within is not None:
            with self._tables.lock:
                self._within.commit()
        self._within = None
        follow_ups, self._follow_ups = self._follow_ups, []
        for follow_up in follow_ups:
            follow_up()

    def rollback(self) -> None:
        """Forget what was written since it began."""
        if self._within is not None:
            with self._tables.lock:
                self._within.drop()
        self._within = None
        self._follow_ups.clear()
