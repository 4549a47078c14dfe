"""The project's sagas: one of plain steps, and one whose first step is transactional and does as it is told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from celery import shared_task
from django.db import IntegrityError, close_old_connections, connection, transaction

from bakery.celery import orchestrator
from bakery.models import Entry
from saga import Abort, Retry, Saga, Step


@shared_task
def reserve(idempotency_key: str, hang_up: bool) -> None:
    Entry.objects.create(key=idempotency_key)
    if hang_up:
        # What a restart of the database does to a connection that Django keeps for the next task.
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])


@shared_task
def release(idempotency_key: str) -> None:
    Entry.objects.create(key=idempotency_key)


@shared_task
def confirm(idempotency_key: str) -> None:
    Entry.objects.create(key=idempotency_key)


order = Saga("order", Step(reserve, compensate=release), Step(confirm, pivot=True))


@shared_task
def knead(idempotency_key: str, script: str) -> None:
    Entry.objects.create(key=idempotency_key, about={"script": script})
    SCRIPTS[script](idempotency_key)


@shared_task
def unknead(action_key: str) -> None:
    Entry.objects.filter(key=action_key).delete()


@shared_task
def bake(script: str) -> None:
    if script == "burnt":
        raise Abort("burnt")


dough = Saga(
    "dough",
    Step(knead, transactional=True, compensate=unknead, retry=Retry.none()),
    Step(bake, compensate=None, retry=Retry.none()),
)

patient_dough = Saga("patient_dough", Step(knead, transactional=True, compensate=unknead), Step(bake, compensate=None))


def raises(_: str) -> None:
    raise ValueError("too wet")


def catches_an_error_of_the_database(key: str) -> None:
    try:
        with transaction.atomic():
            Entry.objects.create(key=key)
    except IntegrityError:
        Entry.objects.create(key=f"{key}/caught")


def hides_an_error_of_the_database(key: str) -> None:
    with contextlib.suppress(IntegrityError):
        Entry.objects.create(key=key)


def nests(key: str) -> None:
    with transaction.atomic():
        Entry.objects.create(key=f"{key}/outer")
        try:
            with transaction.atomic():
                Entry.objects.create(key=f"{key}/inner")
                raises(key)
        except ValueError:
            pass


def marks_for_rollback(_: str) -> None:
    transaction.set_rollback(True)


def commits(_: str) -> None:
    transaction.commit()


def wants_to_be_outermost(_: str) -> None:
    with transaction.atomic(durable=True):
        pass


def closes(key: str) -> None:
    connection.close()
    close_old_connections()
    Entry.objects.create(key=f"{key}/closed")


def looks_around(key: str) -> None:
    """Reads back what it wrote, in the types that Django makes of it, by a cursor on the server too."""
    entry = next(Entry.objects.filter(key=key).iterator())
    with connection.cursor() as cursor:
        cursor.execute("SHOW TimeZone")
        zone = cursor.fetchone()[0]
    about = {"read": entry.about, "offset": str(entry.at.utcoffset()), "zone": zone}
    Entry.objects.create(key=f"{key}/seen", about=about)


def has_hooks(key: str) -> None:
    transaction.on_commit(lambda: raises(key))
    transaction.on_commit(lambda: Entry.objects.create(key=f"{key}/hook"))
    try:
        with transaction.atomic():
            transaction.on_commit(lambda: Entry.objects.create(key=f"{key}/never"))
            raises(key)
    except ValueError:
        pass


def has_hooks_and_fails(key: str) -> None:
    transaction.on_commit(lambda: Entry.objects.create(key=f"{key}/never"))
    raises(key)


def starts_another(key: str) -> None:
    orchestrator.start("order", {"hang_up": False}, key=key, connection=connection)


def starts_another_and_fails(key: str) -> None:
    starts_another(key)
    raises(key)


def nothing_more(_: str) -> None: ...


SCRIPTS: dict[str, Callable[[str], None]] = {
    found.__name__: found
    for found in (
        raises, catches_an_error_of_the_database, hides_an_error_of_the_database, nests, marks_for_rollback, commits,
        wants_to_be_outermost, closes, looks_around, has_hooks, has_hooks_and_fails, starts_another,
        starts_another_and_fails, nothing_more,
    )
} | {"burnt": nothing_more}  # fmt: skip
