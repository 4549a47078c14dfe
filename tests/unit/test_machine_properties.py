"""What holds in every saga, whatever its definition and whatever befalls it."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given

from saga.core import machine, tracks
from saga.core.commands import AskPolicy, KeepWatch, RunStep
from saga.core.events import (
    FORMAT,
    Abandoned,
    AttemptEvent,
    AttemptFailed,
    AttemptInterrupted,
    AttemptLost,
    AttemptStarted,
    AttemptSucceeded,
    AttemptTimedOut,
    CancelRequested,
    CompensateRequested,
    DeadlinePassed,
    Entry,
    LateResult,
    RetryRequested,
    StepSkipped,
    data_of,
    entry_from_row,
    kind_of,
)
from saga.core.machine import decide, follow, replay
from saga.core.outline import Outline
from saga.core.ref import AttemptRef
from saga.core.scope import OUTERMOST
from saga.core.state import State, Status, StepStatus, Track

from .simulation import Tape, World, open_actions, precedences, saga_of, sagas, tapes, through_json
from .walk import walk

SOME = UUID(int=1)
UNDECIDED = StepStatus.UNDECIDED


def finished(saga: Any, tape: Any, watch: Any = None) -> World:
    """A saga's whole life."""
    world = World(saga, tape, watch) if watch else World(saga, tape)
    world.run()
    return world


# --- an account of a log that knows nothing of the machine ------------------------------------------------------------


class Account:
    """What a log says of each step, found without the machine: entries that came again or late were left out before."""

    def __init__(self, world: World) -> None:
        self.outline = world.saga.outline
        self.denied = world.denied
        self.entries = [entry for entry in world.entries if entry.seq not in world.echoes]

    def about(self, step: str, *, undo: bool) -> Iterator[tuple[int, Any]]:
        for entry in self.entries:
            event = entry.event
            if isinstance(event, (AttemptEvent, StepSkipped)) and (event.step, event.undo) == (step, undo):
                yield entry.seq, event

    def may_have_happened(self, step: str) -> bool:
        """Whether an attempt of the action succeeded or may have had an effect, and nobody said that it had none."""
        if step in self.denied:
            return False
        transactional = self.outline.steps[step].transactional
        happened = False
        failed: set[int] = set()
        for _, event in self.about(step, undo=False):
            if isinstance(event, AttemptSucceeded) or (isinstance(event, AttemptFailed) and event.effect):
                happened = True
            if isinstance(event, (AttemptTimedOut, AttemptLost, AttemptInterrupted)) and not transactional:
                happened = happened or event.attempt not in failed  # else only the wait after it was given up
            if isinstance(event, AttemptFailed):
                failed.add(event.attempt)
            if isinstance(event, StepSkipped):
                happened = event.undo_later
        return happened

    def first_start(self, step: str, *, undo: bool) -> int | None:
        return next((seq for seq, event in self.about(step, undo=undo) if isinstance(event, AttemptStarted)), None)

    def settled(self, step: str, *, undo: bool) -> list[int]:
        return [seq for seq, event in self.about(step, undo=undo) if isinstance(event, (AttemptSucceeded, StepSkipped))]


# --- the end ----------------------------------------------------------------------------------------------------------


@given(sagas(), tapes)
def test_a_saga_always_ends_completed_or_compensated_once_operators_settle_what_is_stuck_or_is_abandoned(saga, tape):
    world = finished(saga, tape)
    asked = any(isinstance(entry.event, Abandoned) for entry in world.entries)
    assert world.state.status in ((Status.ABANDONED,) if asked else (Status.COMPLETED, Status.COMPENSATED))
    assert world.commands == ()


@given(sagas(), tapes)
def test_a_saga_that_needs_nobody_is_never_left_without_a_command(saga, tape):
    def watch(world, entry, before, after):
        goes_on = [command for command in decide(saga, after) if not isinstance(command, KeepWatch)]
        assert goes_on or after.status.terminal or after.status in (Status.STUCK, Status.PAUSED)

    finished(saga, tape, watch)


