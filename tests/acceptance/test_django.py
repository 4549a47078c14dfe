"""Sagas in a Django project: started in its transactions, run by its workers."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from saga import Orchestrator, Status
from saga.dev import Stack
from tests.acceptance.conftest import HERE, PATIENCE
from tests.conftest import make_database

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def project(stack: Stack) -> Iterator[Orchestrator]:
    """The project, set up in this process as in a web server's, and a worker of it."""
    url = make_database(stack)
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE TABLE ledger (key text PRIMARY KEY)")
    env = {"SAGA_DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "django_settings", "CELERY_BROKER_URL": stack.broker_url}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        patch.syspath_prepend(HERE)
        orchestrator = importlib.import_module("django_app").orchestrator
        importlib.import_module("django").setup()
        worker = stack.worker("django_app", cwd=HERE, env=env, concurrency=1)
        worker.wait_ready(PATIENCE)
        yield orchestrator
        worker.kill()
        orchestrator.close()
        importlib.import_module("django.db").connection.close()
        del sys.modules["django_app"]


def keys(handle: Any) -> list[str]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT key FROM ledger WHERE key LIKE %s ORDER BY key", [f"{handle.id}/%"])
        return [key for (key,) in cursor.fetchall()]


def test_a_start_is_part_of_djangos_transaction(project: Orchestrator) -> None:
    from django.db import connection, transaction

    with transaction.atomic():
        kept = project.start("order", {"hang_up": False}, key="kept", connection=connection)
        with transaction.atomic():
            project.start("order", {"hang_up": False}, key="inner", connection=connection)
            transaction.set_rollback(True)
    with transaction.atomic():
        project.start("order", {"hang_up": False}, key="outer", connection=connection)
        transaction.set_rollback(True)
    assert kept.wait(PATIENCE) == Status.COMPLETED
    assert project.find(key="inner") == project.find(key="outer") == []
    assert keys(kept) == [f"{kept.id}/confirm", f"{kept.id}/reserve"]


def test_djangos_transaction_is_usable_after_a_start_was_refused(project: Orchestrator) -> None:
    from django.db import connection, transaction

    from saga import KeyConflict

    project.start("order", {"hang_up": False}, key="taken").wait(PATIENCE)
    with transaction.atomic():
        with pytest.raises(KeyConflict):
            project.start("order", {"hang_up": True}, key="taken", connection=connection)
        other = project.start("order", {"hang_up": False}, key="free", connection=connection)
    assert other.wait(PATIENCE) == Status.COMPLETED


def test_a_connection_that_broke_in_one_step_is_replaced_before_the_next(project: Orchestrator) -> None:
    handle = project.start("order", {"hang_up": True})
    handle.wait(PATIENCE)
    state = handle.replay()
    assert state.status == Status.COMPENSATED  # the step failed after its effect, each time
    assert keys(handle) == [f"{handle.id}/reserve", f"{handle.id}/reserve/undo"]
