"""Plain: one attempt of a step: its arguments bound, its task run through Celery's own tracer, what came of it taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import sqlalchemy
from celery import Celery
from celery.app.task import Task
from celery.app.trace import trace_task
from celery.exceptions import NotRegistered, Reject, SoftTimeLimitExceeded
from sqlalchemy.orm import Session

from saga.context import Current, action_key, reset_current, set_current, undo_key
from saga.core.outcome import Failure, Interruption, Outcome, Success
from saga.core.state import Results
from saga.crashpoints import reach
from saga.errors import ResultError
from saga.language.binding import Values, arguments
from saga.language.codec import result_json
from saga.language.definition import Job
from saga.language.refusal import asking
from saga.telemetry.sentry import held_back
from saga.telemetry.trace import headers, restored
from saga.telemetry.watch import Watch
from saga.telemetry.wording import REDACTED
from saga.worker.attempt import Attempt
from saga.worker.performers.said import TIME_LIMIT, StepError, is_refusal, outcome_of, refused, traceback_of
from saga.worker.report import describe
from saga.worker.step_task import prepare

TOLD_TO_STOP = "the worker was told to stop"


class Performer:
    """Makes attempts of plain steps.

    Args:
        max_payload: the largest result, in bytes of JSON.
        stopping: whether the worker is shutting down.
    """

    def __init__(self, app: Celery, max_payload: int, stopping: Callable[[], bool]) -> None:
        self._app = app
        self._max_payload = max_payload
        self._stopping = stopping

    def perform(self, attempt: Attempt, carrier: Any, connection: sqlalchemy.Connection | None = None) -> Outcome:
        """Make an attempt, in the trace in which the saga was started; what Sentry is told of its failure is held back.

        Args:
            carrier: the request of the Celery task whose message brought the attempt here.
            connection: of a transactional step.
        """
        name = attempt.name
        with restored(attempt.state.trace), held_back(name) as report:
            attempt.watch = watch = Watch(name, report)
            outcome = self._bind_and_trace(attempt, _current(attempt, connection), carrier)
        if isinstance(outcome, Failure) and not watch.refused:
            watch.error = outcome.error
        return outcome

    def broken_off(self, error: BaseException) -> Failure | Interruption:
        """An exception that came through Celery's tracer: a shutdown, unless the step exits by itself."""
        if isinstance(error, Exception):
            return Failure(error, traceback=traceback_of(error))
        if not self._stopping():
            return Failure(StepError(f"the step ended its process: {describe(error)}"), traceback=traceback_of(error))
        return Interruption(f"{type(error).__name__}: {TOLD_TO_STOP}")

    def _bind_and_trace(self, attempt: Attempt, current: Current, carrier: Any) -> Outcome:
        job = attempt.job
        try:
            task = prepare(self._app.tasks[job.task])
            reserved = _reserved(attempt, job, current)
            kwargs = arguments(attempt.saga, job, Values(attempt.state.input, Results(attempt.state.steps), reserved))
        except NotRegistered:
            return Failure(
                StepError(f"no task {job.task!r} is registered in this worker; import its module"), effect=False
            )
        except Exception as error:
            if isinstance(error, SoftTimeLimitExceeded):
                return Interruption(TIME_LIMIT)
            return Failure(error, effect=False, final=True, traceback=traceback_of(error))
        reach(f"{attempt.path}.before_task")
        outcome = self._trace(attempt, job, task, kwargs, carrier, current)
        reach(f"{attempt.path}.after_task")
        if isinstance(outcome, Success) and (session := reserved.get("session")) is not None:
            session.flush()
        return outcome

    def _trace(
        self, attempt: Attempt, job: Job, task: Task, kwargs: dict[str, Any], carrier: Any, current: Current
    ) -> Outcome:
        """Run the task as Celery's worker would: signals, hooks, ``self.request`` and instrumentation stay."""
        number = uuid4()
        task_id, carrier_id = str(number), getattr(carrier, "id", None)
        trace = headers(attempt.state.trace)
        request = {
            **trace, "id": task_id, "task": task.name, "root_id": str(attempt.saga_id), "parent_id": carrier_id,
            "retries": attempt.number - 1, "ignore_result": True, "hostname": getattr(carrier, "hostname", None),
            "headers": trace, "argsrepr": "()", "kwargsrepr": REDACTED, "saga": current,
            "delivery_info": {"redelivered": False, "routing_key": attempt.lease.queue, "exchange": "", "priority": None},
        }  # fmt: skip
        watch = attempt.watch
        assert watch is not None
        context = set_current(current)
        try:
            watch.begin(self._app, task.name, number, carrier)
            with asking(job.refusal) as question:
                traced = trace_task(task, task_id, (), kwargs, request, app=self._app)
        except Reject as error:
            return refused(error)
        finally:
            watch.leave()
            reset_current(context)
        if traced.info is None:
            return self._returned(job, traced.retval, undo=current.compensating)
        raised = traced.info.retval
        if isinstance(raised, NotImplementedError) and self._stopping():
            return Interruption(TOLD_TO_STOP)  # how a solo pool breaks off a task
        outcome = outcome_of(traced.info.state, raised, question, transactional=job.transactional)
        watch.refused = isinstance(outcome, Failure) and is_refusal(outcome.error, question)
        return outcome

    def _returned(self, job: Job, value: Any, *, undo: bool) -> Outcome:
        try:
            return Success(result_json(value, job.returns, self._max_payload, as_declared=not undo))
        except Exception as error:
            problem = (
                error
                if isinstance(error, ResultError)
                else ResultError(f"it fails while it is stored: {describe(error)}")
            )
            return Failure(problem, effect=not job.transactional, final=True)


def _current(attempt: Attempt, connection: sqlalchemy.Connection | None) -> Current:
    saga_id, ref = attempt.saga_id, attempt.ref
    own = action_key(saga_id, ref.step)
    key = undo_key(saga_id, ref.step) if ref.undo else own
    return Current(saga_id, attempt.saga.name, ref.step, ref.attempt, key, own, ref.undo, connection)


def _reserved(attempt: Attempt, job: Job, current: Current) -> dict[str, Any]:
    values: dict[str, Any] = {
        "idempotency_key": current.idempotency_key,
        "action_key": current.action_key,
        "error": attempt.state.reason,
        "result": attempt.state.steps[attempt.step].result if attempt.undo else None,
        "connection": current.connection,
    }
    if current.connection is not None and any(wire.source.name == "session" for wire in job.wires):
        values["session"] = Session(current.connection, join_transaction_mode="create_savepoint")
    return values
