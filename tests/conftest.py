"""What every kind of test shares: one embedded Postgres and broker for the whole run."""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from saga import schema
from saga.config import Settings
from saga.dev import Stack
from saga.store.postgres.database import Database

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The embedded servers."""
    with Stack() as running:
        yield running


@pytest.fixture(scope="module")
def server_folder() -> Iterator[Path]:
    """A folder that the user whom a server runs as may enter; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="pgsaga-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


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


def shown(value: object) -> str:
    """A value as the name of a case: the same in every process, which addresses are not."""
    return re.sub(r" at 0x[0-9a-f]+", "", ascii(value))
