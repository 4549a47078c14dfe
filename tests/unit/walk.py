"""The decision by a walk over the whole definition: what the machine's rules say, with no thought for what it costs."""

from __future__ import annotations

from collections.abc import Iterator

from saga.core.commands import AskPolicy, Command, KeepWatch, RunStep, Wait
from saga.core.outline import Fork, Lane, Outline
from saga.core.ref import AttemptRef, way
from saga.core.scope import OUTERMOST
from saga.core.state import State, Status, StepStatus, Track


def walk(outline: Outline, state: State) -> tuple[Command, ...]:
    """What is to be done next."""
    if state.status.terminal:
        return ()
    if state.scopes[OUTERMOST].awaits_actions:
        return tuple(_open_attempts(outline, state))
    commands: list[Command] = []
    (_backward if state.rolling_back else _forward)(outline.main, state, commands)
    if state.paused or (state.status is Status.STUCK and not state.past_pivot and not state.rolling_back):
        return tuple(command for command in commands if isinstance(command, (Wait, AskPolicy)))
    if _watches_deadline(state):
        assert state.closing is not None
        commands.append(KeepWatch(state.closing))
    return tuple(commands)


def _forward(lane: Lane, state: State, commands: list[Command]) -> bool:
    for item in lane.items:
        if isinstance(item, Fork):
            ends = [_forward(branch, state, commands) for branch in item.lanes]
            if not all(ends):
                return False
        elif not (step := state.steps[item.name]).settled:
            if not step.over:
                commands.append(_next(lane.name, item.name, step, state, undo=False))
            return False
    return True


def _backward(lane: Lane, state: State, commands: list[Command]) -> bool:
    for item in reversed(lane.items):
        if isinstance(item, Fork):
            ends = [_backward(branch, state, commands) for branch in item.lanes]
            if not all(ends):
                return False
        elif (undo := state.steps[item.name].undo) and not undo.settled:
            if not undo.over and (item.name, False) not in state.stuck_on:
                commands.append(_next(lane.name, item.name, undo, state, undo=True))
            return False
    return True


def _next(lane: str, step: str, track: Track, state: State, *, undo: bool) -> Command:
    if track.status is StepStatus.RUNNING or track.held:
        return Wait(AttemptRef(lane, step, track.attempts, way(undo)))
    if track.status is StepStatus.UNDECIDED:
        return AskPolicy(AttemptRef(lane, step, track.attempts, way(undo)))
    if track.attempts == 0 and not undo:
        return RunStep(AttemptRef(lane, step, 1, way(undo)), state.opening)
    return RunStep(AttemptRef(lane, step, track.attempts + 1, way(undo)), track.again)


def _open_attempts(outline: Outline, state: State) -> Iterator[Command]:
    for name, step in state.steps.items():
        if step.open:
            yield _next(outline.steps[name].lane, name, step, state, undo=False)


def _watches_deadline(state: State) -> bool:
    return (
        state.closing is not None
        and state.status is Status.RUNNING
        and not state.past_pivot
        and state.cancel_reason is None
    )