@given(sagas(), tapes)
def test_a_completed_saga_has_done_every_step_once(saga, tape):
    world = finished(saga, tape)
    if world.state.status is Status.COMPLETED:
        account = Account(world)
        assert [name for name in saga.outline.steps if len(account.settled(name, undo=False)) != 1] == []
        assert [name for name in saga.outline.steps if account.settled(name, undo=True)] == []


@given(sagas(), tapes)
def test_a_compensated_saga_has_undone_once_whatever_may_have_happened_and_nothing_else(saga, tape):
    world = finished(saga, tape)
    if world.state.status is Status.COMPENSATED:
        account = Account(world)
        for name, step in saga.outline.steps.items():
            owed = 1 if step.compensate and account.may_have_happened(name) else 0
            assert len(account.settled(name, undo=True)) == owed, name
            if not owed:
                assert account.first_start(name, undo=True) is None


@given(sagas(), tapes)
def test_nothing_is_undone_before_what_came_after_it(saga, tape):
    world = finished(saga, tape)
    account = Account(world)
    for first, second in precedences(saga.outline.doc):
        start, ends = account.first_start(first, undo=True), account.settled(second, undo=True)
        if start is not None and saga.outline.steps[second].compensate and account.may_have_happened(second):
            assert ends, f"{first} was undone and {second} not"
            assert max(ends) < start


@given(sagas(), tapes)
def test_nothing_starts_before_what_comes_before_it_is_done(saga, tape):
    world = finished(saga, tape)
    account = Account(world)
    for first, second in precedences(saga.outline.doc):
        start = account.first_start(second, undo=False)
        if start is not None:
            assert account.settled(first, undo=False)[0] < start


# --- at every entry ---------------------------------------------------------------------------------------------------


@given(sagas(), tapes)
def test_no_undo_starts_while_an_action_is_open_or_the_saga_is_paused(saga, tape):
    def watch(world, entry, before, after):
        if isinstance(entry.event, AttemptStarted) and entry.seq not in world.echoes:
            if entry.event.undo:
                assert not open_actions(before)
                assert before.rolling_back
            else:
                assert not before.rolling_back
            assert not before.paused

    finished(saga, tape, watch)


ENDED = {AttemptTimedOut: "timed out", AttemptLost: "lost", AttemptInterrupted: "interrupted"}


@given(sagas(), tapes)
def test_an_attempt_that_ends_without_a_word_is_undecided_until_someone_who_claims_its_lane_settles_it(saga, tape):
    def watch(world, entry, before, after):
        event = entry.event
        new = entry.seq not in world.echoes
        if new and type(event) in ENDED and before.track(event.step, event.undo).status is StepStatus.RUNNING:
            track = after.track(event.step, event.undo)
            assert (track.status, track.ended) == (UNDECIDED, ENDED[type(event)])
            assert AskPolicy(event.ref) in decide(saga, after)
        for name, undo in itertools.product(saga.outline.steps, (False, True)):
            was, now = before.track(name, undo), after.track(name, undo)
            if was.status is UNDECIDED and now.status is StepStatus.RUNNING:
                assert was.ended == "interrupted"
                assert isinstance(event, AttemptStarted)
            elif was.status is UNDECIDED and now.status is not UNDECIDED:
                assert isinstance(event, (AttemptFailed, RetryRequested, Abandoned))

    finished(saga, tape, watch)


@given(sagas(), tapes)
def test_nothing_is_undone_past_the_pivot_or_while_it_is_in_doubt(saga, tape):
    def watch(world, entry, before, after):
        account = Account(world)
        pivot = next((name for name, step in saga.outline.steps.items() if step.pivot), None)
        if pivot and isinstance(entry.event, AttemptStarted) and entry.event.undo:
            did_not = any(isinstance(known.event, CancelRequested) for known in account.entries)
            assert not account.settled(pivot, undo=False)
            assert not account.may_have_happened(pivot) or did_not
            assert after.steps[pivot].status in (StepStatus.PENDING, StepStatus.ABORTED)

    finished(saga, tape, watch)


