"""What the driver raises is told apart at the port, also while a connection is taken: nothing else knows the driver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from saga.config import Settings
from saga.errors import DatabaseNotReady
from saga.store.postgres.database import Database
from saga.store.postgres.store import PostgresStore
from saga.worker.liveness import Liveness


class Broken(Database):
    """A database whose pooled connections turn out to be broken when they are taken."""

    @contextmanager
    def link(self) -> Iterator[Any]:
        raise psycopg.OperationalError("the connection is closed")
        yield


def settings() -> Settings:
    return Settings.load({}, database_url="postgresql://nobody@127.0.0.1:1/nothing")


def test_a_connection_that_is_found_broken_when_it_is_taken_is_a_store_that_does_not_answer():
    store = PostgresStore(Broken(settings()))
    for ask in (lambda: store.entries(uuid4()), lambda: store.append([], 1), store.breaks):
        with pytest.raises(DatabaseNotReady, match="cannot be reached"):
            ask()


def test_a_worker_that_can_take_no_number_says_that_the_database_does_not_answer():
    given = settings()
    with pytest.raises(DatabaseNotReady, match="cannot be reached"):
        Liveness(Database(given), given).worker()
