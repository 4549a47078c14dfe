"""The app that is measured: tasks that do nothing, as sagas and as chains. It finds its servers in the environment."""

from __future__ import annotations

import os
import random
import time
from functools import cache
from importlib.util import find_spec

from celery import Celery, Task, chain, chord
from celery.backends.database import DatabaseBackend
from celery.canvas import Signature
from redis import Redis

from saga import Abort, Orchestrator, Parallel, Saga, Step

SCHEMA = "saga_bench"
QUEUE = "bench"
DONE = "bench.done"
"""Counts chains that have ended, which leave no other trace."""
RESULTS = "bench."
"""What the names of Celery's results begin with."""
STORE = "BENCH_STORE_URL"
"""The environment variable of the Redis that has the count, Celery's results and celery-saga's state."""

NAP = 0.005
"""Seconds."""
TEXT = random.Random(7).randbytes(50_000).hex()
"""100 KB that hardly compress."""

PEER = ["bench.celery_saga_app"] if find_spec("celery_saga") else []

app = Celery("bench", set_as_current=False, include=PEER)
app.conf.update(
    task_default_queue=QUEUE,
    task_ignore_result=True,
    result_backend_transport_options={"global_keyprefix": RESULTS},
    database_table_schemas={"task": SCHEMA, "group": SCHEMA},
    broker_connection_retry_on_startup=True,
)


@cache
def store() -> Redis:
    """The Redis that has the count."""
    return Redis.from_url(os.environ[STORE])


@cache
def results() -> DatabaseBackend:
    """Celery's result backend in the Postgres that has the sagas."""
    return DatabaseBackend(app=app, dburi=os.environ["SAGA_DATABASE_URL"])


# --- tasks ------------------------------------------------------------------------------------------------------------


@app.task
def noop() -> None:
    """Nothing."""


@app.task
def last() -> None:
    """The end of a chain."""
    store().incr(DONE)


@app.task
def nap() -> None:
    time.sleep(NAP)


@app.task
def last_nap() -> None:
    time.sleep(NAP)
    store().incr(DONE)


@app.task
def refuse() -> None:
    raise Abort("as every time")


@app.task(ignore_result=False)
def kept() -> None:
    """Nothing, and a result backend keeps that."""


class InPostgres(Task):  # type: ignore[misc]
    """A task whose result is where those of sagas are."""

    @property
    def backend(self) -> DatabaseBackend:
        return results()


@app.task(ignore_result=False, base=InPostgres)
def kept_in_postgres() -> None:
    """Nothing, and Postgres keeps that."""


class Counted(Task):  # type: ignore[misc]
    """A task that is counted once its result is kept."""

    def after_return(self, *_: object) -> None:
        store().incr(DONE)


@app.task
def text() -> str:
    return TEXT


@app.task(ignore_result=False, base=Counted)
def kept_text() -> str:
    return TEXT


# --- sagas ------------------------------------------------------------------------------------------------------------


def _steps(task: Task, count: int, compensate: Task | None = None) -> list[Step]:
    return [Step(task, name=f"step_{number}", compensate=compensate, careless=True) for number in range(1, count + 1)]


four_steps = Saga("four_steps", *_steps(noop, 4))
twenty_steps = Saga("twenty_steps", *_steps(noop, 20))
four_naps = Saga("four_naps", *_steps(nap, 4))
ten_at_once = Saga("ten_at_once", Parallel(*_steps(noop, 10)))
rolled_back = Saga("rolled_back", *_steps(noop, 3, compensate=noop), Step(refuse, compensate=None))
one_text = Saga("one_text", Step(text, compensate=None))

orchestrator = Orchestrator(app, sagas=[four_steps, twenty_steps, four_naps, ten_at_once, rolled_back, one_text])

# --- the same without sagas -------------------------------------------------------------------------------------------


def _chain(count: int, task: Task = noop, end: Task = last) -> Signature:
    return chain(*(task.si() for _ in range(count - 1)), end.si())


one_task = last.si()
chain_of_four = _chain(4)
chain_of_seven = _chain(7)
chain_of_twenty = _chain(20)
chain_of_naps = _chain(4, nap, last_nap)
chain_with_result = _chain(4, noop, kept)
chain_with_result_in_postgres = _chain(4, noop, kept_in_postgres)
chord_of_ten = chord([kept.si() for _ in range(10)], last.si())
task_with_text = kept_text.si()
