"""Worlds to test in: a database, a queue, and real worker processes of the acceptance app."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from saga import Handle, Orchestrator, Status
from saga.dev import Stack, Worker
from tests.conftest import make_database

HERE = Path(__file__).parent
RABBITMQ = "amqp://guest:guest@localhost:5672//"
PATIENCE = 30.0

_spec = importlib.util.spec_from_file_location("acceptance_app", HERE / "acceptance_app.py")
assert _spec is not None
assert _spec.loader is not None
acceptance_app = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(acceptance_app)

_numbers = itertools.count(1)


class World:
    """Somewhere for sagas to run, and a look at what they did.

    Args:
        conf: further configuration of Celery.
    """

    def __init__(self, stack: Stack, broker_url: str, conf: dict[str, Any] | None = None) -> None:
        self.stack = stack
        self.broker_url = broker_url
        self.queue = f"acceptance-{os.getpid()}-{next(_numbers)}"
        self.database_url = make_database(stack)
        self.conf = conf or {}
        self.orchestrator: Orchestrator = acceptance_app.build(broker_url, self.database_url, self.queue, self.conf)
        self.workers: list[Worker] = []
        self.sql(acceptance_app.TABLES)

    def worker(self, **options: Any) -> Worker:
        """Start a worker and wait until it is ready."""
        worker = self.spawn(**options)
        worker.wait_ready(PATIENCE)
        return worker

    def spawn(self, env: dict[str, str] | None = None, **options: Any) -> Worker:
        """Start a worker."""
        given = {
            "SAGA_DATABASE_URL": self.database_url,
            "CELERY_BROKER_URL": self.broker_url,
            "ACCEPTANCE_QUEUE": self.queue,
            "ACCEPTANCE_CONF": json.dumps(self.conf),
        }
        options.setdefault("queues", [self.queue])
        worker = self.stack.worker("acceptance_app", cwd=HERE, env=given | (env or {}), **options)
        self.workers.append(worker)
        return worker

    def start(self, saga: str, script: dict[str, Any] | None = None, /, **options: Any) -> Handle:
        """Start a saga whose steps do as the script says."""
        return self.orchestrator.start(saga, {"script": script or {}}, **options)

    def finish(self, handle: Handle) -> Status:
        """Wait for a saga's end."""
        return handle.wait(PATIENCE)

    def effects(self, handle: Handle) -> list[str]:
        """What the steps wrote down, in order: ``a``, ``undo a``, with the attempt where it was not the first."""
        rows = self.sql("SELECT step, undo, attempt FROM effect WHERE saga = %s ORDER BY id", str(handle.id))
        return [
            f"{'undo ' if undo else ''}{step}{f' {attempt}' if attempt > 1 else ''}" for step, undo, attempt in rows
        ]

    def seen(self, handle: Handle, step: str) -> list[Any]:
        """What the undo of a step was given, attempt by attempt."""
        rows = self.sql(
            "SELECT seen FROM effect WHERE saga = %s AND step = %s AND undo ORDER BY id", str(handle.id), step
        )
        return [eval(row[0]) for row in rows]

    def keys(self, handle: Handle, step: str) -> set[str]:
        """The idempotency keys under which a step's action ran."""
        rows = self.sql("SELECT key FROM effect WHERE saga = %s AND step = %s AND NOT undo", str(handle.id), step)
        return {row[0] for row in rows}

    def open_gate(self, name: str) -> None:
        """Let the steps go on that wait at it."""
        self.sql("INSERT INTO gate VALUES (%s) ON CONFLICT DO NOTHING", name)

    def await_effect(self, handle: Handle, effect: str) -> None:
        """Wait until a step has written that it runs."""
        eventually(lambda: effect in self.effects(handle), f"{effect!r} of {handle}")

    def sql(self, statement: str, *parameters: Any) -> list[Any]:
        """Run a statement on the world's database."""
        with psycopg.connect(self.database_url.replace("+psycopg", ""), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def leftovers(self) -> list[Any]:
        """Rows of work that are still there."""
        return self.sql("SELECT * FROM saga.work")

    def close(self) -> None:
        """Stop its workers and close its connections."""
        for worker in self.workers:
            worker.kill()
        self._delete_queues()
        self.orchestrator.close()

    def _delete_queues(self) -> None:
        if self.broker_url == RABBITMQ:
            with self.orchestrator.app.connection_for_write() as connection:
                for name in (self.queue, f"{self.queue}.routed"):
                    connection.default_channel.queue_delete(name)


def eventually(question: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Ask again until the answer is true, and return it."""
    limit = time.monotonic() + patience
    while time.monotonic() < limit:
        if answer := question():
            return answer
        time.sleep(0.01)
    raise AssertionError(f"waited {patience:g} s in vain for {what}")


def rabbitmq_answers() -> bool:
    try:
        with socket.create_connection(("localhost", 5672), timeout=2):
            return True
    except OSError:
        return False


def broker_url(stack: Stack, name: str) -> str:
    """The URL of a broker; skips the test where there is none, unless it is required."""
    if name == "valkey":
        return stack.broker_url
    if not rabbitmq_answers():
        if os.environ.get("PGSAGA_REQUIRE_RABBITMQ"):
            pytest.fail("RabbitMQ is required, but does not answer on localhost:5672")
        pytest.skip("no RabbitMQ on localhost:5672")
    return RABBITMQ


BROKERS = ["valkey", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)]

LATE = {"task_acks_late": True, "task_reject_on_worker_lost": True}
QUORUM = {"task_default_queue_type": "quorum", "task_create_missing_queue_type": "quorum"}
EVERY_BROKER = [
    pytest.param("valkey", {}, id="valkey"),
    pytest.param("valkey", LATE, id="valkey-acks-late"),
    pytest.param("rabbitmq", {}, id="rabbitmq-classic", marks=pytest.mark.rabbitmq),
    pytest.param("rabbitmq", LATE, id="rabbitmq-classic-acks-late", marks=pytest.mark.rabbitmq),
    pytest.param("rabbitmq", QUORUM, id="rabbitmq-quorum", marks=pytest.mark.rabbitmq),
    pytest.param("rabbitmq", QUORUM | LATE, id="rabbitmq-quorum-acks-late", marks=pytest.mark.rabbitmq),
]
"""Every kind of broker and queue, and both ways to acknowledge: a name for ``broker_url``, and Celery's configuration."""


@pytest.fixture(scope="module", params=BROKERS)
def shared_world(request: pytest.FixtureRequest, stack: Stack) -> Iterator[World]:
    """A world with one prefork worker, for tests that leave it whole."""
    world = World(stack, broker_url(stack, request.param))
    world.worker(concurrency=2, queues=[world.queue, f"{world.queue}.routed"])
    yield world
    world.close()


@pytest.fixture(params=BROKERS)
def world(request: pytest.FixtureRequest, stack: Stack) -> Iterator[World]:
    """A world of its own for one test, no worker yet."""
    world = World(stack, broker_url(stack, request.param))
    yield world
    world.close()
