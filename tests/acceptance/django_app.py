"""A Celery app in a Django project, as Django's users have it: its steps use `django.db.connection`."""

from __future__ import annotations

from celery import Celery

from saga import Orchestrator, Saga, Step

app = Celery("django_app")
app.conf.task_default_queue = "django"
app.conf.broker_connection_retry_on_startup = True


def write(key: str) -> None:
    from django.db import connection, transaction

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO ledger VALUES (%s)", [key])


@app.task
def reserve(idempotency_key: str, hang_up: bool) -> None:
    from django.db import connection

    write(idempotency_key)
    if hang_up:
        # What a restart of the database does to a connection that Django keeps for the next task.
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])


@app.task
def release(idempotency_key: str) -> None:
    write(idempotency_key)


@app.task
def confirm(idempotency_key: str) -> None:
    write(idempotency_key)


order = Saga("order", Step(reserve, compensate=release), Step(confirm, pivot=True))
orchestrator = Orchestrator(app, sagas=[order])
