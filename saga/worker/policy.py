"""Policy: whether another attempt follows a failed one, and after what wait, by the step's retry policy."""

from __future__ import annotations

from saga.core.outcome import Failure, Outcome
from saga.errors import Abort, ResultError, StepTimeout, WorkerLost, first_line
from saga.language.retry import LONGEST
from saga.telemetry.facts.attempts import RetryPolicyFailed
from saga.telemetry.stream import emit
from saga.worker.attempt import Attempt


def not_stored(error: BaseException) -> Failure:
    """The failure that a success becomes when the database refuses its result: it had its effect, and a retry is no use."""
    return Failure(ResultError(f"the result cannot be stored: {first_line(error)}"), final=True)


def wait_after(attempt: Attempt, outcome: Outcome) -> float | None:
    """Seconds between the end of an attempt and the next one; ``None`` when there is none."""
    if not isinstance(outcome, Failure) or outcome.final or isinstance(outcome.error, Abort):
        return None
    wait = _ask_policy(attempt, outcome.error)
    return None if wait is None else max(wait, min(outcome.min_wait, LONGEST.total_seconds()))


def wait_of_undecided(attempt: Attempt) -> float | None:
    """The same for an attempt that did not say how it ended: by a timeout, with its worker, or at its shutdown."""
    track = attempt.track
    if track.ended == "interrupted":
        return 0.0
    return _ask_policy(attempt, WorkerLost(track.error) if track.ended == "lost" else StepTimeout(track.error))


def _ask_policy(attempt: Attempt, error: BaseException) -> float | None:
    track = attempt.track
    number = max(1, attempt.number - track.uncounted)
    try:
        wait = attempt.job.retry.next_wait(error, number, _elapsed(attempt))
    except Exception as failed:
        emit(RetryPolicyFailed(attempt.name, failed))
        return None
    first_loss = isinstance(error, WorkerLost) and track.losses <= 1
    return 0.0 if wait is not None and first_loss else wait


def _elapsed(attempt: Attempt) -> float:
    """Seconds since the first attempt of the budget started: the database's clock, plus this process's since then."""
    at, began = attempt.started_at or attempt.state.at, attempt.track.began
    since = attempt.clock.monotonic() - attempt.began
    return since + ((at - began).total_seconds() if at and began else 0.0)