@given(sagas(), tapes)
def test_a_pivot_that_may_have_happened_rolls_back_only_when_an_operator_says_it_did_not(saga, tape):
    def watch(world, entry, before, after):
        pivot = next((name for name, step in saga.outline.steps.items() if step.pivot), None)
        if pivot and after.rolling_back and not before.rolling_back and Account(world).may_have_happened(pivot):
            assert isinstance(entry.event, CancelRequested)
            assert before.status is Status.STUCK

    finished(saga, tape, watch)


@given(sagas(), tapes)
def test_a_saga_past_its_pivot_never_rolls_back(saga, tape):
    def watch(world, entry, before, after):
        assert not (after.past_pivot and after.rolling_back)
        if before.past_pivot:
            assert after.past_pivot
            assert after.status in (Status.RUNNING, Status.PAUSED, Status.STUCK, Status.COMPLETED, Status.ABANDONED)
            assert after.cancel_reason is None

    finished(saga, tape, watch)


def recount(state: State) -> tuple[int, int, int]:
    """How many actions are open and left, and how many undos are owed."""
    done = (StepStatus.SUCCEEDED, StepStatus.SKIPPED)
    return (
        len(open_actions(state)),
        sum(step.status not in done for step in state.steps.values()),
        sum(step.undo is not None and step.undo.status not in done for step in state.steps.values()),
    )


@given(sagas(), tapes)
def test_the_counts_equal_a_recount_at_every_entry(saga, tape):
    def watch(world, entry, before, after):
        whole = after.scopes[OUTERMOST]
        assert (whole.open, whole.left, whole.owed) == recount(after)

    finished(saga, tape, watch)


@given(sagas(), tapes)
def test_a_saga_is_never_compensated_with_an_undo_owed_nor_completed_with_a_step_to_do(saga, tape):
    def watch(world, entry, before, after):
        opened, left, owed = recount(after)
        if after.status is Status.COMPENSATED:
            assert (opened, owed) == (0, 0)
            assert after.rollback_reason
        if after.status is Status.COMPLETED:
            assert left == 0
            assert not opened
        assert (after.status is Status.STUCK) == bool(after.stuck_on)

    finished(saga, tape, watch)


@given(sagas(), tapes)
def test_an_abandoned_saga_lists_every_undo_that_it_owes_and_nothing_changes_it_any_more(saga, tape):
    def watch(world, entry, before, after):
        assert (after.status is Status.ABANDONED) == after.abandoned
        if before.abandoned:
            assert after == replace(before, seq=entry.seq, at=entry.at)
        elif after.abandoned:
            account = Account(world)
            owed = [
                name for name, step in saga.outline.steps.items() if step.compensate and owes(account, before, name)
            ]
            assert list(after.undos_owed) == ([] if before.past_pivot else owed)
            assert not decide(saga, after)
            assert not open_actions(after)

    def owes(account, before, name):
        running = before.steps[name].status is StepStatus.RUNNING and not saga.outline.steps[name].transactional
        return (running or account.may_have_happened(name)) and not account.settled(name, undo=True)

    finished(saga, tape, watch)


@given(sagas(), tapes)
def test_a_reason_once_recorded_is_kept_to_the_end(saga, tape):
    def watch(world, entry, before, after):
        if before.rolling_back:
            assert after.rolling_back
            assert after.rollback_reason == before.rollback_reason

    finished(saga, tape, watch)


@given(sagas(), tapes)
def test_what_is_said_again_or_too_late_changes_nothing(saga, tape):
    def watch(world, entry, before, after):
        if entry.seq in world.echoes:
            assert after == replace(before, seq=entry.seq, at=entry.at)

    finished(saga, tape, watch)


@given(sagas(), tapes)
def test_every_other_entry_changes_something(saga, tape):
    def watch(world, entry, before, after):
        if entry.seq not in world.echoes and entry.seq > 1 and isinstance(entry.event, AttemptEvent):
            assert after != replace(before, seq=entry.seq, at=entry.at)

    finished(saga, tape, watch)


