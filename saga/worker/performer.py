"""Performer: makes one attempt: binds the arguments, runs the task through Celery's own tracer, and takes its outcome."""

from __future__ import annotations

import traceback as tracebacks
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import sqlalchemy
from celery import Celery, states
from celery.app.task import Task
from celery.app.trace import trace_task
from celery.exceptions import NotRegistered, Reject, Retry, SoftTimeLimitExceeded
from sqlalchemy.orm import Session

from saga.context import Current, action_key, reset_current, set_current, undo_key
from saga.core.outcome import Failure, Interruption, Outcome, Success
from saga.core.state import Results
from saga.core.text import clean_text
from saga.crashpoints import reach
from saga.errors import Abort, ResultError, SagaError
from saga.language.binding import Values, arguments
from saga.language.codec import result_json
from saga.language.refusal import Question, Refusal, asking
from saga.store.port import StepTransaction
from saga.store.values import TransactionEnded
from saga.telemetry.trace import headers
from saga.telemetry.watch import watched
from saga.telemetry.wording import REDACTED
from saga.worker.attempt import Attempt
from saga.worker.recorder import Recorder
from saga.worker.report import describe
from saga.worker.step_task import prepare

TOLD_TO_STOP = "the worker was told to stop"


class StepError(SagaError):
    """A step used something of Celery's that has no meaning inside a saga."""


class Performer:
    """Makes attempts.

    Args:
        max_payload: the largest result, in bytes of JSON.
        stopping: whether the worker is shutting down.
    """

    def __init__(self, app: Celery, attempts: Recorder, max_payload: int, stopping: Callable[[], bool]) -> None:
        self._app = app
        self._attempts = attempts
        self._store = attempts.engine.store
        self._max_payload = max_payload
        self._stopping = stopping

    def perform(self, run: Attempt, carrier: Any) -> Outcome:
        """Make an attempt of a plain step. Its outcome is not recorded yet.

        Args:
            carrier: the request of the Celery task whose message brought the attempt here.
        """
        return self._attempt(run, carrier, None)

    def broken_off(self, error: BaseException) -> Outcome:
        """An exception that came through Celery's tracer: a shutdown, unless the step exits by itself."""
        if isinstance(error, Exception):
            return Failure(error, traceback=_traceback(error))
        if not self._stopping():
            return Failure(StepError(f"the step ended its process: {describe(error)}"), traceback=_traceback(error))
        return Interruption(f"{type(error).__name__}: {TOLD_TO_STOP}")

    def _attempt(self, run: Attempt, carrier: Any, connection: sqlalchemy.Connection | None) -> Outcome:
        """Make the attempt in the trace in which the saga was started. Sentry is told of its failure once that is final."""
        attempt = _current(run, connection)
        with watched(run.name, run.state.trace) as watch:
            run.watch = watch
            outcome = self._bind_and_trace(run, attempt, carrier)
        if isinstance(outcome, Failure) and not watch.refused:
            watch.error = outcome.error
        return outcome

    def _bind_and_trace(self, run: Attempt, attempt: Current, carrier: Any) -> Outcome:
        try:
            task = prepare(self._app.tasks[run.job.task])
            reserved = _reserved(run, attempt.connection)
            kwargs = arguments(run.saga, run.job, Values(run.state.input, Results(run.state.steps), reserved))
        except NotRegistered:
            return Failure(
                StepError(f"no task {run.job.task!r} is registered in this worker; import its module"), effect=False
            )
        except Exception as error:
            if isinstance(error, SoftTimeLimitExceeded):
                return Interruption("the worker's time limit came")
            return Failure(error, effect=False, final=True, traceback=_traceback(error))
        reach(f"{run.path}.before_task")
        outcome = self._trace(run, task, kwargs, carrier, attempt)
        reach(f"{run.path}.after_task")
        if isinstance(outcome, Success) and (session := reserved.get("session")) is not None:
            session.flush()
        return outcome

    def _trace(self, run: Attempt, task: Task, kwargs: dict[str, Any], carrier: Any, attempt: Current) -> Outcome:
        """Run the task as Celery's worker would: signals, hooks, ``self.request`` and instrumentation stay."""
        number = uuid4()
        task_id, carrier_id = str(number), getattr(carrier, "id", None)
        trace = headers(run.state.trace)
        request = {
            **trace, "id": task_id, "task": task.name, "root_id": str(run.saga_id), "parent_id": carrier_id,
            "retries": run.attempt - 1, "ignore_result": True, "hostname": getattr(carrier, "hostname", None),
            "headers": trace, "argsrepr": "()", "kwargsrepr": REDACTED, "saga": attempt,
            "delivery_info": {"redelivered": False, "routing_key": run.claim.queue, "exchange": "", "priority": None},
        }  # fmt: skip
        assert run.watch is not None
        context = set_current(attempt)
        try:
            with (
                asking(run.job.refusal) as question,
                run.watch.calling(self._app, task.name, number, carrier),
            ):
                traced = trace_task(task, task_id, (), kwargs, request, app=self._app)
        except Reject as error:
            return _refused(error)
        finally:
            reset_current(context)
        if traced.info is None:
            return self._returned(run, traced.retval)
        raised = traced.info.retval
        if isinstance(raised, NotImplementedError) and self._stopping():
            return Interruption(TOLD_TO_STOP)  # how a solo pool breaks off a task
        outcome = _raised(traced.info.state, raised, question, transactional=attempt.connection is not None)
        run.watch.refused = isinstance(outcome, Failure) and _is_refusal(outcome.error, question)
        return outcome

    def _returned(self, run: Attempt, value: Any) -> Outcome:
        try:
            return Success(result_json(value, run.job.returns, self._max_payload, as_declared=not run.undo))
        except Exception as error:
            problem = (
                error
                if isinstance(error, ResultError)
                else ResultError(f"it fails while it is stored: {describe(error)}")
            )
            return Failure(problem, effect=not run.job.transactional, final=True)

    # --- transactional steps ------------------------------------------------------------------------------------------

    def perform_within(
        self, run: Attempt, carrier: Any, may_continue: Callable[[], bool], *, hold: bool
    ) -> Attempt | None:
        """Run a transactional step: what it writes and the log's entry are one transaction."""
        draft = written = None
        within = self._store.transaction(run.job.timeout)
        try:
            with within:
                with within.shared():
                    outcome = self._attempt(run, carrier, within.connection)
                if isinstance(outcome, Success):
                    joined = within.settled()
                    recorded = self._attempts.record_within(run, outcome, joined, keep=may_continue())
                    if recorded is None and run.stands:
                        raise StepError("its entry found no place in the log; nothing is committed")
                    if recorded is not None:
                        draft, written = recorded
                        reach(f"{run.path}.before_commit", within.driver)
                        within.commit()
                        reach(f"{run.path}.after_commit")
            if written is not None:
                within.committed()
        except Exception as error:
            if isinstance(error, SoftTimeLimitExceeded):
                outcome = Interruption("the worker's time limit came")
            else:
                outcome = Failure(error, effect=False, traceback=_traceback(error))
            written = self._found(draft, within)
        except BaseException as error:
            self._end_broken_off(run, draft, error)
            raise
        finally:
            run.over = True
        if draft is not None and written is not None:
            return self._attempts.go_on(run, draft, written)
        if within.ended:
            outcome = _ended_itself(outcome)
        return self._attempts.record(run, outcome, may_continue, hold=hold)

    def _found(self, draft: Any, within: StepTransaction) -> Any:
        """What a commit without an answer has written after all."""
        written = self._attempts.find(draft) if draft is not None else None
        if written is not None:
            within.committed()
        return written

    def _end_broken_off(self, run: Attempt, draft: Any, error: BaseException) -> None:
        written = self._attempts.find(draft) if draft is not None else None
        if written is not None:
            following = self._attempts.go_on(run, draft, written)
            if following is not None:
                self._attempts.record(following, Interruption(f"{type(error).__name__}: not begun"), _never)
            return
        outcome = self.broken_off(error)
        self._attempts.record(run, replace(outcome, effect=False) if isinstance(outcome, Failure) else outcome, _never)


