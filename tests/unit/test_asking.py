"""Sagas that leave it to a person what an unknown outcome was, or whether a failure goes forward or back."""

from __future__ import annotations

from typing import Any

import pytest

from saga import DefinitionError, NotAllowed, SagaStuck
from saga.client.ids import uuid7
from saga.client.starting import order
from saga.core.events import Abandoned, SagaStarted, data_of, entry_from_row
from saga.core.scope import OUTERMOST
from saga.core.state import Status, StepStatus
from saga.errors import CorruptLog
from saga.language.definition import Saga, Step

from .helpers import NOON, Log, fork, step, task_of

STUCK, COMPENSATING, COMPENSATED, COMPLETED, RUNNING = (
    Status.STUCK, Status.COMPENSATING, Status.COMPENSATED, Status.COMPLETED, Status.RUNNING
)  # fmt: skip


def doubting(*items: Any, about: str = "pay") -> Log:
    """A saga that asks about the doubts of one step."""
    return Log(*items, started=SagaStarted({}, asks=[about]))


def asking(*items: Any) -> Log:
    """A saga that asks at any failure."""
    return Log(*items, started=SagaStarted({}, ask_first=True))


# --- in doubt ---------------------------------------------------------------------------------------------------------


def test_an_unknown_outcome_is_asked_about_in_place_of_undoing_it():
    log = doubting("reserve", "pay").did("reserve").broke("pay")
    assert log.status is STUCK
    assert log.state.problem == "in doubt: pay: it broke"
    assert log.commands == ()
    assert log.state.scopes[OUTERMOST].owed == 0


def test_an_outcome_that_is_known_is_not_asked_about():
    log = doubting("reserve", "pay").did("reserve").broke("pay", effect=False)
    assert log.status is COMPENSATING
    assert log.todo() == ["Undo reserve 1"]


def test_a_doubt_of_another_step_is_not_asked_about():
    log = doubting("reserve", "pay").broke("reserve")
    assert log.status is COMPENSATING


def test_a_doubt_that_is_skipped_has_happened_and_the_saga_goes_on_with_its_result():
    log = doubting("reserve", "pay", "ship").did("reserve").broke("pay").skip("pay", {"number": 7}, undo_later=True)
    assert log.status is RUNNING
    assert log.todo() == ["Run ship 1"]
    log.broke("ship", effect=False)
    assert log.todo() == ["Undo pay 1"]
    assert log.track("pay").result == {"number": 7}


def test_a_doubt_that_is_cancelled_has_not_happened_and_is_not_undone():
    log = doubting("reserve", "pay").did("reserve").broke("pay").cancel("the bank says no")
    assert log.track("pay").status is StepStatus.ABORTED
    assert log.status is COMPENSATING
    assert log.todo() == ["Undo reserve 1"]
    assert log.state.reason == "cancelled by ann: the bank says no"
    assert log.state.cause is not None
    assert log.state.cause.step == "pay"
    log.undid("reserve")
    assert log.status is COMPENSATED
    assert log.step("pay").undo is None


def test_a_doubt_that_is_retried_goes_on_under_the_same_numbers_and_may_be_in_doubt_again():
    log = doubting("reserve", "pay").did("reserve").broke("pay").retry()
    assert log.todo() == ["Run pay 2"]
    log.broke("pay", effect=False)
    assert log.state.problem == "in doubt: pay: it broke"  # the first attempt may have had its effect


def test_the_branches_beside_a_doubt_come_to_their_end_and_start_nothing_new():
    log = doubting(fork("pay", ["pack", "ship"]), "mail").started("pay", "pack").failed("pay")
    assert log.todo() == ["Wait pack 1"]
    log.succeeded("pack")
    assert log.todo() == []
    log.skip("pay", 1)
    assert log.todo() == ["Run ship 1"]


def test_a_branch_that_waits_for_its_retry_waits_on_until_a_person_has_spoken():
    log = doubting(fork("pay", "pack")).started("pay", "pack").will_retry("pack", held=True).failed("pay")
    assert not log.track("pack").held
    assert log.todo() == []
    log.retry()
    assert sorted(log.todo()) == ["Run pack 2", "Run pay 2"]


def test_a_branch_that_fails_while_a_person_is_asked_holds_no_lane():
    log = doubting(fork("pay", "pack")).started("pay", "pack").failed("pay").will_retry("pack", held=True)
    assert not log.track("pack").held
    assert log.todo() == []


def test_of_two_doubts_each_is_settled_by_itself_and_a_cancel_denies_the_rest():
    log = Log(fork("pay", "ship"), started=SagaStarted({}, asks=["pay", "ship"]))
    log.started("pay", "ship").failed("pay").failed("ship")
    assert log.state.problem == "in doubt: pay: it broke; in doubt: ship: it broke"
    log.skip("pay", 7, undo_later=True)
    assert log.status is STUCK
    log.cancel()
    assert log.track("ship").status is StepStatus.ABORTED
    assert log.todo() == ["Undo pay 1"]


def test_a_doubt_that_arises_in_a_rollback_is_asked_about_before_it_is_undone():
    log = doubting("reserve", fork("pay", "ship")).did("reserve").started("pay", "ship").failed("ship").failed("pay")
    assert log.status is STUCK
    assert log.todo() == ["Undo ship 1"]
    log.undid("ship")
    assert log.todo() == []
    with pytest.raises(NotAllowed, match="nobody knows whether pay happened"):
        log.retry()
    log.cancel()
    assert log.track("pay").status is StepStatus.ABORTED
    assert log.todo() == ["Undo reserve 1"]
    log.undid("reserve")
    assert log.status is COMPENSATED
    assert log.state.scopes[OUTERMOST].owed == 0


