"""Routing: the queue of a task, found as Celery finds it, before there is a message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery
from celery.app.task import Task

from saga.core.text import clean_text
from saga.errors import DefinitionError


class Routing:
    """Where the tasks of an app run.

    Args:
        app: asked for when first needed.
        fallback: the queue of tasks that have neither a queue nor a route; Celery's default queue if it is not set.
    """

    def __init__(self, app: Callable[[], Celery], fallback: Callable[[], str | None]) -> None:
        self._app = app
        self._fallback = fallback

    def queue(self, task_name: str) -> str:
        """The queue of a task; for the empty name, the queue of work that belongs to no task.

        Raises:
            DefinitionError: a router fails, or gives an answer that Celery does not take; the text names it.
        """
        app = self._app()
        task = app.tasks.get(task_name)
        own = getattr(task, "queue", None)
        found = own or (self._routed(task_name, task) if task_name else None)
        return _name(found or self._fallback() or app.conf.task_default_queue)

    def _routed(self, task_name: str, task: Task | None) -> Any:
        """The queue that the first router with an answer names; no router ever sees a step's arguments."""
        router = self._app().amqp.router
        for route in router.routes:
            options = {} if task is None else {**task._get_exec_options()}
            options.pop("queue", None)
            try:
                answer = router.query_router(route, task_name, (), {}, options, task)
                if answer is not None:
                    return _queue(answer)
            except Exception as error:
                text = clean_text(f"{type(error).__name__}: {error}"[:300])
                raise DefinitionError(
                    f"the router {_described(route)} of task_routes fails for task {task_name!r}: {text}; "
                    "Celery calls it with (name, args=(), kwargs={}, options, task)"
                ) from error
        return None


def _queue(answer: Any) -> Any:
    """The queue in a router's answer."""
    if isinstance(answer, str):
        return answer
    if isinstance(answer, Mapping):
        return answer.get("queue")
    raise TypeError(f"it answers {answer!r:.100}; expected a queue's name, a mapping with one, or None")


def _name(queue: Any) -> str:
    return str(getattr(queue, "name", queue))


def _described(route: Any) -> str:
    name = getattr(route, "__qualname__", None)
    if name is None:
        return f"{type(route).__module__}.{type(route).__qualname__}"
    return f"{getattr(route, '__module__', None)}.{name}"