@given(sagas(), tapes)
def test_a_lane_has_one_command_at_most_and_attempts_are_numbered_without_a_gap(saga, tape):
    def watch(world, entry, before, after):
        commands = decide(saga, after)
        lanes = [command.lane for command in commands]
        assert len(set(lanes)) == len(lanes)
        for command in commands:
            if isinstance(command, RunStep):
                assert command.ref.attempt == after.track(command.ref.step, command.ref.undo).attempts + 1
                assert command.lane == saga.outline.steps[command.ref.step].lane

    finished(saga, tape, watch)


@given(sagas(), tapes)
def test_a_rollback_has_no_action_that_waits_for_its_retry(saga, tape):
    def watch(world, entry, before, after):
        if after.rolling_back:
            assert all(step.status is not StepStatus.WAITING for step in after.steps.values())
            assert not any(step.held for step in after.steps.values())

    finished(saga, tape, watch)


# --- a person is asked ------------------------------------------------------------------------------------------------


@given(sagas(), tapes)
def test_while_a_person_is_asked_nothing_new_starts(saga, tape):
    def watch(world, entry, before, after):
        if before.asking and isinstance(entry.event, AttemptStarted) and entry.seq not in world.echoes:
            raise AssertionError(entry)

    finished(saga, tape, watch)


@given(sagas(), tapes)
def test_a_doubt_that_is_asked_about_is_undone_only_once_a_person_says_that_it_happened(saga, tape):
    def watch(world, entry, before, after):
        event = entry.event
        if (
            isinstance(event, AttemptStarted)
            and event.undo
            and event.step in saga.asks
            and entry.seq not in world.echoes
        ):
            assert before.steps[event.step].settled
            assert (event.step, False) not in before.stuck_on

    finished(saga, tape, watch)


@given(sagas(), tapes)
def test_a_saga_that_asks_first_goes_back_only_when_it_is_told_to(saga, tape):
    def watch(world, entry, before, after):
        if saga.on_failure == "ask" and after.rolling_back and not before.rolling_back:
            told = isinstance(entry.event, (CancelRequested, CompensateRequested, DeadlinePassed))
            assert told or before.cancel_reason

    finished(saga, tape, watch)


# --- the decision -----------------------------------------------------------------------------------------------------


@given(sagas(), tapes)
def test_what_is_decided_entry_by_entry_is_what_a_walk_over_the_whole_saga_says(saga, tape):
    def watch(world, entry, before, after):
        assert decide(saga, after) == walk(saga.outline, after)

    finished(saga, tape, watch)


@given(sagas(), tapes)
def test_all_that_an_entry_changes_is_in_the_lanes_that_it_moves(saga, tape):
    def watch(world, entry, before, after):
        followed, old, new = follow(saga, before, [entry])
        assert followed == after
        commands = {command.lane: command for command in walk(saga.outline, before)}
        for command in old:
            assert commands.pop(command.lane) == command
        commands.update((command.lane, command) for command in new)
        assert commands == {command.lane: command for command in walk(saga.outline, after)}

    finished(saga, tape, watch)


@given(sagas(), tapes, tapes)
def test_all_that_several_entries_change_together_is_in_the_lanes_that_they_move(saga, tape, lengths):
    entries = list(finished(saga, tape).entries)
    state = replay(saga, entries[:1])
    rest = entries[1:]
    while rest:
        number = lengths.pick([1, 2, 3, 5])
        some, rest = rest[:number], rest[number:]
        followed, old, new = follow(saga, state, some)
        assert followed == replay(saga, some, state)
        commands = {command.lane: command for command in walk(saga.outline, state)}
        for command in old:
            assert commands.pop(command.lane) == command
        commands.update((command.lane, command) for command in new)
        assert commands == {command.lane: command for command in walk(saga.outline, followed)}
        state = followed


@given(sagas(), tapes, tapes)
def test_a_log_with_holes_is_decided_alike_entry_by_entry_and_as_a_whole(saga, tape, holes):
    state = replay(saga, [])
    for entry in finished(saga, tape).entries:
        if holes.pick([False, False, False, True]):
            continue
        decide(saga, state)
        state = replay(saga, [entry], state)
        assert decide(saga, state) == decide(saga, replace(state, lanes=None))


