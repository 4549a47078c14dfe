"""A saga log without workers: its progress is driven by hand, statement by statement."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from celery import Celery

from saga import Orchestrator, Parallel, Saga, Step
from saga.client.handle import Handle
from saga.core.outcome import Success
from saga.engine.engine import Engine
from saga.worker.attempt import Attempt
from saga.worker.claimer import Claimer
from saga.worker.performers.plain import Performer
from saga.worker.performers.transactional import TransactionalPerformer
from saga.worker.recorder import Recorder

app = Celery("integration", broker="memory://")


@app.task(shared=False)
def act() -> Any: ...


@app.task(shared=False)
def undo() -> Any: ...


def step(name: str, **options: Any) -> Step:
    return Step(act, name=name, compensate=undo, **options)


SEQUENCE = Saga("sequence", step("a"), step("b"), step("c"), step("d"))
FORKED = Saga("forked", step("a"), Parallel(step("b"), step("c")), step("d"))
SAGAS = [SEQUENCE, FORKED]


ASKED: dict[str, Any] = {"realms": ["", "integration"], "limit": 10, "aside": [], "until": 1e12}
"""What the relay asks for with each of its chores."""


def always() -> bool:
    return True


def never() -> bool:
    return False


@dataclass
class Bench:
    """An orchestrator whose messages go nowhere, and workers of it in this process."""

    orchestrator: Orchestrator
    url: str
    published: list[Any]

    @property
    def engine(self) -> Engine:
        return self.orchestrator.engine

    def worker(self, number: int = 1) -> Recorder:
        """A worker of that number, with an engine of its own as another process would have."""
        engine = Engine(self.orchestrator.store, self.engine.catalog, self.published.extend)
        return Recorder(engine, lambda: number, inline_wait=1.0)

    def start(self, saga: Saga = SEQUENCE, **options: Any) -> Handle:
        return self.orchestrator.start(saga, {}, **options)

    def claimed(self, handle: Handle, lane: str = "main", worker: Recorder | None = None) -> Attempt:
        run = Claimer(worker or self.worker()).claim(handle.id, lane)
        assert run is not None
        return run

    def finish(self, worker: Recorder, run: Attempt | None) -> None:
        """Let every attempt that follows succeed."""
        while run is not None:
            run = worker.record(run, Success(run.step), always)

    def sql(self, statement: str, *parameters: Any) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def until(self, question: Callable[[], Any], what: str) -> None:
        """Wait until the answer is true."""
        limit = time.monotonic() + 10
        while not question():
            assert time.monotonic() < limit, f"waited in vain for {what}"
            time.sleep(0.005)

    def until_blocked(self) -> None:
        """Wait until a session of this database waits for another's lock."""
        query = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        self.until(lambda: self.sql(query), "a session that waits for a lock")

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A session of its own, in a transaction from its first statement on."""
        return psycopg.connect(self.url)


def perform_within(app: Celery, worker: Recorder, attempt: Attempt) -> Attempt | None:
    """Make an attempt of a transactional step, as the executor does; returns what follows."""
    plain = Performer(app, 1_000_000, never)
    performer = TransactionalPerformer(plain, worker.engine.store.transaction, worker.find)
    done = performer.perform(
        attempt, None, lambda outcome, store: worker.record_within(attempt, outcome, store, keep=True)
    )
    if done.entered is not None:
        return worker.go_on(attempt, *done.entered)
    return worker.record(attempt, done.outcome, always, hold=False)


@contextmanager
def open_bench(name: str, sagas: Sequence[Saga], database_url: str) -> Iterator[Bench]:
    """A bench for sagas of ``act`` and ``undo``, for an app of that name."""
    own = Celery(name, broker="memory://", set_as_current=False)
    for task in (act, undo):
        own.task(task.run, name=task.name, shared=False)
    orchestrator = Orchestrator(own, sagas=sagas, database_url=database_url)
    published: list[Any] = []
    orchestrator.engine.publish = published.extend
    yield Bench(orchestrator, database_url.replace("+psycopg", ""), published)
    orchestrator.close()


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    with open_bench("integration", SAGAS, database_url) as found:
        yield found
