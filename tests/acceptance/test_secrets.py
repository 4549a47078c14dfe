"""A worker that logs all it can tells neither the password of its database nor what its sagas are about."""

from __future__ import annotations

import pytest

from saga import Status
from saga.core.rows import Dispatch
from saga.dev import Stack
from tests.acceptance.conftest import HERE, PATIENCE, World, eventually

pytestmark = pytest.mark.acceptance

PASSWORD = "hush"
CARD = "4111-1111-1111-1111"


def test_a_worker_that_cannot_reach_its_database_does_not_log_the_password(stack: Stack, world: World) -> None:
    url = f"postgresql://ann:{PASSWORD}@127.0.0.1:1/shop"
    worker = stack.worker(
        "acceptance_app", cwd=HERE, queues=[world.queue], concurrency=1, loglevel="debug",
        env={"SAGA_DATABASE_URL": url, "CELERY_BROKER_URL": world.broker_url, "ACCEPTANCE_QUEUE": world.queue},
    )  # fmt: skip
    world.workers.append(worker)
    worker.wait_ready(PATIENCE)
    world.orchestrator.publisher.publish([Dispatch(world.start("sequence").id, "main", world.queue)])

    eventually(lambda: "the database does not answer" in worker.output(), "the worker's word on the message")
    eventually(lambda: "the relay cannot reach the database" in worker.output(), "the relay's word")
    assert PASSWORD not in worker.output()


def test_a_worker_logs_no_input_no_argument_and_no_result(world: World) -> None:
    worker = world.worker(concurrency=1, loglevel="debug")

    done = world.orchestrator.start("typed", {"amount": 1, "email": CARD})
    failed = world.start("sequence", {"b": "fail", "note": CARD})

    assert [world.finish(done), world.finish(failed)] == [Status.COMPLETED, Status.COMPENSATED]
    assert done.result()["mail"][0] == CARD
    eventually(lambda: worker.output().count("<in the saga log>") >= 3, "the lines of the steps")
    assert CARD not in worker.output()
