"""Verdict: the event that says how an attempt ended, and the one with which a worker answers a command."""

from __future__ import annotations

from typing import Any

import pytest

from saga.core.events import (
    AttemptFailed,
    AttemptInterrupted,
    AttemptStarted,
    AttemptSucceeded,
    DeadlinePassed,
    SagaStarted,
)
from saga.core.outcome import Broken, Interruption, Report, Success
from saga.core.ref import way
from saga.core.verdict import answer, verdict

from .helpers import Log, fork, step

SAID = Report("declined", "Abort", "51", {"by": "bank"})
BOTH_WAYS = pytest.mark.parametrize("undo", [False, True], ids=["action", "undo"])


def running(*, undo: bool = False, transactional: bool = False) -> Log:
    """A log with an open attempt of ``target``."""
    log = Log(step("target", transactional=transactional), "later")
    if undo:
        log.did("target").broke("later", effect=False)
    return log.started("target", undo=undo)


def ended(log: Log, how: Any, wait: float | None = None, *, undo: bool = False, **more: Any) -> Any:
    return verdict(log.outline, log.state, log.where("target", undo), how, wait, **more)


def answered(log: Log, wait: float | None = None, *, lane: str = "main", **more: Any) -> Any:
    command = next((command for command in log.commands if command.lane == lane), None)
    return answer(log.outline, log.state, command, wait, timeout=5.0, **more)


@BOTH_WAYS
def test_a_success_keeps_its_result(undo: bool):
    log = running(undo=undo)
    assert ended(log, Success(7), undo=undo) == AttemptSucceeded(*log.where("target", undo), result=7)


@BOTH_WAYS
def test_an_interruption_says_why(undo: bool):
    log = running(undo=undo)
    found = ended(log, Interruption("shutdown"), undo=undo)
    assert found == AttemptInterrupted(*log.where("target", undo), error="shutdown")


@BOTH_WAYS
def test_a_failure_for_which_there_is_a_wait_is_tried_again(undo: bool):
    log = running(undo=undo)
    found = ended(log, Broken(SAID, traceback="..."), 1.5, undo=undo)
    assert found == AttemptFailed(*log.where("target", undo), outcome="retry", error="declined", traceback="...",
                                  wait=1.5, error_type="Abort", code="51", details={"by": "bank"})  # fmt: skip


@pytest.mark.parametrize(("effect", "outcome"), [(True, "unknown"), (False, "aborted")])
def test_an_action_that_fails_for_good_is_aborted_only_without_an_effect(effect: bool, outcome: str):
    found = ended(running(), Broken(SAID, effect))
    assert (found.outcome, found.wait, found.effect) == (outcome, None, effect)


def test_what_an_earlier_attempt_may_have_done_stays():
    log = running().will_retry("target", effect=True).started("target")
    assert ended(log, Broken(SAID, effect=False)).outcome == "unknown"


def test_an_undo_that_fails_for_good_has_failed():
    assert ended(running(undo=True), Broken(SAID, effect=False), undo=True).outcome == "failed"


def test_an_action_is_not_tried_again_in_a_rollback():
    log = Log(fork("target", "other")).started("target", "other").failed("other")
    found = ended(log, Broken(SAID, effect=False), 1.0, hold=60.0)
    assert (found.outcome, found.wait, found.held) == ("aborted", None, False)


@pytest.mark.parametrize(("wait", "held"), [(0.0, False), (0.5, True), (2.0, True), (2.1, False)])
def test_a_worker_holds_a_lane_through_a_short_wait(wait: float, held: bool):
    assert ended(running(), Broken(SAID), wait, hold=2.0).held is held


def test_nothing_is_held_while_nothing_may_start():
    assert not ended(running().pause(), Broken(SAID), 0.5, hold=2.0).held


def test_what_may_run_is_started():
    assert answered(Log("target")) == AttemptStarted("main", "target", 1, timeout=5.0)


@BOTH_WAYS
def test_after_an_interruption_the_next_attempt_just_starts(undo: bool):
    log = running(undo=undo).interrupted("target", undo=undo)
    assert answered(log) == AttemptStarted("main", "target", 2, way(undo), 5.0)


@BOTH_WAYS
def test_after_an_interruption_nothing_starts_in_a_pause(undo: bool):
    log = running(undo=undo).interrupted("target", undo=undo).pause()
    assert answered(log, 0.0).outcome == "retry"


@pytest.mark.parametrize("ends", [Log.lost, Log.timed_out], ids=lambda ends: ends.__name__)
@BOTH_WAYS
def test_what_ended_without_a_word_is_settled_by_the_policy(ends: Any, undo: bool):
    log = ends(running(undo=undo), "target", undo=undo)
    assert (answered(log, 3.0).outcome, answered(log, 3.0).wait) == ("retry", 3.0)
    assert answered(log).outcome == ("failed" if undo else "unknown")
    assert answered(log).error == log.track("target", undo).error


def test_what_was_lost_of_a_transaction_has_had_no_effect():
    assert answered(running(transactional=True).lost("target")).outcome == "aborted"


def test_who_waits_for_others_says_nothing():
    assert answered(running()) is None
    assert answered(Log("target").pause()) is None


def test_the_deadline_is_passed_by_whoever_keeps_watch_and_by_who_comes_too_late():
    log = Log("target", started=SagaStarted(deadline=60))
    assert answered(log, lane="deadline") == DeadlinePassed()
    assert answered(log, late=True) == DeadlinePassed()
    assert answered(log.pause(), late=True) is None
    assert answered(Log("target"), late=True) == AttemptStarted("main", "target", 1, timeout=5.0)
