"""Permission: what an operator may ask of a saga as it stands."""

from __future__ import annotations

from saga.core.events import (
    Abandoned,
    CancelRequested,
    CompensateRequested,
    Paused,
    Request,
    Resumed,
    RetryRequested,
    StepSkipped,
)
from saga.core.outline import Outline
from saga.core.state import State, Status, StepStatus
from saga.errors import NotAllowed


def check(saga: str, outline: Outline, state: State, request: Request) -> None:
    """Whether an operator's request is allowed now.

    Raises:
        NotAllowed: it is not; the text names the saga's status.
    """
    problem = _objection(outline, state, request)
    if problem:
        raise NotAllowed(f"saga {saga} is {state.status}: {problem}")


def is_asked(state: State) -> bool:
    """Whether a person is to say of a step that it did not happen, or that the saga is to go back."""
    return not state.past_pivot and any(not undo for _, undo in state.stuck_on)


def _objection(outline: Outline, state: State, request: Request) -> str | None:  # noqa: C901 - one for each request
    status = state.status
    if isinstance(request, CancelRequested):
        if is_asked(state):
            return None
        if status not in (Status.RUNNING, Status.PAUSED):
            return "only a saga that runs, is paused or has its pivot in doubt can be cancelled"
        if state.rolling_back:
            return "it is rolling back, and a rollback cannot be cancelled"
    elif isinstance(request, CompensateRequested):
        if status is not Status.COMPLETED:
            return "only a completed saga can be compensated; cancel one that still runs"
        if state.past_pivot:
            return "it is past its pivot, from where there is no way back"
    elif isinstance(request, Paused):
        if status not in (Status.RUNNING, Status.COMPENSATING):
            return "only a saga that runs or compensates can be paused"
    elif isinstance(request, Resumed):
        if status is not Status.PAUSED:
            return "only a paused saga can be resumed"
    elif isinstance(request, RetryRequested):
        return _objection_to_retry(outline, state)
    elif isinstance(request, Abandoned):
        if status.terminal:
            return "only a saga that is not finished can be abandoned"
    elif isinstance(request, StepSkipped):
        return _objection_to_skip(outline, state, request)
    return None


def _objection_to_skip(outline: Outline, state: State, request: StepSkipped) -> str | None:
    if (request.step, request.undo) not in state.stuck_on:
        return f"only a stuck step can be skipped, and {request.step!r} is not"
    if request.undo_later and not outline.step(request.step).compensate:
        return f"step {request.step!r} has no undo that could be made later; leave undo=True out"
    return None


def _objection_to_retry(outline: Outline, state: State) -> str | None:
    forward = {name for name in state.steps if not state.scopes[outline.step(name).scope].backward}
    tracks = [track for name, step in state.steps.items() for track in (name in forward and step, step.undo) if track]
    stuck = any(undo or step in forward for step, undo in state.stuck_on)
    if stuck or any(track.between_attempts for track in tracks):
        return None
    if any(track.status is StepStatus.RUNNING or track.held for track in tracks):
        return "an attempt is open; wait for its end"
    if doubts := [step for step, _ in state.stuck_on]:
        return f"nobody knows whether {', '.join(doubts)} happened; skip what did, then cancel what did not"
    return "nothing in it is stuck or waits for a retry"
