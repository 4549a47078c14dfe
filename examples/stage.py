"""Stage: where the examples are played: an embedded Postgres and broker, with the saga log's tables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saga import Handle, schema
from saga.config import Settings
from saga.dev import Stack
from saga.store.postgres.database import Database


@contextmanager
def stage(folder: Path | None = None, /, **settings: str) -> Iterator[Stack]:
    """An embedded stack, found through the environment by this process and by the workers it starts.

    Args:
        folder: where it is kept; by default a temporary one.
        settings: further environment variables.
    """
    with Stack(folder) as stack:
        urls = {"SAGA_DATABASE_URL": stack.database_url, "CELERY_BROKER_URL": stack.broker_url}
        # What a killed worker leaves in its temporary folder goes with the stack's.
        with environment(**urls, TMPDIR=str(stack.folder), **settings):
            upgrade_log()
            try:
                yield stack
            finally:
                # Not asked to end, which takes a Celery worker seconds, at times half a minute: sagas survive it.
                for worker in stack.workers:
                    worker.kill()


def upgrade_log() -> None:
    """What `saga db upgrade` does."""
    database = Database(Settings.load({}))
    try:
        schema.upgrade(database)
    finally:
        database.dispose()


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def tell(title: str, handle: Handle) -> None:
    """Print what happened in a saga."""
    state = handle.replay()
    print(f"{title}: {state.status}" + (f", because of {state.reason}" if state.reason else ""))
    for entry in handle.log()[1:]:
        print(f"  {entry.kind.replace('_', ' ')}: {entry.step}")
    print()
