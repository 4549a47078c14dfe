"""Makes a task ready to be a step: what Celery would do without the log is prevented."""

from __future__ import annotations

from functools import wraps
from typing import Any

from celery.app.task import Task

from saga.errors import Abort
from saga.language.refusal import Refused

_PREPARED = "_saga_prepared"


def prepare(task: Task) -> Task:
    """Make a task safe as a step, once. Outside a saga it works as before.

    Its ``retry`` publishes nothing inside a step: the attempt fails, and the saga's policy decides. ``Abort``, and what
    the step's ``abort_on`` names, are expected errors, so Celery logs them without a traceback.
    """
    kind = type(task)
    if kind.__dict__.get(_PREPARED) is not True:
        kind.retry = _quiet(kind.retry)
        setattr(kind, _PREPARED, True)
    if Refused not in task.throws:
        task.throws = (*task.throws, Abort, Refused)
    return task


def _quiet(retry: Any) -> Any:
    @wraps(retry)
    def retry_in_step(self: Task, *args: Any, **options: Any) -> Any:
        request = self.request
        if getattr(request, "saga", None) is None:
            return retry(self, *args, **options)
        if (
            options.get("countdown") is None
            and options.get("eta") is None
            and self.default_retry_delay == Task.default_retry_delay
        ):
            # Nobody asked for Celery's stock three minutes; the step's own policy says how long to wait.
            options["countdown"] = 0
        options["throw"] = True
        eager, request.is_eager = request.is_eager, True
        try:
            return retry(self, *args, **options)
        finally:
            request.is_eager = eager

    return retry_in_step