# --- replay -----------------------------------------------------------------------------------------------------------


@given(sagas(), tapes)
def test_the_same_log_gives_the_same_state_with_and_without_the_code(saga, tape):
    world = finished(saga, tape)
    stored = Outline.from_json(through_json(saga.outline.to_json()))
    assert replay(saga, world.entries) == world.state
    assert replay(stored, world.entries) == world.state
    half = len(world.entries) // 2
    assert replay(stored, world.entries[half:], replay(saga, world.entries[:half])) == world.state


@given(sagas(), tapes)
def test_replay_never_changes_the_state_it_goes_on_from(saga, tape):
    def watch(world, entry, before, after):
        assert before == replay(saga, world.entries[:-1])

    finished(saga, tape, watch)


@given(sagas(), tapes)
def test_what_is_called_pure_has_no_effect_on_what_it_is_given(saga, tape):
    state = replay(saga, [])
    for entry in finished(saga, tape).entries:
        for given_state in (state, replace(state, lanes=None)):
            was = all_of(given_state)
            decide(saga, given_state)
            replay(saga, [entry], given_state)
            followed, _, _ = follow(saga, given_state, [entry])
            assert all_of(given_state) == was
        state = followed


def all_of(state: State) -> dict[str, Any]:
    """Each field of a state, in copies; of its lanes where they stand and which have moved."""
    fields = copy.deepcopy(vars(state))
    if lanes := fields.pop("lanes"):
        fields |= {"standing": lanes.standing, "moved": lanes.moved}
    return fields


@given(sagas(), tapes)
def test_a_log_survives_its_way_through_the_database(saga, tape):
    world = finished(saga, tape)
    for entry in world.entries:
        event: Any = entry.event
        place = [getattr(event, name, None) for name in ("lane", "step", "attempt")]
        row = (entry.seq, kind_of(event), *place, through_json(data_of(event)), entry.worker, entry.at, FORMAT)
        assert entry_from_row(SOME, row) == entry


# --- rule 7 -----------------------------------------------------------------------------------------------------------


def could_come(saga: Any, state: State, event: AttemptEvent) -> bool:
    """Whether an entry about an attempt may be written in that state."""
    if isinstance(event, LateResult):
        return True
    if isinstance(event, AttemptStarted):
        track = state.track(event.step, event.undo)
        held = track.held and track.attempts == event.attempt - 1
        return held or any(event.ref == _start_after(state, command) for command in decide(saga, state))
    track = state.track(event.step, event.undo)
    return track.attempts == event.attempt and (
        track.held or track.status in (StepStatus.RUNNING, StepStatus.UNDECIDED)
    )


def _start_after(state: State, command: Any) -> AttemptRef | None:
    """The attempt of the start that answers a command, if one does."""
    if isinstance(command, RunStep):
        return command.ref
    if not isinstance(command, AskPolicy) or state.track(command.ref.step, command.ref.undo).ended != "interrupted":
        return None
    may_start = not state.paused and (command.ref.undo or not state.rolling_back)
    return command.ref.next if may_start else None


def only_order_told(state: State) -> State:
    """A state without what tells which of two entries came first: the time, and which failure is the reason."""
    scopes = {name: scope._replace(reason=None, cause=None) for name, scope in state.scopes.items()}
    return replace(state, seq=0, at=None, scopes=scopes)


@given(sagas(), tapes)
def test_entries_of_independent_lanes_commute(saga, tape):
    world = World(saga, tape, echo=False)
    world.run()
    state = replay(saga, [])
    for first, second in zip(world.entries, world.entries[1:], strict=False):
        one, two = first.event, second.event
        if (
            isinstance(one, AttemptEvent)
            and isinstance(two, AttemptEvent)
            and one.lane != two.lane
            and could_come(saga, state, two)
        ):
            swapped = replay(saga, [_at(second, first.seq)], state)
            if could_come(saga, swapped, one):
                swapped = replay(saga, [_at(first, second.seq)], swapped)
                straight = replay(saga, [first, second], state)
                assert only_order_told(swapped) == only_order_told(straight)
                assert swapped.stuck_on.keys() == straight.stuck_on.keys()
                assert swapped.status is straight.status
                assert decide(saga, swapped) == decide(saga, straight)
        state = replay(saga, [first], state)


