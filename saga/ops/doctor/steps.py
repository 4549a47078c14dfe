"""The checks of the registered sagas' steps against the Celery app that is to run them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from celery import Celery
from celery.app.task import Task
from celery.exceptions import QueueNotFound
from tenacity import stop_after_attempt

from saga.errors import counted
from saga.language.catalog import Catalog
from saga.language.definition import Job, Saga
from saga.ops.doctor.finding import Finding, Level
from saga.ops.doctor.settings import transport


@dataclass(frozen=True, slots=True)
class _Place:
    """One job of a saga, and the place where it is defined."""

    saga: Saga
    step: str
    undo: bool

    @property
    def job(self) -> Job:
        return self.saga.job(self.step, self.undo)

    def __str__(self) -> str:
        return f"saga {self.saga.name!r}, {'undo of ' if self.undo else ''}step {self.step!r}"


def _places(catalog: Catalog) -> Iterator[_Place]:
    for saga in catalog:
        for undo, jobs in ((False, saga.actions), (True, saga.undos)):
            for step in jobs:
                yield _Place(saga, step, undo)


def registered(app: Celery, catalog: Catalog) -> Iterator[Finding]:
    """The tasks of every step are known to the app."""
    for place in _places(catalog):
        if place.job.task not in app.tasks:
            yield Finding(
                Level.BAD,
                f"{place}: task {place.job.task!r} is not registered in this app",
                "import its module where the app is made, through `include=` or autodiscover_tasks()",
            )


def queues(app: Celery, catalog: Catalog) -> Iterator[Finding]:
    """Every step's queue exists, if Celery may not make it."""
    if app.conf.task_create_missing_queues:
        return
    for place in _places(catalog):
        missing = _missing_queue(app, catalog, place)
        if missing is not None:
            yield Finding(
                Level.BAD,
                f"{place}: queue {missing!r} is not in task_queues, and task_create_missing_queues is off",
                "add the queue to task_queues, or correct the step's queue= or the task's route",
            )


def _missing_queue(app: Celery, catalog: Catalog, place: _Place) -> str | None:
    try:
        name = catalog.queue(place.saga, place.step, place.undo)
    except QueueNotFound as error:
        return str(error)
    return None if name in app.amqp.queues else name


def priorities(app: Celery, catalog: Catalog) -> Iterator[Finding]:
    """RabbitMQ heeds priorities only in queues that are declared for them."""
    if transport(app) not in ("amqp", "pyamqp", "amqps", "librabbitmq") or app.conf.task_queue_max_priority:
        return
    for place in _places(catalog):
        if place.job.priority is None:
            continue
        name = place.job.queue or app.conf.task_default_queue
        if not _has_priorities(app.amqp.queues.get(name)):
            yield Finding(
                Level.NOTE,
                f"{place}: priority={place.job.priority} has no effect: RabbitMQ's queue {name!r} has no x-max-priority",
                "set task_queue_max_priority, or declare the queue with Queue(..., max_priority=10)",
            )


def _has_priorities(queue: Any) -> bool:
    return bool(queue and (queue.max_priority or "x-max-priority" in (queue.queue_arguments or {})))


@dataclass(frozen=True, slots=True)
class _Option:
    """A task's option that means nothing inside a saga.

    Attributes:
        setting: the app-wide setting that gives its value, which was not set for this task.
    """

    name: str
    setting: str | None
    remedy: str


_OPTIONS = (
    _Option("rate_limit", "task_default_rate_limit", "limit the workers of the step's queue"),
    _Option("time_limit", None, "use Step(timeout=...)"),
    _Option("soft_time_limit", None, "use Step(timeout=...)"),
    _Option("expires", None, "use start(deadline=...)"),
    _Option("acks_late", "task_acks_late", "drop it: the saga log remembers what a lost worker was doing"),
    _Option("ignore_result", "task_ignore_result", "drop it: a step's result is kept in the saga log"),
    _Option("priority", "task_default_priority", "use Step(priority=...)"),
)


def options(app: Celery, catalog: Catalog) -> Iterator[Finding]:
    """Options of tasks that do not apply when the task is a step; said once for each task."""
    for name in sorted({place.job.task for place in _places(catalog)}):
        task = app.tasks.get(name)
        for option in _OPTIONS if task is not None else ():
            value = getattr(task, option.name, None)
            if value and value != (app.conf[option.setting] if option.setting else None):
                yield Finding(
                    Level.NOTE, f"task {name!r}: {option.name}={value!r} does not apply in a saga", option.remedy
                )


def definitions(app: Celery, catalog: Catalog) -> Iterator[Finding]:  # noqa: ARG001 - every check is given both
    """The warnings from when the sagas were built, which may not have been seen."""
    for saga in catalog:
        for warning in saga.warnings:
            yield Finding(Level.WARNING, warning.what, warning.remedy)


def retries(app: Celery, catalog: Catalog) -> Iterator[Finding]:
    """A task that may be retried more often than its step's policy allows."""
    for place in _places(catalog):
        task = app.tasks.get(place.job.task)
        stop = place.job.retry.stop
        if task is None or not isinstance(stop, stop_after_attempt) or task.max_retries in (None, Task.max_retries):
            continue
        if task.max_retries >= stop.max_attempt_number:
            yield Finding(
                Level.NOTE,
                f"{place}: max_retries={task.max_retries} of {task.name!r} does not apply: "
                f"the step's policy allows {counted(stop.max_attempt_number, 'attempt')}",
                f"use Step(retry=Retry(stop=stop_after_attempt({task.max_retries + 1})))",
            )


STEP_CHECKS: tuple[Callable[[Celery, Catalog], Iterator[Finding]], ...] = (
    registered,
    queues,
    priorities,
    options,
    retries,
    definitions,
)
