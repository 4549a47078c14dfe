"""The app that is measured: sagas of four steps that do next to nothing, and end as their input says."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from celery import Celery

from bench.size_fill import NAMES
from saga import Abort, Orchestrator, Retry, Saga, Step


def act(order: int) -> dict[str, Any]:
    return {"reference": f"R-{order:08}", "state": "done"}


def end(order: int, ending: str = "completed") -> dict[str, Any]:
    if ending != "completed":
        raise Abort(f"order {order} was refused")
    return act(order)


def undo(ending: str = "completed") -> None:
    if ending == "stuck":
        raise Abort("the reservation cannot be found")


def nothing() -> None:
    pass


def build(queue: str, broker_url: str | None, database_url: str | None) -> Orchestrator:
    """An app whose messages go by a queue of its own, so that there may be one for each database."""
    app = Celery("size", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_default_queue=queue,
        task_ignore_result=True,
        broker_connection_retry_on_startup=True,
    )
    tasks = {task.__name__: app.task(task, name=f"size.{task.__name__}") for task in (act, end, undo, nothing)}
    return Orchestrator(
        app, sagas=[*(_saga(name, tasks) for name in NAMES), _four_steps(tasks)], database_url=database_url
    )


def _saga(name: str, tasks: dict[str, Any]) -> Saga:
    once: dict[str, Any] = {"compensate": tasks["undo"], "careless": True, "compensate_retry": Retry.none(), "timeout": timedelta(minutes=1)}  # fmt: skip
    steps = [Step(tasks["act"], name=step, **once) for step in ("reserve", "charge", "ship")]
    return Saga(name, *steps, Step(tasks["end"], name="confirm", compensate=None))


def _four_steps(tasks: dict[str, Any]) -> Saga:
    return Saga("four_steps", *(Step(tasks["nothing"], name=f"step_{n}", compensate=None) for n in range(4)))


# What a worker loads.
orchestrator = build(os.environ.get("SIZE_QUEUE", "size"), os.environ.get("CELERY_BROKER_URL"), os.environ.get("SAGA_DATABASE_URL"))  # fmt: skip
app = orchestrator.app
