"""What every kind of test shares: one embedded Postgres and broker for the whole run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from saga import schema
from saga.config import Settings
from saga.database import Database
from saga.dev import Stack

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The embedded servers."""
    with Stack() as running:
        yield running


def make_database(stack: Stack) -> str:
    """A new database with the saga log in it; returns its URL."""
    url = stack.postgres.create_database(f"test_{next(_numbers)}")
    database = Database(Settings.load({}, database_url=url))
    schema.upgrade(database)
    database.dispose()
    return url


@pytest.fixture
def database_url(stack: Stack) -> str:
    """A database of its own, upgraded."""
    return make_database(stack)
