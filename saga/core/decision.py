"""Decision: where the lanes of a saga stand, and what is to be done there. Pure: it is a part of the machine.

Theory of operation
-------------------
A lane goes along its items, in a rollback from its end. It passes those that need nothing more, and stands at the first
that does. At a step, the step's track says what is to be done. At a fork, its branches stand in its place, and it goes on
when the last of them is over.

What is behind a lane stays behind it. So an entry about a step moves only that step's lane, the lanes above it whose last
branch is over, and the lanes of the fork that it comes to. In a saga of a thousand branches this costs the same as in a
saga of two. What changes the *course* of the saga, such as a rollback or a pause, makes all lanes begin anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from saga.core.commands import AskPolicy, Command, KeepWatch, RunStep, Wait
from saga.core.due import Due
from saga.core.events import AttemptEvent, Event
from saga.core.outline import Fork, Lane, Outline, StepOutline
from saga.core.ref import AttemptRef, way
from saga.core.scope import OUTERMOST, Direction
from saga.core.state import Lanes, Standing, State, Status, StepState, StepStatus, Track


def commands(outline: Outline, state: State, only: Iterable[str] | None = None) -> Iterator[Command]:
    """What is to be done in all lanes, in the order of definition, or in some, and about the saga's own deadline."""
    standing = (state.lanes or find_lanes(outline, state)).standing
    for lane in outline.lanes if only is None else only:
        if (found := standing.get(lane)) and found.command:
            yield found.command
    if state.closing and watches_deadline(state):
        yield KeepWatch(state.closing)


def find_lanes(outline: Outline, state: State) -> Lanes:
    """Where the lanes stand, found by a walk along all of them."""
    lanes = Lanes()
    if not state.abandoned:
        _go_along(lanes, outline.main, state)
    lanes.moved = None
    return lanes


class Course(NamedTuple):
    """What the lanes of a scope go by.

    Attributes:
        awaits: the scope is rolled back, and no undo may start yet.
    """

    direction: Direction
    awaits: bool
    halted: bool
    opening: Due | None


def course(outline: Outline, state: State, event: Event) -> Course:
    """The course of the scope that an event is about, as it stands."""
    name = OUTERMOST
    if isinstance(event, AttemptEvent) and event.step in state.steps:
        name = outline.step(event.step).scope
    scope = state.scopes[name]
    return Course(scope.direction, scope.awaits_actions, state.halted, state.opening)


def move(outline: Outline, state: State, event: Event, course_before: Course) -> None:
    """Move on the lanes that an event has brought further, in a state in the making. If its course changes, they are lost."""
    assert state.lanes is not None
    if not isinstance(event, AttemptEvent) or course(outline, state, event) != course_before:
        state.lanes = None
    elif event.step in state.steps:
        lane = outline.lanes[outline.step(event.step).lane]
        if state.scopes[lane.scope].awaits_actions:
            _await_action(state.lanes, lane, state)
        else:
            _move_on(state.lanes, outline, lane, state)


def _await_action(lanes: Lanes, lane: Lane, state: State) -> None:
    """Let a lane stand at its open action, if it has one."""
    for place, item in enumerate(lane.items):
        if isinstance(item, StepOutline) and (track := state.steps[item.name]).open:
            lanes.put(lane.name, Standing(place, _next(item, track, state, undo=False)))
            return
    lanes.put(lane.name, None)


def _move_on(lanes: Lanes, outline: Outline, lane: Lane, state: State) -> None:
    """Go on in a lane, if it stands at a step, and in those above it whose last branch is over."""
    found = lanes.standing.get(lane.name)
    over = found is not None and not found.awaited and _go_along(lanes, lane, state, found.place)
    while over and lane.parent:
        lane = outline.lanes[lane.parent]
        fork = lanes.standing[lane.name]
        if fork.awaited > 1:
            lanes.put(lane.name, fork._replace(awaited=fork.awaited - 1))
            return
        over = _go_along(lanes, lane, state, fork.place + 1)


def _go_along(lanes: Lanes, lane: Lane, state: State, start: int = 0) -> bool:
    """Go along a lane, from one of its items, to the place where it stands; true if it is over."""
    scope = state.scopes[lane.scope]
    if scope.awaits_actions:
        for each in lane.lanes():
            _await_action(lanes, each, state)
        return False
    backward = scope.backward
    for place in range(start, len(lane.items)):
        item = lane.items[-1 - place if backward else place]
        if isinstance(item, Fork):
            awaited = sum(not _go_along(lanes, branch, state) for branch in item.lanes)
            if awaited:
                lanes.put(lane.name, Standing(place, None, awaited))
                return False
        elif track := _unfinished(state.steps[item.name], undo=backward):
            lanes.put(lane.name, Standing(place, _next(item, track, state, undo=backward)))
            return False
    lanes.put(lane.name, None)
    return True


def _unfinished(step: StepState, *, undo: bool) -> Track | None:
    """The track of a step that a lane cannot leave behind: its action's, or its undo's in a rollback."""
    track = step.undo if undo else step
    return None if track is None or track.settled else track


def _next(step: StepOutline, track: Track, state: State, *, undo: bool) -> Command | None:
    if track.over:
        return None
    if track.status is StepStatus.RUNNING or track.held:
        return Wait(AttemptRef(step.lane, step.name, track.attempts, way(undo)))
    if track.status is StepStatus.UNDECIDED:
        return AskPolicy(AttemptRef(step.lane, step.name, track.attempts, way(undo)))
    if state.halted or (undo and (step.name, False) in state.stuck_on):
        return None
    if track.attempts == 0 and not undo:
        return RunStep(AttemptRef(step.lane, step.name, 1, way(undo)), state.opening)
    return RunStep(AttemptRef(step.lane, step.name, track.attempts + 1, way(undo)), track.again)


def watches_deadline(state: State) -> bool:
    """Whether the saga's own deadline would end it now: past it, no action may start."""
    watched = state.closing is not None
    return watched and state.status is Status.RUNNING and not state.past_pivot and state.cancel_reason is None
