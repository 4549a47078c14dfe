"""The app that is measured: tasks that do nothing, as a saga of four steps and as a chain of four tasks."""

from __future__ import annotations

import os

from celery import Celery, chain
from redis import Redis

from saga import Orchestrator, Saga, Step

DONE = "benchmark.done"

app = Celery("benchmark", broker=os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0"))
app.conf.update(
    saga_database_url=os.environ.get("SAGA_DATABASE_URL"),
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
)


@app.task
def noop() -> None:
    pass


@app.task
def last() -> None:
    """The end of a chain: it is counted, for a chain leaves no other trace."""
    counter.incr(DONE)


counter = Redis.from_url(str(app.conf.broker_url))
four_steps = Saga("four_steps", *[Step(noop, name=f"step_{number}", compensate=None) for number in range(4)])
four_tasks = chain(noop.si(), noop.si(), noop.si(), last.si())
orchestrator = Orchestrator(app, sagas=[four_steps])
