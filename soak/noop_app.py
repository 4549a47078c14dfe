"""The app of the orphans: sagas whose steps do nothing, on a queue of their own. It finds its servers in the environment."""

from __future__ import annotations

from celery import Celery

from saga import Orchestrator, Saga, Step

QUEUE = "orphans"

app = Celery("orphans", set_as_current=False)
app.conf.update(saga_queue=QUEUE, task_ignore_result=True, broker_connection_retry_on_startup=True)


@app.task
def noop() -> None:
    """Nothing."""


orphan = Saga("orphan", *[Step(noop, name=f"step_{number}", compensate=None) for number in range(2)])
orchestrator = Orchestrator(app, sagas=[orphan])