def _at(entry: Entry, seq: int) -> Entry:
    return replace(entry, seq=seq)


def test_the_simulation_reaches_what_it_is_for():
    """A property over worlds in which nothing happens would hold too."""
    dice = random.Random(7)
    seen: set[Any] = set()
    for _ in range(300):
        world = World(saga_of(Tape(dice.randbytes(40))), Tape(dice.randbytes(100)))

        def watch(world: World, entry: Entry, before: State, after: State) -> None:
            outline = world.saga.outline
            seen.update((after.status, type(entry.event).__name__))
            seen.update(("undo " if key[1] else "action ") + "stuck" for key in after.stuck_on)
            seen.update(f"action {step.status}" for step in after.steps.values())
            seen.update(f"undo {step.undo.status}" for step in after.steps.values() if step.undo)
            seen.update("held" for step in after.steps.values() if step.held)
            kind = "rollback" if after.rolling_back else "pause" if after.paused else "run"
            seen.update(f"{step.ended} in a {kind}" for step in after.steps.values() if step.status is UNDECIDED)
            if isinstance(entry.event, AttemptStarted) and entry.seq not in world.echoes:
                was = before.track(entry.event.step, entry.event.undo)
                seen.update(["goes on after an interruption"] if was.status is UNDECIDED else [])
            if after.asking and not any(saga.pivot for saga in [outline.steps[name] for name, _ in after.stuck_on]):
                seen.add("asking")
                seen.update("sibling waits" for step in after.steps.values() if step.open or step.between_attempts)
            if after.rolling_back:
                seen.update("doubt in a rollback" for _, undo in after.stuck_on if not undo)
            if world.denied:
                seen.add("denied")
            if after.cancel_reason:
                seen.add("cancel pending")

        world.watch = watch
        world.run()
    assert seen >= set(Status)
    assert seen >= {f"action {status}" for status in StepStatus if status is not StepStatus.FAILED}
    assert seen >= {f"undo {status}" for status in ("pending", "running", "waiting", "undecided", "failed", "skipped")}
    assert seen >= {"action stuck", "undo stuck", "held", "cancel pending", "DeadlinePassed", "CompensateRequested"}
    assert seen >= {f"{ended} in a {kind}" for ended in ENDED.values() for kind in ("run", "rollback", "pause")}
    assert seen >= {"goes on after an interruption", "asking", "sibling waits", "doubt in a rollback", "denied"}


def test_each_row_of_the_table_of_transitions_moves_a_track_in_some_simulated_run(monkeypatch: pytest.MonkeyPatch):
    used: set[tuple[StepStatus, str]] = set()

    class Noting(dict[tuple[StepStatus, str], StepStatus]):
        def __getitem__(self, row: tuple[StepStatus, str]) -> StepStatus:
            used.add(row)
            return super().__getitem__(row)

    def followed(outline: Any, track: Track, status: StepStatus, event: AttemptEvent, entry: Entry) -> Track:
        rows = {row for row in tracks.TRANSITIONS if row[0] is track.status and row[1] in _words_of(event)}
        used.update(rows)
        return really(outline, track, status, event, entry)

    really = tracks.followed
    for module in (machine, tracks):
        monkeypatch.setattr(module, "TRANSITIONS", Noting(tracks.TRANSITIONS))
    monkeypatch.setattr(machine, "followed", followed)
    for seed in range(10_000):
        dice = random.Random(seed)
        World(saga_of(Tape(dice.randbytes(40))), Tape(dice.randbytes(120))).run()
        if used == tracks.TRANSITIONS.keys():
            return
    assert used == tracks.TRANSITIONS.keys()


def _words_of(event: AttemptEvent) -> set[str]:
    """What the table calls an event."""
    ends = {AttemptStarted: "started", AttemptSucceeded: "succeeded", **ENDED}
    return {event.outcome} if isinstance(event, AttemptFailed) else {ends[type(event)]}
