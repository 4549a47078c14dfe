"""The stores under test. That in memory needs no server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import make_database

from .memory import MemoryStand
from .postgres import PostgresStand
from .stand import Stand

STORES = ("memory", "postgres")


@pytest.fixture(scope="module")
def postgres_stand(request: pytest.FixtureRequest) -> Iterator[PostgresStand]:
    """Postgres, for all tests of a file."""
    found = PostgresStand(make_database(request.getfixturevalue("stack")))
    yield found
    found.close()


@pytest.fixture(params=STORES)
def stand(request: pytest.FixtureRequest) -> Stand:
    """A store in which nothing is."""
    if request.param == "memory":
        return MemoryStand()
    found: PostgresStand = request.getfixturevalue("postgres_stand")
    found.clear()
    return found