@pytest.mark.parametrize(("undo_later", "todo"), [(True, ["Undo pay 1"]), (False, ["Undo reserve 1"])])
def test_a_doubt_in_a_rollback_that_has_happened_is_undone_if_that_is_said(undo_later: bool, todo: list[str]):
    log = doubting("reserve", "pay").did("reserve").started("pay").will_retry("pay").cancel()
    assert log.status is STUCK
    log.skip("pay", 7, undo_later=undo_later)
    assert log.todo() == todo
    log.undid(*[name.split()[1] for name in todo])
    if undo_later:
        log.undid("reserve")
    assert (log.status, log.state.scopes[OUTERMOST].owed) == (COMPENSATED, 0)


def test_a_deadline_settles_no_doubt():
    log = Log("reserve", "pay", started=SagaStarted({}, deadline=60, asks=["pay"])).did("reserve").broke("pay")
    log.deadline_passed()
    assert log.status is STUCK
    assert log.track("pay").status is StepStatus.UNKNOWN
    log.retry()
    assert "KeepWatch" in " ".join(log.todo())


def test_a_saga_with_a_doubt_can_be_abandoned_and_owes_its_undo():
    log = doubting("reserve", "pay").did("reserve").broke("pay").ask(Abandoned("ann", "written off"))
    assert log.status is Status.ABANDONED
    assert log.state.undos_owed == ("reserve", "pay")


# --- forward or back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", [True, False])
def test_a_saga_that_asks_first_is_stuck_at_any_failure(effect: bool):
    log = asking("reserve", "pay").did("reserve").broke("pay", effect=effect)
    assert log.status is STUCK
    assert log.state.problem == "forward or back: pay: it broke"
    assert log.commands == ()
    log.retry().did("pay")
    assert log.status is COMPLETED


@pytest.mark.parametrize(("effect", "todo"), [(True, ["Undo pay 1"]), (False, ["Undo reserve 1"])])
def test_told_to_go_back_it_undoes_what_may_have_happened(effect: bool, todo: list[str]):
    log = asking("reserve", "pay").did("reserve").broke("pay", effect=effect).cancel()
    assert log.status is COMPENSATING
    assert log.todo() == todo


def test_a_pivot_that_was_refused_is_asked_about_too():
    log = asking("reserve", step("pay", pivot=True)).did("reserve").broke("pay", effect=False)
    assert log.status is STUCK
    log.cancel()
    assert log.todo() == ["Undo reserve 1"]


def test_nobody_is_asked_about_what_is_cancelled_already():
    log = asking("reserve", step("pay", pivot=True)).did("reserve").started("pay").cancel()
    log.failed("pay", effect=False)
    assert log.status is COMPENSATING


def test_a_log_that_says_nothing_of_it_is_read_as_before():
    log = Log("reserve", "pay").did("reserve").broke("pay")
    assert log.status is COMPENSATING
    assert "asks" not in data_of(SagaStarted({}))
    assert "ask_first" not in data_of(SagaStarted({}))


# --- definitions ------------------------------------------------------------------------------------------------------


@task_of
def act(idempotency_key: str): ...


@task_of
def undo(action_key: str): ...


def test_a_saga_is_started_with_what_its_definition_asks():
    saga = Saga("shop", Step(act, name="a", compensate=undo), Step(act, name="b", compensate=undo, in_doubt="ask"),
                on_failure="ask")  # fmt: skip
    started = order(saga, {}, None, None, None, None, None, 1000).started
    assert (started.asks, started.ask_first) == (["b"], True)
    plain = order(Saga("shop", Step(act, compensate=undo)), {}, None, None, None, None, None, 1000).started
    assert (plain.asks, plain.ask_first) == (None, False)


@pytest.mark.parametrize("value", ["aks", None, True])
def test_what_is_asked_has_one_of_two_values(value: Any):
    with pytest.raises(DefinitionError, match=r"in_doubt=.* expected 'undo' or 'ask'"):
        Saga("shop", Step(act, compensate=undo, in_doubt=value))
    with pytest.raises(DefinitionError, match=r"on_failure=.* expected 'rollback' or 'ask'"):
        Saga("shop", Step(act, compensate=undo), on_failure=value)


def test_what_is_asked_is_no_part_of_the_fingerprint():
    plain = Saga("shop", Step(act, compensate=undo))
    assert plain.is_like(Saga("shop", Step(act, compensate=undo, in_doubt="ask"), on_failure="ask"))


@pytest.mark.parametrize("asks", ["pay", [1], [None], [["pay"]]])
def test_a_damaged_start_is_refused(asks: Any):
    with pytest.raises(CorruptLog):
        entry_from_row(uuid7(), (1, "saga_started", None, None, None, {"asks": asks}, None, NOON, 1))


@pytest.mark.parametrize("reason", ["in doubt: pay: it broke", "pivot in doubt: pay: no", "forward or back: pay: no"])
def test_what_is_stuck_in_doubt_names_cancel_as_a_remedy(reason: str):
    assert "saga cancel" in str(SagaStuck("1", reason))
    assert "saga cancel" not in str(SagaStuck("1", "undo of pay: it broke"))
