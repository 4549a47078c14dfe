"""The machine by example: each rule of its docstring, each row of its table, each thing an operator may do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from saga.core.commands import AskPolicy, KeepWatch, RunStep, Wait
from saga.core.due import Due
from saga.core.events import (
    Abandoned,
    AttemptFailed,
    AttemptInterrupted,
    AttemptLost,
    AttemptStarted,
    AttemptSucceeded,
    AttemptTimedOut,
    CancelRequested,
    CompensateRequested,
    DeadlinePassed,
    Paused,
    Request,
    Resumed,
    RetryRequested,
    SagaStarted,
    StepSkipped,
)
from saga.core.machine import TRANSITIONS, decide, replay
from saga.core.permission import check
from saga.core.ref import AttemptRef, Phase, way
from saga.core.scope import OUTERMOST
from saga.core.state import State, Status, StepStatus
from saga.errors import NotAllowed

from .helpers import NOON, Log, fork, outline_of, step

PENDING, RUNNING, WAITING, UNDECIDED = (
    StepStatus.PENDING,
    StepStatus.RUNNING,
    StepStatus.WAITING,
    StepStatus.UNDECIDED,
)
SUCCEEDED, ABORTED, UNKNOWN, FAILED, SKIPPED = (
    StepStatus.SUCCEEDED,
    StepStatus.ABORTED,
    StepStatus.UNKNOWN,
    StepStatus.FAILED,
    StepStatus.SKIPPED,
)


def pivot(name: str = "pay", **options: Any) -> dict[str, Any]:
    return step(name, pivot=True, **options)


def at(seconds: float) -> Any:
    """That many seconds after the log began."""
    return NOON + timedelta(seconds=seconds)


def allowed(log: Log, request: Request) -> bool:
    try:
        check("place_order[1]", log.outline, log.state, request)
    except NotAllowed:
        return False
    return True


def objection(log: Log, request: Request) -> str:
    with pytest.raises(NotAllowed) as caught:
        check("place_order[1]", log.outline, log.state, request)
    return str(caught.value)


# --- the table --------------------------------------------------------------------------------------------------------
#
# Each row has a scene, in two acts: what leads up to the row's status, and what happens then. It plays with the action
# of "target", and once more with its undo where the row is one that an undo can come to.

Act = Callable[[Log, bool], object]


def _nothing(log: Log, undo: bool) -> None:
    pass


def _running(log: Log, undo: bool) -> None:
    log.started("target", undo=undo)


def _waiting(log: Log, undo: bool) -> None:
    log.started("target", undo=undo).will_retry("target", undo=undo)


def _waiting_held(log: Log, undo: bool) -> None:
    log.started("target", undo=undo).will_retry("target", undo=undo, held=True)


def _waiting_unharmed(log: Log, undo: bool) -> None:
    log.started("target", undo=undo).will_retry("target", undo=undo, effect=False)


def _undecided(log: Log, undo: bool) -> None:
    log.started("target", undo=undo).timed_out("target", undo=undo)


def _interrupted(log: Log, undo: bool) -> None:
    log.started("target", undo=undo).interrupted("target", undo=undo)


def _aborted(log: Log, undo: bool) -> None:
    log.broke("target", effect=False)


def _unknown(log: Log, undo: bool) -> None:
    log.broke("target")


def _failed(log: Log, undo: bool) -> None:
    log.started("target", undo=True).failed("target", undo=True)


def _fails(outcome: str) -> Act:
    def act(log: Log, undo: bool) -> None:
        log.append(AttemptFailed(*log.where("target", undo), outcome=outcome, error="it broke", wait=1))

    return act


def _cancel(log: Log, undo: bool) -> None:
    log.cancel()


def _retry(log: Log, undo: bool) -> None:
    log.retry()


def _skip(log: Log, undo: bool) -> None:
    log.skip("target", undo=undo)


def _abandon(log: Log, undo: bool) -> None:
    log.ask(Abandoned("ann", "enough"))


PLAIN = ["first", "target", "last"]
TRANSACTIONAL = ["first", step("target", transactional=True), "last"]
AFTER_PIVOT = ["first", pivot(), step("target", undo=False), step("last", undo=False)]
PIVOT = ["first", step("target", pivot=True), step("last", undo=False)]

SCENES: dict[tuple[StepStatus, str], tuple[list[Any], Act, Act]] = {
    (PENDING, "started"): (PLAIN, _nothing, lambda log, undo: log.started("target", undo=undo)),
    (WAITING, "started"): (PLAIN, _waiting, lambda log, undo: log.started("target", undo=undo)),
    (RUNNING, "succeeded"): (PLAIN, _running, lambda log, undo: log.succeeded("target", undo=undo)),
    (RUNNING, "retry"): (PLAIN, _running, lambda log, undo: log.will_retry("target", undo=undo)),
    (RUNNING, "aborted"): (PLAIN, _running, _fails("aborted")),
    (RUNNING, "unknown"): (PLAIN, _running, _fails("unknown")),
    (RUNNING, "failed"): (PLAIN, _running, _fails("failed")),
    (RUNNING, "timed out"): (PLAIN, _running, lambda log, undo: log.timed_out("target", undo=undo)),
    (RUNNING, "lost"): (PLAIN, _running, lambda log, undo: log.lost("target", undo=undo)),
    (RUNNING, "interrupted"): (PLAIN, _running, lambda log, undo: log.interrupted("target", undo=undo)),
    (UNDECIDED, "started"): (PLAIN, _interrupted, lambda log, undo: log.started("target", undo=undo)),
    (UNDECIDED, "retry"): (PLAIN, _undecided, lambda log, undo: log.will_retry("target", undo=undo)),
    (UNDECIDED, "aborted"): (TRANSACTIONAL, _undecided, _fails("aborted")),
    (UNDECIDED, "unknown"): (PLAIN, _undecided, _fails("unknown")),
    (UNDECIDED, "failed"): (PLAIN, _undecided, _fails("failed")),
    (WAITING, "lost"): (PLAIN, _waiting_held, lambda log, undo: log.lost("target", undo=undo)),
    (WAITING, "timed out"): (PLAIN, _waiting_held, lambda log, undo: log.timed_out("target", undo=undo)),
    (WAITING, "interrupted"): (PLAIN, _waiting_held, lambda log, undo: log.interrupted("target", undo=undo)),
    (WAITING, "rollback"): (PLAIN, _waiting, _cancel),
    (WAITING, "rollback, no effect"): (PLAIN, _waiting_unharmed, _cancel),
    (WAITING, "retry requested"): (PLAIN, _waiting, _retry),
    (UNDECIDED, "retry requested"): (PLAIN, _undecided, _retry),
    (ABORTED, "retry requested"): (AFTER_PIVOT, _aborted, _retry),
    (UNKNOWN, "retry requested"): (AFTER_PIVOT, _unknown, _retry),
    (FAILED, "retry requested"): (PLAIN, _failed, _retry),
    (ABORTED, "skipped"): (AFTER_PIVOT, _aborted, _skip),
    (UNKNOWN, "skipped"): (AFTER_PIVOT, _unknown, _skip),
    (FAILED, "skipped"): (PLAIN, _failed, _skip),
    (UNKNOWN, "cancelled in doubt"): (PIVOT, _unknown, _cancel),
    (RUNNING, "abandoned"): (PLAIN, _running, _abandon),
    (WAITING, "abandoned"): (PLAIN, _waiting, _abandon),
    (UNDECIDED, "abandoned"): (PLAIN, _undecided, _abandon),
    (RUNNING, "abandoned, no effect"): (TRANSACTIONAL, _running, _abandon),
    (WAITING, "abandoned, no effect"): (PLAIN, _waiting_unharmed, _abandon),
    (UNDECIDED, "abandoned, no effect"): (TRANSACTIONAL, _undecided, _abandon),
}

_OF_ACTIONS_ONLY = {
    "aborted",
    "unknown",
    "rollback",
    "rollback, no effect",
    "cancelled in doubt",
    "abandoned, no effect",
}


def _rows(undo: bool) -> list[tuple[StepStatus, str]]:
    def fits(row: tuple[StepStatus, str]) -> bool:
        status, trigger = row
        if undo:
            return status not in (ABORTED, UNKNOWN) and trigger not in _OF_ACTIONS_ONLY
        return status is not FAILED and trigger != "failed"

    return [row for row in SCENES if fits(row)]


def play(items: list[Any], undo: bool) -> Log:
    """A log in which nothing has befallen the target yet: its action comes next, or its undo."""
    log = Log(*items)
    for name in log.outline.steps:
        if name == "target" and not undo:
            return log
        log.started(name)
        if name == "last":
            return log.failed(name, effect=False)
        log.succeeded(name)
    return log


def test_every_row_of_the_table_has_a_scene():
    assert SCENES.keys() == TRANSITIONS.keys()


@pytest.mark.parametrize("row", _rows(undo=False), ids=lambda row: f"{row[0]}-{row[1]}")
def test_an_action_follows_the_table(row: tuple[StepStatus, str]):
    items, before, after = SCENES[row]
    log = play(items, undo=False)
    before(log, False)
    assert log.track("target").status is row[0]
    after(log, False)
    assert log.track("target").status is TRANSITIONS[row]


@pytest.mark.parametrize("row", _rows(undo=True), ids=lambda row: f"{row[0]}-{row[1]}")
def test_an_undo_follows_the_table(row: tuple[StepStatus, str]):
    items, before, after = SCENES[row]
    log = play(items, undo=True)
    before(log, True)
    assert log.track("target", undo=True).status is row[0]
    after(log, True)
    assert log.track("target", undo=True).status is TRANSITIONS[row]
    assert log.track("target").status is SUCCEEDED


_EVENTS: dict[str, Callable[[AttemptRef], Any]] = {
    "started": lambda where: AttemptStarted(*where.next, timeout=5.0),
    "succeeded": lambda where: AttemptSucceeded(*where, result="late"),
    "retry": lambda where: AttemptFailed(*where, outcome="retry", wait=1),
    "aborted": lambda where: AttemptFailed(*where, outcome="aborted"),
    "unknown": lambda where: AttemptFailed(*where, outcome="unknown"),
    "failed": lambda where: AttemptFailed(*where, outcome="failed"),
    "timed out": lambda where: AttemptTimedOut(*where),
    "lost": lambda where: AttemptLost(*where),
    "interrupted": lambda where: AttemptInterrupted(*where, error="shutdown"),
}
_STATUSES: dict[StepStatus, tuple[list[Any], Act]] = {
    PENDING: (PLAIN, _nothing),
    RUNNING: (PLAIN, _running),
    WAITING: (PLAIN, _waiting),
    UNDECIDED: (PLAIN, _undecided),
    SUCCEEDED: (PLAIN, lambda log, _: log.did("target")),
    ABORTED: (AFTER_PIVOT, _aborted),
    UNKNOWN: (AFTER_PIVOT, _unknown),
    SKIPPED: (AFTER_PIVOT, lambda log, _: log.broke("target").skip("target")),
}


@pytest.mark.parametrize("status", _STATUSES)
def test_what_the_table_does_not_list_changes_nothing(status: StepStatus):
    items, scene = _STATUSES[status]
    log = play(items, undo=False)
    scene(log, False)
    assert log.track("target").status is status
    before = log.state
    for trigger in _EVENTS.keys() - {known for found, known in TRANSITIONS if found is status}:
        log.append(_EVENTS[trigger](log.where("target", False)))
        assert log.state == replace(before, seq=log.state.seq, at=log.state.at), trigger


def test_a_failed_undo_takes_no_more_events():
    log = play(PLAIN, undo=True)
    _failed(log, True)
    before = log.state
    for event in _EVENTS.values():
        log.append(event(log.where("target", True)))
    assert log.state == replace(before, seq=log.state.seq, at=log.state.at)


_LETS_GO = pytest.mark.parametrize("ends", [Log.lost, Log.timed_out, Log.interrupted], ids=lambda ends: ends.__name__)


@_LETS_GO
def test_only_a_held_lane_can_be_lost_while_it_waits(ends: Callable[..., Log]):
    log = Log("target").started("target").will_retry("target")
    before = log.state
    ends(log, "target")
    assert log.state == replace(before, seq=log.state.seq, at=log.state.at)


@pytest.mark.parametrize("undo", [False, True])
@_LETS_GO
def test_a_held_lane_whose_worker_is_gone_keeps_its_due_time(ends: Callable[..., Log], undo: bool):
    log = play(PLAIN, undo).started("target", undo=undo).will_retry("target", wait=30, undo=undo, held=True)
    due, before = log.now + timedelta(seconds=30), log.track("target", undo)
    ends(log, "target", undo=undo)
    assert log.commands == (RunStep(AttemptRef("main", "target", 2, way(undo)), Due(due)),)
    assert log.track("target", undo) == replace(before, held=False)


# --- rule 1: replay and decide ----------------------------------------------------------------------------------------


def test_a_new_saga_runs_its_first_step():
    log = Log("reserve", "pay")
    assert log.commands == (RunStep(AttemptRef("main", "reserve", 1)),)
    assert log.status is Status.RUNNING
    assert log.state.input == {"sku": "A1"}


def test_a_sequence_runs_one_step_after_another():
    log = Log("reserve", "pay").started("reserve")
    assert log.commands == (Wait(AttemptRef("main", "reserve", 1)),)
    log.succeeded("reserve", "R1")
    assert log.commands == (RunStep(AttemptRef("main", "pay", 1)),)
    log.did("pay")
    assert log.commands == ()
    assert log.status is Status.COMPLETED
    assert log.state.results() == {"reserve": "R1", "pay": "result of pay"}


def test_a_fork_runs_its_branches_side_by_side_and_the_lane_waits_for_all():
    log = Log("reserve", fork(["pay", "receipt"], "courier"), "confirm").did("reserve")
    assert log.commands == (
        RunStep(AttemptRef("main/pay", "pay", 1)),
        RunStep(AttemptRef("main/courier", "courier", 1)),
    )
    log.did("pay").started("courier")
    assert log.todo() == ["Run receipt 1", "Wait courier 1"]
    log.did("receipt")
    assert log.todo() == ["Wait courier 1"]
    log.succeeded("courier")
    assert log.commands == (RunStep(AttemptRef("main", "confirm", 1)),)


def test_a_fork_in_a_fork_is_awaited_by_its_own_branch():
    log = Log(fork([fork("a", "b"), "c"], "d"), "e").did("a", "d")
    assert log.todo() == ["Run b 1"]
    log.did("b")
    assert log.commands == (RunStep(AttemptRef("main/a", "c", 1)),)


def test_replay_goes_on_from_a_state_and_leaves_it_as_it_is():
    log = Log("reserve", "pay").did("reserve").broke("pay")
    half = replay(log.outline, log.entries[:3])
    copy = replay(log.outline, log.entries[:3])
    assert replay(log.outline, log.entries[3:], half) == log.state
    assert half == copy


def test_a_log_can_be_read_by_the_stored_outline_alone():
    log = Log("reserve", fork("pay", "courier")).did("reserve", "pay")
    stored = type(log.outline).from_json(log.outline.to_json())
    assert replay(stored, log.entries) == log.state
    assert decide(stored, log.state) == log.commands


def test_a_second_start_changes_nothing():
    log = Log("reserve").append(SagaStarted({"sku": "B2"}, deadline=1, delay=1, priority=3))
    assert (log.state.input, log.state.deadline, log.state.not_before, log.state.priority) == (
        {"sku": "A1"},
        None,
        None,
        None,
    )


def test_a_start_may_be_delayed():
    log = Log("reserve", started=SagaStarted(delay=60))
    assert log.commands == (RunStep(AttemptRef("main", "reserve", 1), Due(at(60))),)
    log.did("reserve")
    assert log.state.not_before is None


def test_a_start_whose_time_is_not_known_yet_is_delayed_in_seconds():
    outline = outline_of("reserve")
    drafted = replay(outline, [replace(Log("reserve").entries[0], at=None, event=SagaStarted(delay=60, deadline=90))])
    assert decide(outline, drafted) == (
        RunStep(AttemptRef("main", "reserve", 1), Due(seconds=60)),
        KeepWatch(Due(seconds=90)),
    )


def test_a_retry_whose_time_is_not_known_yet_is_due_in_seconds():
    log = Log("reserve").started("reserve")
    event = AttemptFailed("main", "reserve", 1, outcome="retry", wait=7.5)
    drafted = replay(log.outline, [replace(log.entries[-1], seq=3, at=None, event=event)], log.state)
    assert decide(log.outline, drafted) == (RunStep(AttemptRef("main", "reserve", 2), Due(seconds=7.5)),)


def test_a_priority_is_kept():
    assert Log("reserve", started=SagaStarted(priority=7)).state.priority == 7


# --- rule 2: duplicates and what comes too late -----------------------------------------------------------------------


def test_a_result_is_taken_once():
    log = Log("reserve", "pay").did("reserve").succeeded("reserve", "another")
    assert log.step("reserve").result == "result of reserve"


def test_a_result_after_the_attempt_timed_out_is_ignored():
    log = Log("reserve").started("reserve").timed_out("reserve").succeeded("reserve", "late")
    assert log.track("reserve").status is UNDECIDED
    assert log.track("reserve").result is None


def test_a_result_of_an_earlier_attempt_is_ignored():
    log = Log("reserve").started("reserve").will_retry("reserve").started("reserve")
    log.append(AttemptSucceeded("main", "reserve", 1, result="late"))
    assert log.track("reserve").status is RUNNING
    log.append(AttemptFailed("main", "reserve", 1, outcome="unknown"))
    assert log.track("reserve").status is RUNNING


def test_a_start_of_an_attempt_out_of_turn_is_ignored():
    log = Log("reserve").append(AttemptStarted("main", "reserve", 2))
    assert log.track("reserve").status is PENDING


def test_a_second_start_of_the_same_attempt_is_ignored():
    log = Log("reserve").started("reserve").append(AttemptStarted("main", "reserve", 1, timeout=1))
    assert log.track("reserve").deadline == at(301)


def test_a_late_result_is_evidence_only():
    log = Log("reserve").started("reserve").timed_out("reserve")
    before = log.state
    log.late("reserve")
    assert log.state == replace(before, seq=4, at=at(3))


def test_an_event_of_an_unknown_step_changes_nothing():
    log = Log("reserve")
    log.append(AttemptStarted("main", "pay", 1)).append(StepSkipped("ann", None, "main", "pay"))
    assert log.todo() == ["Run reserve 1"]


# --- attempts and retries ---------------------------------------------------------------------------------------------


def test_a_failed_attempt_is_made_again_when_it_is_due():
    log = Log("reserve").started("reserve").will_retry("reserve", wait=10)
    assert log.commands == (RunStep(AttemptRef("main", "reserve", 2), Due(at(12))),)
    assert log.status is Status.RUNNING
    log.started("reserve").succeeded("reserve")
    assert log.step("reserve").attempts == 2
    assert log.status is Status.COMPLETED


def test_a_retry_without_a_wait_is_due_at_once():
    log = Log("reserve").started("reserve").will_retry("reserve", wait=None)
    assert log.commands == (RunStep(AttemptRef("main", "reserve", 2)),)


def test_a_held_lane_waits_for_its_worker():
    log = Log("reserve").started("reserve").will_retry("reserve", wait=0.5, held=True)
    assert log.commands == (Wait(AttemptRef("main", "reserve", 1)),)
    log.started("reserve")
    assert log.commands == (Wait(AttemptRef("main", "reserve", 2)),)


@pytest.mark.parametrize("undo", [False, True])
@_LETS_GO
def test_an_attempt_that_ends_without_a_word_is_for_the_policy_to_judge(ends: Callable[..., Log], undo: bool):
    log = play(PLAIN, undo)
    log.started("target", undo=undo)
    ends(log, "target", undo=undo)
    assert log.commands == (AskPolicy(AttemptRef("main", "target", 1, way(undo))),)
    log.will_retry("target", wait=3, undo=undo)
    assert log.commands == (RunStep(AttemptRef("main", "target", 2, way(undo)), Due(log.now + timedelta(seconds=3))),)


@pytest.mark.parametrize("undo", [False, True])
@_LETS_GO
def test_it_is_to_be_judged_while_the_saga_is_paused_too_and_starts_only_after(ends: Callable[..., Log], undo: bool):
    log = play(PLAIN, undo).started("target", undo=undo).pause()
    ends(log, "target", undo=undo)
    assert log.status is Status.PAUSED
    assert log.commands == (AskPolicy(AttemptRef("main", "target", 1, way(undo))),)
    log.will_retry("target", wait=0, undo=undo)
    assert log.commands == ()
    assert log.resume().commands == (
        RunStep(AttemptRef("main", "target", 2, way(undo)), Due(log.now - timedelta(seconds=1))),
    )


@pytest.mark.parametrize("undo", [False, True])
@pytest.mark.parametrize("ends", [Log.timed_out, Log.lost], ids=lambda ends: ends.__name__)
def test_only_after_an_interruption_does_it_start_again_without_its_policy(ends: Callable[..., Log], undo: bool):
    log = play(PLAIN, undo).started("target", undo=undo)
    ends(log, "target", undo=undo)
    before = log.state
    log.started("target", undo=undo)
    assert log.state == replace(before, seq=log.state.seq, at=log.state.at)


def test_a_lost_worker_counts_as_an_attempt_and_is_told_from_a_timeout():
    log = Log("reserve").started("reserve", worker=7).lost("reserve")
    track = log.track("reserve")
    assert (track.attempts, track.uncounted, track.losses, track.ended) == (1, 0, 1, "lost")
    assert track.error == "the worker was lost (worker 7)"
    log.will_retry("reserve").started("reserve").timed_out("reserve")
    track = log.track("reserve")
    assert (track.attempts, track.losses, track.ended) == (2, 1, "timed out")
    assert track.error == "the attempt timed out"


@pytest.mark.parametrize("undo", [False, True])
def test_an_interrupted_attempt_costs_nothing_and_is_made_again_at_once(undo: bool):
    log = play(PLAIN, undo).started("target", undo=undo).interrupted("target", undo=undo)
    track = log.track("target", undo)
    assert (track.ended, track.error, track.attempts, track.uncounted) == ("interrupted", "warm shutdown", 1, 1)
    log.started("target", undo=undo)
    assert log.commands == (Wait(AttemptRef("main", "target", 2, way(undo))),)
    track = log.track("target", undo)
    assert (track.attempts, track.uncounted, track.losses) == (2, 1, 0)


def test_an_interruption_that_says_nothing_has_words_of_its_own():
    log = Log("reserve").started("reserve").append(AttemptInterrupted("main", "reserve", 1))
    assert log.track("reserve").error == "the attempt was interrupted"


def test_the_budget_began_with_its_first_attempt():
    log = Log("reserve").started("reserve").will_retry("reserve").started("reserve")
    assert log.track("reserve").began == at(1)


def test_an_open_attempt_has_a_deadline():
    log = Log("reserve").started("reserve", timeout=30)
    assert log.track("reserve").deadline == at(31)
    log.succeeded("reserve")
    assert log.track("reserve").deadline is None


# --- rule 3: aborted or unknown ---------------------------------------------------------------------------------------


def test_an_aborted_step_is_not_undone_and_its_predecessors_are():
    log = Log("reserve", "pay").did("reserve").broke("pay", effect=False)
    assert log.track("pay").status is ABORTED
    assert log.status is Status.COMPENSATING
    assert log.todo() == ["Undo reserve 1"]
    log.undid("reserve")
    assert log.status is Status.COMPENSATED


def test_an_unknown_step_is_undone_too_and_has_no_result():
    log = Log("reserve", "pay").did("reserve").broke("pay")
    assert log.track("pay").status is UNKNOWN
    assert log.todo() == ["Undo pay 1"]
    assert "pay" not in log.state.results()
    log.undid("pay")
    assert log.todo() == ["Undo reserve 1"]


@pytest.mark.parametrize("ends", [Log.timed_out, Log.lost, Log.interrupted, Log.will_retry])
def test_an_abort_after_an_attempt_that_may_have_had_an_effect_is_unknown(ends: Callable[..., Log]):
    log = Log("reserve").started("reserve")
    ends(log, "reserve")
    if log.track("reserve").status is UNDECIDED:
        log.will_retry("reserve")
    log.started("reserve").failed("reserve", effect=False)
    assert log.track("reserve").status is UNKNOWN


def test_an_abort_after_attempts_without_any_effect_is_an_abort():
    log = Log("reserve").started("reserve").will_retry("reserve", effect=False)
    log.started("reserve").failed("reserve", effect=False)
    assert log.track("reserve").status is ABORTED


@pytest.mark.parametrize("ends", [Log.timed_out, Log.lost, Log.interrupted])
def test_a_transactional_step_is_certain_whatever_ends_it(ends: Callable[..., Log]):
    log = Log(step("write", transactional=True), "pay").started("write")
    ends(log, "write")
    assert log.track("write").certain
    log.cancel()
    assert log.track("write").status is UNDECIDED
    log.failed("write", effect=False)
    assert log.track("write").status is ABORTED
    assert log.status is Status.COMPENSATED


def test_the_first_reason_is_kept_to_the_end():
    log = Log("reserve", "pay").did("reserve").broke("pay", effect=False)
    assert log.state.rollback_reason == "pay: it broke"
    log.started("reserve", undo=True).failed("reserve", "another", undo=True).retry()
    log.undid("reserve")
    assert log.state.reason == "pay: it broke"


def test_a_step_that_was_never_started_is_never_undone():
    log = Log("reserve", "pay", "ship").did("reserve").broke("pay", effect=False).undid("reserve")
    assert log.status is Status.COMPENSATED
    assert log.step("ship").undo is None


def test_a_step_with_nothing_to_undo_is_passed_over():
    log = Log("reserve", step("look", undo=False), "pay").did("reserve", "look").broke("pay", effect=False)
    assert log.todo() == ["Undo reserve 1"]


def test_a_rollback_with_nothing_to_undo_is_over_at_once():
    log = Log("reserve").broke("reserve", effect=False)
    assert log.status is Status.COMPENSATED
    assert log.commands == ()


# --- rule 4: the pivot ------------------------------------------------------------------------------------------------


def test_an_aborted_pivot_rolls_back():
    log = Log("reserve", pivot()).did("reserve").broke("pay", effect=False)
    assert log.status is Status.COMPENSATING
    assert log.todo() == ["Undo reserve 1"]


def test_a_pivot_of_unknown_outcome_is_in_doubt():
    log = Log("reserve", pivot()).did("reserve").broke("pay")
    assert log.status is Status.STUCK
    assert log.state.problem == "pivot in doubt: pay: it broke"
    assert log.state.reason == log.state.problem
    assert log.commands == ()
    assert counts(log)[2] == 0


def test_a_pivot_in_doubt_is_retried_with_the_attempts_going_on():
    log = Log("reserve", pivot()).did("reserve").broke("pay").retry()
    assert log.commands == (RunStep(AttemptRef("main", "pay", 2)),)
    log.started("pay").succeeded("pay")
    assert log.state.past_pivot
    assert log.status is Status.COMPLETED


def test_a_pivot_in_doubt_stays_in_doubt_when_its_retry_is_refused():
    log = Log("reserve", pivot()).did("reserve").broke("pay").retry().broke("pay", effect=False)
    assert log.state.problem == "pivot in doubt: pay: it broke"


def test_a_pivot_in_doubt_that_is_skipped_has_happened():
    log = Log("reserve", pivot(), step("mail", undo=False)).did("reserve").broke("pay").skip("pay", {"number": 7})
    assert log.state.past_pivot
    assert log.state.results()["pay"] == {"number": 7}
    assert log.todo() == ["Run mail 1"]


def test_a_pivot_in_doubt_that_is_cancelled_has_not_happened():
    log = Log("reserve", pivot()).did("reserve").broke("pay").cancel("the bank says no", by="ann")
    assert log.track("pay").status is ABORTED
    assert log.status is Status.COMPENSATING
    assert log.state.rollback_reason == "cancelled by ann: the bank says no"
    assert log.todo() == ["Undo reserve 1"]


def test_after_the_pivot_a_failure_is_stuck_and_nothing_is_undone():
    for effect in (True, False):
        log = Log("reserve", pivot(), step("mail", undo=False)).did("reserve", "pay").broke("mail", effect=effect)
        assert log.status is Status.STUCK
        assert log.state.problem == "mail: it broke"
        assert log.commands == ()
        log.retry().did("mail")
        assert log.status is Status.COMPLETED


def test_after_the_pivot_the_other_branches_go_on():
    mail, ship, tell = (step(name, undo=False) for name in ("mail", "ship", "tell"))
    log = Log(pivot(), fork(mail, [ship, tell])).did("pay").broke("mail").did("ship")
    assert log.status is Status.STUCK
    assert log.todo() == ["Run tell 1"]
    log.broke("tell")
    assert log.state.problem == "mail: it broke; tell: it broke"
    log.skip("mail")
    assert log.state.problem == "tell: it broke"
    log.retry().did("tell")
    assert log.status is Status.COMPLETED


def test_a_cancel_loses_to_a_pivot_that_succeeds():
    log = Log("reserve", pivot(), step("mail", undo=False)).did("reserve").started("pay").cancel()
    assert log.status is Status.RUNNING
    assert log.state.cancel_reason == "cancelled by ann: changed my mind"
    assert log.todo() == ["Wait pay 1"]
    log.succeeded("pay")
    assert log.state.cancel_reason is None
    assert log.todo() == ["Run mail 1"]


def test_a_cancel_wins_over_a_pivot_that_aborts_and_gives_the_reason():
    log = Log("reserve", pivot()).did("reserve").started("pay").cancel().failed("pay", effect=False)
    assert log.status is Status.COMPENSATING
    assert log.state.rollback_reason == "cancelled by ann: changed my mind"


def test_a_cancel_waits_for_a_pivot_that_may_have_happened():
    log = Log("reserve", pivot()).did("reserve").started("pay").will_retry("pay").cancel()
    assert not log.state.rolling_back
    assert log.todo() == ["Run pay 2"]
    log.broke("pay")
    assert log.state.problem == "pivot in doubt: pay: it broke"
    log.cancel("no")
    assert log.state.rollback_reason == "cancelled by ann: changed my mind"


def test_a_cancel_wins_at_once_over_a_pivot_that_did_not_happen_yet():
    log = Log("reserve", pivot()).did("reserve").started("pay").will_retry("pay", effect=False).cancel()
    assert log.track("pay").status is ABORTED
    assert log.todo() == ["Undo reserve 1"]


@pytest.mark.parametrize("ends", [None, Log.timed_out, Log.lost])
def test_a_pending_cancel_wins_over_a_pivot_that_is_to_be_retried_and_had_no_effect(ends: Callable[..., Log] | None):
    log = Log("reserve", pivot(transactional=True)).did("reserve").started("pay").cancel()
    if ends:
        ends(log, "pay")
        assert log.todo() == ["AskPolicy pay 1"]
    log.will_retry("pay", effect=False)
    assert log.track("pay").status is ABORTED
    assert log.state.rollback_reason == "cancelled by ann: changed my mind"
    assert log.todo() == ["Undo reserve 1"]


def test_a_pending_cancel_waits_for_a_pivot_that_is_to_be_retried_and_may_have_happened():
    log = Log("reserve", pivot()).did("reserve").started("pay").cancel().will_retry("pay")
    assert log.state.cancel_reason
    assert log.todo() == ["Run pay 2"]


def test_a_cancel_before_the_pivot_started_wins_at_once():
    log = Log("reserve", pivot()).did("reserve").cancel()
    assert log.status is Status.COMPENSATING


def test_a_pivot_skipped_by_hand_settles_a_pending_cancel():
    log = Log("reserve", pivot(), step("mail", undo=False)).did("reserve").started("pay").cancel().failed("pay")
    log.skip("pay")
    assert log.state.past_pivot
    assert log.state.cancel_reason is None


# --- rules 5 and 6: rolling back --------------------------------------------------------------------------------------


def test_a_lane_is_undone_from_its_end():
    log = Log("a", "b", "c", "d").did("a", "b", "c").broke("d")
    undone = []
    while log.status is Status.COMPENSATING:
        (command,) = log.commands
        undone.append(command.ref.step)
        log.undid(command.ref.step)
    assert undone == ["d", "c", "b", "a"]


def test_a_failed_branch_awaits_its_siblings_and_starts_nothing_new():
    log = Log("a", fork(["b", "c"], ["d", "e"])).did("a", "b").started("d").broke("c")
    assert log.status is Status.COMPENSATING
    assert log.todo() == ["Wait d 1"]
    log.succeeded("d")
    assert log.todo() == ["Undo c 1", "Undo d 1"]


def test_branches_are_undone_side_by_side_and_the_fork_before_what_led_to_it():
    log = Log("a", fork(["b", "c"], ["d", "e"]), "f").did("a", "b", "c", "d", "e").broke("f", effect=False)
    assert log.todo() == ["Undo c 1", "Undo e 1"]
    log.undid("c", "b")
    assert log.todo() == ["Undo e 1"]
    log.undid("e")
    assert log.todo() == ["Undo d 1"]
    log.undid("d")
    assert log.todo() == ["Undo a 1"]
    log.undid("a")
    assert log.status is Status.COMPENSATED


def test_a_nested_fork_is_undone_before_what_led_to_it_in_its_branch():
    log = Log(fork(["a", fork("b", "c")], "d")).did("a", "b", "c").broke("d")
    assert log.todo() == ["Undo b 1", "Undo c 1", "Undo d 1"]
    log.undid("b", "d")
    assert log.todo() == ["Undo c 1"]
    log.undid("c")
    assert log.todo() == ["Undo a 1"]


def test_a_sibling_that_waits_for_its_retry_has_failed():
    log = Log(fork("a", "b")).started("a", "b").will_retry("a").failed("b", effect=False)
    assert log.track("a").status is UNKNOWN
    assert log.todo() == ["Undo a 1"]


def test_a_held_sibling_is_let_go():
    log = Log(fork("a", "b")).started("a", "b").will_retry("a", held=True).failed("b", effect=False)
    assert not log.track("a").held
    assert log.todo() == ["Undo a 1"]


_FAILS = pytest.mark.parametrize("fails", [Log.will_retry, Log.failed], ids=lambda fails: fails.__name__)


@_FAILS
def test_an_attempt_that_fails_in_a_rollback_is_not_made_again(fails: Callable[..., Log]):
    log = Log(fork("a", "b")).started("a", "b").failed("b", effect=False)
    fails(log, "a")
    assert log.track("a").status is UNKNOWN
    assert log.todo() == ["Undo a 1"]


@_FAILS
@_LETS_GO
@pytest.mark.parametrize("first", ["the rollback", "the end"])
def test_a_rollback_awaits_who_settles_an_undecided_attempt(
    first: str, ends: Callable[..., Log], fails: Callable[..., Log]
):
    log = Log("a", fork("b", "c")).did("a").started("b", "c")
    if first == "the end":
        ends(log, "b")
    log.failed("c", effect=False)
    if first == "the rollback":
        ends(log, "b")
    assert log.status is Status.COMPENSATING
    assert (log.track("b").status, counts(log)[0]) == (UNDECIDED, 1)
    assert log.commands == (AskPolicy(AttemptRef("main/b", "b", 1)),)
    assert log.pause().commands == (AskPolicy(AttemptRef("main/b", "b", 1)),)
    log.resume()
    fails(log, "b")
    assert log.track("b").status is UNKNOWN
    assert counts(log)[0] == 0
    assert log.todo() == ["Undo b 1"]


def test_a_sibling_that_aborts_in_a_rollback_is_not_undone():
    log = Log(fork("a", "b")).started("a", "b").failed("b", effect=False).failed("a", effect=False)
    assert log.status is Status.COMPENSATED


def test_the_first_of_two_failures_gives_the_reason():
    log = Log(fork("a", "b")).started("a", "b").failed("b", "first").failed("a", "second")
    assert log.state.rollback_reason == "b: first"


def test_an_undo_is_retried_when_it_is_due():
    log = Log("a", "b").did("a").broke("b", effect=False)
    log.started("a", undo=True).will_retry("a", wait=5, undo=True)
    assert log.commands == (
        RunStep(AttemptRef("main", "a", 2, Phase.COMPENSATION), Due(log.now + timedelta(seconds=5))),
    )
    assert log.status is Status.COMPENSATING


def test_an_undo_that_fails_for_good_is_stuck_and_its_predecessors_wait():
    log = Log("a", "b", "c").did("a", "b").broke("c", effect=False)
    log.started("b", undo=True).failed("b", "no route", undo=True)
    assert log.status is Status.STUCK
    assert log.state.problem == "undo of b: no route"
    assert log.state.reason == "c: it broke"
    assert log.commands == ()
    log.retry()
    assert log.commands == (RunStep(AttemptRef("main", "b", 2, Phase.COMPENSATION)),)
    assert log.status is Status.COMPENSATING
    log.undid("b", "a")
    assert log.status is Status.COMPENSATED


def test_other_branches_go_on_undoing_while_one_is_stuck():
    log = Log(fork(["a", "b"], ["c", "d"]), "e").did("a", "b", "c", "d").broke("e", effect=False)
    log.started("b", undo=True).failed("b", undo=True)
    assert log.todo() == ["Undo d 1"]
    log.undid("d", "c")
    assert log.status is Status.STUCK


def test_an_undo_done_by_hand_is_listed():
    log = Log("a", "b").did("a").broke("b", effect=False).started("a", undo=True).failed("a", undo=True)
    log.skip("a", undo=True)
    assert log.state.skipped == ("a",)
    assert log.status is Status.COMPENSATED
    assert log.track("a", undo=True).status is SKIPPED


# --- cancel -----------------------------------------------------------------------------------------------------------


def test_a_cancel_awaits_what_runs_and_undoes_it():
    log = Log("a", "b").did("a").started("b").cancel()
    assert log.status is Status.COMPENSATING
    assert log.todo() == ["Wait b 1"]
    log.succeeded("b")
    assert log.todo() == ["Undo b 1"]


def test_a_cancel_says_who_and_why():
    assert Log("a").cancel("fraud", by="ann").state.reason == "cancelled by ann: fraud"
    assert Log("a").cancel(None, by=None).state.reason == "cancelled"


def test_a_cancel_before_the_first_step_ends_at_once():
    log = Log("a", started=SagaStarted(delay=60)).cancel()
    assert log.status is Status.COMPENSATED
    assert log.commands == ()


def test_a_cancel_of_a_paused_saga_ends_the_pause():
    log = Log("a", "b").did("a").pause().cancel()
    assert log.status is Status.COMPENSATING
    assert log.todo() == ["Undo a 1"]


@pytest.mark.parametrize(
    ("log", "status"),
    [
        (Log("a").did("a"), "completed"),
        (Log("a").broke("a", effect=False), "compensated"),
        (Log("a", "b").did("a").broke("b", effect=False), "compensating"),
        (Log(pivot(), step("mail", undo=False)).did("pay").broke("mail"), "stuck"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_cancel_is_refused_when_the_saga_is(log: Log, status: str):
    text = objection(log, CancelRequested())
    assert text == (
        f"saga place_order[1] is {status}: only a saga that runs, is paused or has its pivot in doubt can be cancelled"
    )


def test_a_paused_rollback_cannot_be_cancelled():
    log = Log("a", "b").did("a").broke("b", effect=False).pause()
    assert "a rollback cannot be cancelled" in objection(log, CancelRequested())


@pytest.mark.parametrize("request_", [CancelRequested("ann"), DeadlinePassed()])
def test_a_cancel_or_deadline_that_comes_too_late_changes_nothing(request_: Any):
    for log in (
        Log("a").did("a"),
        Log("a", "b").did("a").broke("b", effect=False),
        Log("a").broke("a", effect=False),
        Log(pivot(), step("mail", undo=False)).did("pay"),
    ):
        before = log.state
        log.append(request_)
        assert log.state == replace(before, seq=log.state.seq, at=log.state.at)


# --- compensate -------------------------------------------------------------------------------------------------------


def test_a_completed_saga_can_be_undone():
    log = Log("a", fork("b", "c")).did("a", "b", "c").compensate()
    assert log.status is Status.COMPENSATING
    assert log.state.reason == "compensation requested by ann: returned"
    assert log.todo() == ["Undo b 1", "Undo c 1"]
    log.undid("b", "c", "a")
    assert log.status is Status.COMPENSATED


def test_a_completed_saga_that_had_been_paused_can_be_undone_now():
    log = Log("a").started("a").pause().succeeded("a")
    assert log.status is Status.COMPLETED
    log.compensate()
    assert log.status is Status.COMPENSATING
    assert log.todo() == ["Undo a 1"]


def test_a_saga_past_its_pivot_cannot_be_undone():
    log = Log("a", pivot()).did("a", "pay")
    assert objection(log, CompensateRequested()) == (
        "saga place_order[1] is completed: it is past its pivot, from where there is no way back"
    )
    before = log.state
    log.append(CompensateRequested())
    assert log.state.steps == before.steps
    assert log.status is Status.COMPLETED


def test_only_a_completed_saga_can_be_undone():
    for log in (Log("a"), Log("a").broke("a", effect=False), Log("a").pause()):
        assert "only a completed saga can be compensated; cancel one that still runs" in objection(
            log, CompensateRequested()
        )
        before = log.state
        log.append(CompensateRequested())
        assert log.state.rolling_back == before.rolling_back


# --- pause and resume -------------------------------------------------------------------------------------------------


def test_a_pause_starts_nothing_new_and_awaits_what_runs():
    log = Log(fork("a", "b")).started("a").pause()
    assert log.status is Status.PAUSED
    assert log.todo() == ["Wait a 1"]
    log.succeeded("a")
    assert log.todo() == []
    log.resume()
    assert log.status is Status.RUNNING
    assert log.todo() == ["Run b 1"]


def test_a_resume_restores_the_due_times():
    log = Log("a").started("a").will_retry("a", wait=60).pause()
    assert log.commands == ()
    log.resume()
    assert log.commands == (RunStep(AttemptRef("main", "a", 2), Due(at(62))),)


def test_a_resume_restores_the_delay_of_the_start():
    log = Log("a", started=SagaStarted(delay=60)).pause().resume()
    assert log.commands == (RunStep(AttemptRef("main", "a", 1), Due(at(60))),)


def test_a_pause_lets_go_of_held_lanes():
    log = Log(fork("a", "b")).started("a", "b").will_retry("a", wait=1, held=True).pause()
    assert log.todo() == ["Wait b 1"]
    log.resume()
    assert RunStep(AttemptRef("main/a", "a", 2), Due(at(4))) in log.commands


def test_a_pause_lets_go_of_a_held_undo():
    log = Log("a", "b").did("a").broke("b", effect=False)
    log.started("a", undo=True).will_retry("a", wait=1, undo=True, held=True).pause()
    assert log.commands == ()
    log.resume()
    assert log.todo() == ["Undo a 2"]


def test_a_paused_rollback_goes_on_where_it_was():
    log = Log("a", "b").did("a").broke("b").pause()
    assert log.status is Status.PAUSED
    assert log.todo() == []
    log.resume()
    assert log.status is Status.COMPENSATING
    assert log.todo() == ["Undo b 1"]


def test_a_failure_while_paused_rolls_back_after_the_resume():
    log = Log("a", "b").did("a").started("b").pause().failed("b", effect=False)
    assert log.status is Status.PAUSED
    assert log.todo() == []
    log.resume()
    assert log.todo() == ["Undo a 1"]


def test_a_saga_that_gets_stuck_while_paused_says_that_it_is_stuck():
    log = Log("a", pivot()).did("a").started("pay").pause().failed("pay")
    assert log.status is Status.STUCK
    log.retry()
    assert log.status is Status.PAUSED
    assert log.resume().todo() == ["Run pay 2"]


def test_what_cannot_be_paused_or_resumed():
    done, stuck = Log("a").did("a"), Log(pivot()).broke("pay")
    for log in (done, stuck, Log("a").pause()):
        assert objection(log, Paused()) == (
            f"saga place_order[1] is {log.status}: only a saga that runs or compensates can be paused"
        )
    for log in (done, stuck, Log("a")):
        assert objection(log, Resumed()) == (f"saga place_order[1] is {log.status}: only a paused saga can be resumed")


def test_a_pause_of_a_finished_saga_leaves_no_trace():
    log = Log("a").did("a").append(Paused())
    assert not log.state.paused


# --- retry ------------------------------------------------------------------------------------------------------------


def test_a_retry_brings_a_waiting_attempt_forward_with_a_fresh_budget():
    log = Log("a").started("a").will_retry("a", wait=600).retry()
    assert log.commands == (RunStep(AttemptRef("main", "a", 2)),)
    assert (log.track("a").uncounted, log.track("a").began) == (1, None)
    log.started("a")
    assert log.track("a").began == log.now


def test_a_retry_answers_for_the_policy():
    log = Log("a").started("a").lost("a").retry()
    assert log.commands == (RunStep(AttemptRef("main", "a", 2)),)
    assert log.track("a").losses == 0


def test_a_retry_reaches_everything_that_is_stuck():
    log = Log(fork("a", "b"), "c").did("a", "b").broke("c", effect=False)
    for name in ("a", "b"):
        log.started(name, undo=True).failed(name, undo=True)
    log.retry()
    assert log.todo() == ["Undo a 2", "Undo b 2"]
    assert log.state.stuck_on == {}


def test_a_retry_leaves_open_attempts_alone():
    log = Log(fork("a", "b")).started("a", "b").will_retry("a")
    before = log.track("b")
    log.retry()
    assert log.track("b") == before
    assert log.todo() == ["Run a 2", "Wait b 1"]


def test_a_retry_does_not_bring_back_a_step_that_failed_before_the_rollback():
    log = Log("a", "b").did("a").broke("b", effect=False).started("a", undo=True).failed("a", undo=True).retry()
    assert log.track("b").status is ABORTED
    assert log.todo() == ["Undo a 2"]


def test_a_retry_is_refused_while_an_attempt_is_open():
    for log in (Log("a").started("a"), Log("a").started("a").will_retry("a", held=True)):
        assert objection(log, RetryRequested()) == (
            "saga place_order[1] is running: an attempt is open; wait for its end"
        )


def test_a_retry_is_refused_where_there_is_nothing_to_retry():
    for log in (Log("a"), Log("a").did("a"), Log("a").broke("a", effect=False)):
        assert objection(log, RetryRequested()) == (
            f"saga place_order[1] is {log.status}: nothing in it is stuck or waits for a retry"
        )


def test_a_retry_of_a_paused_saga_waits_for_the_resume():
    log = Log("a").started("a").will_retry("a", wait=600).pause().retry()
    assert log.commands == ()
    log.resume()
    assert log.commands == (RunStep(AttemptRef("main", "a", 2)),)


# --- skip -------------------------------------------------------------------------------------------------------------


def test_only_a_stuck_step_can_be_skipped():
    skip = StepSkipped("ann", None, "main", "a")
    for log in (Log("a", "b"), Log("a", "b").started("a"), Log("a", "b").did("a")):
        assert objection(log, skip) == (
            f"saga place_order[1] is {log.status}: only a stuck step can be skipped, and 'a' is not"
        )
        before = log.state
        log.append(skip)
        assert log.state.steps == before.steps


def test_a_stuck_undo_is_not_skipped_as_an_action_nor_the_other_way_round():
    log = Log("a", "b").did("a").broke("b", effect=False).started("a", undo=True).failed("a", undo=True)
    assert not allowed(log, StepSkipped("ann", None, "main", "a", undo=False))
    assert allowed(log, StepSkipped("ann", None, "main", "a", undo=True))


def test_a_skipped_action_lends_its_result():
    log = Log(pivot(), step("ship", undo=False), step("mail", undo=False)).did("pay").broke("ship")
    log.skip("ship", "parcel 7")
    assert log.state.results()["ship"] == "parcel 7"
    assert log.todo() == ["Run mail 1"]


def test_an_action_done_by_hand_is_undone_later_only_if_that_was_said():
    for undo_later, todo in ((True, ["Undo b 1"]), (False, ["Undo a 1"])):
        log = Log("a", "b", "c", started=SagaStarted(asks=["b"])).did("a").broke("b")
        log.skip("b", 7, undo_later=undo_later)
        assert log.todo() == ["Run c 1"]
        assert log.cancel().todo() == todo
        assert log.step("b").result == 7


def test_what_has_no_undo_cannot_be_undone_later():
    for log, name in (
        (Log("a", pivot()).did("a").broke("pay"), "pay"),
        (Log(pivot(), step("mail", undo=False)).did("pay").broke("mail"), "mail"),
    ):
        refused = objection(log, StepSkipped("ann", None, "main", name, undo_later=True))
        assert refused == (
            f"saga place_order[1] is stuck: step {name!r} has no undo that could be made later; leave undo=True out"
        )
        assert allowed(log, StepSkipped("ann", None, "main", name))


def test_a_skip_settles_once():
    log = Log("a", "b").did("a").broke("b", effect=False).started("a", undo=True).failed("a", undo=True)
    log.skip("a", undo=True).append(StepSkipped("ann", None, "main", "a", True))
    assert log.state.skipped == ("a",)
    assert counts(log)[2] == 0


# --- abandon ----------------------------------------------------------------------------------------------------------


def abandoned(log: Log) -> Log:
    return log.ask(Abandoned("ann", "the bank is closed"))


def test_an_abandoned_rollback_lists_the_undos_that_are_still_owed():
    log = Log("a", "b", "c").did("a", "b").broke("c", effect=False).undid("b")
    log.started("a", undo=True).failed("a", undo=True)
    abandoned(log)
    assert (log.status, log.todo()) == (Status.ABANDONED, [])
    assert log.state.undos_owed == ("a",)
    assert log.state.reason == "abandoned by ann: the bank is closed; before that: c: it broke"
    assert log.track("a", undo=True).status is FAILED


def test_a_saga_abandoned_on_its_way_forward_lists_what_it_has_done():
    log = abandoned(Log("a", step("b", undo=False), fork("c", "d"), "e").did("a", "b", "c").started("d"))
    assert log.state.undos_owed == ("a", "c", "d")
    assert (log.track("d").status, log.track("d").error) == (UNKNOWN, "it was abandoned while it ran")
    assert log.state.reason == "abandoned by ann: the bank is closed"


def test_past_the_pivot_nothing_was_owed_and_nothing_is():
    log = abandoned(Log("a", pivot(), step("mail", undo=False)).did("a", "pay").broke("mail"))
    assert log.state.undos_owed == ()
    assert log.state.reason == "abandoned by ann: the bank is closed; before that: mail: it broke"
    assert log.state.problem is None


def test_what_comes_after_the_end_of_an_abandoned_saga_changes_nothing():
    log = abandoned(Log("a", fork("b", "c")).did("a").started("b").cancel())
    before = log.state
    log.append(AttemptSucceeded("main/b", "b", 1, result=1)).append(AttemptStarted("main/c", "c", 1))
    log.append(RetryRequested()).append(CompensateRequested()).append(DeadlinePassed()).append(Abandoned("bob"))
    assert log.state == replace(before, seq=log.state.seq, at=log.state.at)


def test_only_a_saga_that_is_not_finished_can_be_abandoned():
    for log in (Log("a").did("a"), Log("a").broke("a", effect=False), abandoned(Log("a"))):
        assert objection(log, Abandoned()) == (
            f"saga place_order[1] is {log.status}: only a saga that is not finished can be abandoned"
        )
    for log in (Log("a"), Log("a").pause(), Log("a").started("a"), Log("a", pivot()).did("a").broke("pay")):
        assert allowed(log, Abandoned())


@pytest.mark.parametrize(
    "request_", [CancelRequested(), CompensateRequested(), Paused(), Resumed(), RetryRequested()], ids=repr
)
def test_nothing_can_be_asked_of_an_abandoned_saga(request_: Request):
    assert "is abandoned: " in objection(abandoned(Log("a", "b").started("a").will_retry("a")), request_)


# --- the saga's own deadline ------------------------------------------------------------------------------------------


def due_soon(*items: Any) -> Log:
    return Log(*items, started=SagaStarted(deadline=60))


def test_a_deadline_is_watched_while_the_saga_can_still_be_rolled_back():
    log = due_soon("a", pivot(), step("mail", undo=False))
    watch = KeepWatch(Due(at(60)))
    assert watch in log.commands
    assert watch in log.started("a").commands
    assert watch in log.succeeded("a").commands
    assert watch in log.started("pay").commands
    assert watch not in log.succeeded("pay").commands


def test_a_deadline_is_not_watched_in_a_rollback_a_pause_or_at_the_end():
    assert "KeepWatch" not in due_soon("a", "b").did("a").broke("b", effect=False).todo()
    assert "KeepWatch" not in due_soon("a").did("a").todo()
    paused = due_soon("a").pause()
    assert paused.todo() == []
    assert "KeepWatch" in paused.resume().todo()


def test_a_deadline_that_passes_rolls_back():
    log = due_soon("a", "b").did("a").deadline_passed()
    assert log.status is Status.COMPENSATING
    assert log.state.reason == "the saga's deadline passed"
    assert log.todo() == ["Undo a 1"]


def test_a_deadline_waits_for_the_pivot_that_runs():
    log = due_soon("a", pivot()).did("a").started("pay").deadline_passed()
    assert log.status is Status.RUNNING
    assert "KeepWatch" not in log.todo()
    log.succeeded("pay")
    assert log.status is Status.COMPLETED


def test_a_deadline_does_not_settle_a_pivot_in_doubt():
    log = due_soon("a", pivot()).did("a").broke("pay").deadline_passed()
    assert log.status is Status.STUCK
    assert "KeepWatch" in log.retry().todo()


# --- rule 7 and the counts --------------------------------------------------------------------------------------------


def test_entries_of_independent_lanes_commute():
    def ends(*order: str) -> State:
        log = Log(fork("a", "b")).started("a", "b")
        now = log.now
        for name in order:
            log.now = now
            log.failed(name, f"{name} broke") if name == "a" else log.will_retry(name)
        return log.state

    assert ends("a", "b") == ends("b", "a")


def counts(log: Log) -> tuple[int, int, int]:
    """How much is open, left and owed in the saga."""
    whole = log.state.scopes[OUTERMOST]
    return whole.open, whole.left, whole.owed


def test_the_counts_follow_the_steps():
    log = Log("a", fork("b", "c")).did("a").started("b", "c")
    assert counts(log) == (2, 2, 0)
    log.failed("b")
    assert counts(log) == (1, 2, 2)
    log.succeeded("c")
    assert counts(log) == (0, 1, 3)
    log.undid("b", "c", "a")
    assert counts(log) == (0, 1, 0)


@_LETS_GO
def test_an_undecided_action_counts_as_open(ends: Callable[..., Log]):
    log = Log(fork("a", "b")).started("a", "b").failed("b", effect=False)
    ends(log, "a")
    assert (counts(log), log.status) == ((1, 2, 0), Status.COMPENSATING)
    log.failed("a", effect=False)
    assert counts(log)[0] == 0


def test_a_saga_is_compensated_only_when_nothing_is_owed_or_open():
    log = Log(fork("a", "b")).started("a", "b").failed("a", effect=False)
    assert log.status is Status.COMPENSATING
    log.failed("b", effect=False)
    assert log.status is Status.COMPENSATED


def test_only_completed_compensated_and_abandoned_are_terminal():
    ends = [Status.COMPLETED, Status.COMPENSATED, Status.ABANDONED]
    assert [status for status in Status if status.terminal] == ends


def test_an_undo_that_nobody_owes_does_not_start():
    log = Log("pay", "ship").did("pay").started("pay", undo=True)
    assert log.step("pay").undo is None
    assert log.todo() == ["Run ship 1"]
