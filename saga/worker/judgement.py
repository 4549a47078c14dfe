"""Judgement: what the end of an attempt means, whether there is another one, and what the log is to say of it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TypeVar

from saga.core.events import AttemptFailed, AttemptInterrupted, AttemptSucceeded, Event
from saga.core.machine import failure_outcome
from saga.core.outcome import Failure, Interruption, Outcome, Report, Success
from saga.core.text import ascii_only
from saga.errors import Abort, ResultError, StepTimeout, WorkerLost, first_line
from saga.language.retry import LONGEST
from saga.telemetry.facts.attempts import RetryPolicyFailed
from saga.telemetry.stream import emit
from saga.worker.attempt import Attempt
from saga.worker.report import report

Ending = TypeVar("Ending", bound=Event)

_WORDS = ("error", "traceback", "error_type", "code", "details", "result")
"""Where the events of an ending have what user code said."""


def ending(run: Attempt, outcome: Outcome, wait: float | None, *, held: bool) -> Event:
    """The event that says how an attempt ended.

    Args:
        wait: seconds before the next one; ``None`` when there is none.
        held: the worker keeps the lane meanwhile.
    """
    if isinstance(outcome, Success):
        return AttemptSucceeded(*run.ref, result=outcome.result)
    if isinstance(outcome, Interruption):
        return AttemptInterrupted(*run.ref, error=outcome.reason)
    return failure(run, report(outcome.error), outcome.traceback, wait, effect=outcome.effect, held=held)


def failure(
    run: Attempt, said: Report, traceback: str | None, wait: float | None, *, effect: bool, held: bool = False
) -> AttemptFailed:
    """The event of a failure, to be followed by another attempt if there is a wait and the saga goes on in that way."""
    held = held and not run.state.halted
    event = AttemptFailed(*run.ref, "retry", said.error or "", traceback, wait, held, effect, *said[1:])
    if wait is not None and (run.undo or not run.state.rolling_back):
        return event
    outcome = failure_outcome(run.state, run.ref, effect=effect)
    return replace(event, outcome=outcome, wait=None, held=False)


def in_ascii(event: Ending) -> Ending:
    """An ending that every database can store, whatever its encoding: what comes from user code in ASCII."""
    words = {name: ascii_only(value) for name in _WORDS if (value := getattr(event, name, None)) is not None}
    return replace(event, **words)


def not_stored(error: BaseException) -> Failure:
    """What a success comes to whose result the database refuses: it had its effect, and making it again is no use."""
    return Failure(ResultError(f"the result cannot be stored: {first_line(error)}"), final=True)


def wait_after(run: Attempt, outcome: Outcome) -> float | None:
    """Seconds between the end of an attempt and the next one; ``None`` when there is none."""
    if not isinstance(outcome, Failure) or outcome.final or isinstance(outcome.error, Abort):
        return None
    wait = _ask_policy(run, outcome.error)
    return None if wait is None else max(wait, min(outcome.min_wait, LONGEST.total_seconds()))


def wait_of_undecided(run: Attempt) -> float | None:
    """The same for an attempt that ended without a word: by a timeout, with its worker, or because that shut down."""
    track = run.track
    if track.ended == "interrupted":
        return 0.0
    return _ask_policy(run, WorkerLost(track.error) if track.ended == "lost" else StepTimeout(track.error))


def _ask_policy(run: Attempt, error: BaseException) -> float | None:
    track = run.track
    attempt = max(1, run.attempt - track.uncounted)
    try:
        wait = run.job.retry.next_wait(error, attempt, _elapsed(run))
    except Exception as failed:
        emit(RetryPolicyFailed(run.name, failed))
        return None
    first_loss = isinstance(error, WorkerLost) and track.losses <= 1
    return 0.0 if wait is not None and first_loss else wait


def _elapsed(run: Attempt) -> float:
    """Seconds since the first attempt of the budget started: the database's clock, plus this process's since then."""
    at, began = run.started_at or run.state.at, run.track.began
    since = time.monotonic() - run.clock
    return since + ((at - began).total_seconds() if at and began else 0.0)
