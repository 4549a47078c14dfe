"""Said: what Celery says of a task that is over, as an outcome."""

from __future__ import annotations

import traceback as tracebacks
from datetime import UTC, datetime
from typing import Any

from celery import states
from celery.exceptions import Retry, SoftTimeLimitExceeded

from saga.core.outcome import Failure, Interruption, Outcome
from saga.core.text import clean_text
from saga.errors import Abort, SagaError
from saga.language.refusal import Question, Refusal

TIME_LIMIT = "the worker's time limit came"


class StepError(SagaError):
    """A step used something of Celery's that has no meaning inside a saga."""


def outcome_of(state: str, error: Any, refusal: Question | Refusal | None, *, transactional: bool) -> Outcome:
    """The outcome of a task that did not simply return, in each way in which Celery says so."""
    effect = not transactional
    if state == states.RETRY and isinstance(error, Retry):
        cause = error.exc if isinstance(error.exc, BaseException) else error
        if is_refusal(cause, refusal):
            return Failure(cause, effect=False, final=True)
        return Failure(cause, effect=effect, min_wait=_seconds(error.when), traceback=traceback_of(cause))
    if state in (states.REJECTED, states.IGNORED):
        return refused(error)
    if isinstance(error, SoftTimeLimitExceeded):
        return Interruption(TIME_LIMIT)
    if is_refusal(error, refusal):
        return Failure(error, effect=False, final=True)
    if not isinstance(error, BaseException):
        error = StepError(clean_text(error))
    return Failure(error, effect=effect, traceback=traceback_of(error))


def is_refusal(error: Any, refusal: Question | Refusal | None) -> bool:
    return isinstance(error, Abort) or (refusal is not None and error in refusal)


def refused(error: Any) -> Failure:
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


def traceback_of(error: BaseException) -> str | None:
    if error.__traceback__ is None:
        return None
    try:
        text = "".join(tracebacks.format_exception(error))
    except Exception:
        return None
    return clean_text(text[-4000:])