def _never() -> bool:
    return False


def _ended_itself(outcome: Outcome) -> Failure:
    """The outcome of a transactional step that ended the log's transaction: it may have had an effect."""
    if isinstance(outcome, Failure) and not isinstance(outcome.error, TransactionEnded):
        return replace(outcome, effect=True)
    return Failure(TransactionEnded(), final=True)


def _current(run: Attempt, connection: sqlalchemy.Connection | None) -> Current:
    own = action_key(run.saga_id, run.step)
    key = undo_key(run.saga_id, run.step) if run.undo else own
    return Current(run.saga_id, run.saga.name, run.step, run.attempt, key, own, run.undo, connection)


def _reserved(run: Attempt, connection: sqlalchemy.Connection | None) -> dict[str, Any]:
    own = action_key(run.saga_id, run.step)
    values: dict[str, Any] = {
        "idempotency_key": undo_key(run.saga_id, run.step) if run.undo else own,
        "action_key": own,
        "error": run.state.reason,
        "result": run.state.steps[run.step].result if run.undo else None,
        "connection": connection,
    }
    if connection is not None and any(wire.source.name == "session" for wire in run.job.wires):
        values["session"] = Session(connection, join_transaction_mode="create_savepoint")
    return values


def _raised(state: str, error: Any, refusal: Question | Refusal | None, *, transactional: bool) -> Outcome:
    """The outcome of a task that did not simply return, in each way in which Celery says so."""
    effect = not transactional
    if state == states.RETRY and isinstance(error, Retry):
        cause = error.exc if isinstance(error.exc, BaseException) else error
        if _is_refusal(cause, refusal):
            return Failure(cause, effect=False, final=True)
        return Failure(cause, effect=effect, min_wait=_seconds(error.when), traceback=_traceback(cause))
    if state in (states.REJECTED, states.IGNORED):
        return _refused(error)
    if isinstance(error, SoftTimeLimitExceeded):
        return Interruption("the worker's time limit came")
    if _is_refusal(error, refusal):
        return Failure(error, effect=False, final=True)
    if not isinstance(error, BaseException):
        error = StepError(clean_text(error))
    return Failure(error, effect=effect, traceback=_traceback(error))


def _is_refusal(error: Any, refusal: Question | Refusal | None) -> bool:
    return isinstance(error, Abort) or (refusal is not None and error in refusal)


def _refused(error: Any) -> Failure:
    name = type(error).__name__
    return Failure(
        StepError(f"the step raised Celery's {name} (replace() does so too), which has no meaning inside a saga"),
        final=True,
    )


def _seconds(when: Any) -> float:
    if isinstance(when, datetime):
        moment = when if when.tzinfo else when.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    return float(when or 0.0)


def _traceback(error: BaseException) -> str | None:
    if error.__traceback__ is None:
        return None
    try:
        text = "".join(tracebacks.format_exception(error))
    except Exception:
        return None
    return clean_text(text[-4000:])
