"""Which exceptions mean that nothing happened: what ``abort_on`` takes, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from saga import Abort, DefinitionError
from saga.language.definition import Saga, Step
from saga.language.refusal import Refusal
from saga.worker.performers.said import outcome_of

from .helpers import task_of


class Declined(Exception):
    code = "declined"


class Poor(Declined):
    code = "insufficient funds"


@task_of
def act(idempotency_key: str) -> None: ...


@task_of
def undo(action_key: str) -> None: ...


def refusal(**options: Any) -> Refusal | None:
    kinds = {name: options.pop(name) for name in ("throws_abort",) if name in options}
    return (
        Saga("bank", Step(options.pop("task", act), compensate=undo, name="debit", **options), **kinds)
        .actions["debit"]
        .refusal
    )


@pytest.mark.parametrize("given", [Declined, (Declined,), [Declined], {Declined}, (KeyError, Declined)])
def test_an_exception_that_is_listed_is_a_refusal_and_so_are_its_subclasses(given: Any) -> None:
    found = refusal(abort_on=given)
    assert found is not None
    assert Declined("no") in found
    assert Poor("no") in found
    assert ValueError("no") not in found


def test_a_predicate_is_asked() -> None:
    found = refusal(abort_on=lambda error: error.code == "declined")
    assert found is not None
    assert Declined() in found
    assert Poor() not in found


def test_a_predicate_that_fails_has_not_said_that_nothing_happened(caplog: pytest.LogCaptureFixture) -> None:
    found = refusal(abort_on=lambda error: error.code == "declined")
    assert found is not None
    assert ConnectionError("reset") not in found  # it has no code
    assert "saga 'bank', step 'debit': abort_on failed when asked about a ConnectionError" in caplog.text


def test_nothing_is_a_refusal_unless_it_is_said() -> None:
    assert refusal() is None
    assert refusal(abort_on=()) is None


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("declined", "expected an exception class"),
        ((ValueError, "declined"), "expected an exception class"),
        (int, "expected an exception class"),
        (None, "expected an exception class"),
        (Exception, "name the exceptions that mean it"),
        ((ValueError, BaseException), "name the exceptions that mean it"),
        (SystemExit, "name the exceptions that mean it"),
    ],
)
def test_what_can_be_no_refusal_is_named_when_the_saga_is_built(given: Any, problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem) as raised:
        refusal(abort_on=given)
    assert str(raised.value).startswith("saga 'bank', step 'debit': abort_on")


def test_a_predicate_that_would_be_true_of_everything_is_refused() -> None:
    async def asked(error: Exception) -> bool:
        return False

    with pytest.raises(DefinitionError, match="async def"):
        refusal(abort_on=asked)


def test_a_transactional_step_may_refuse_with_any_exception_for_it_never_has_half_an_effect() -> None:
    found = refusal(abort_on=Exception, transactional=True)
    assert found is not None
    assert ValueError() in found


def test_what_a_task_throws_is_a_refusal_only_where_the_saga_says_so() -> None:
    @task_of
    def pay(idempotency_key: str) -> None: ...

    pay.throws = (Declined,)
    assert refusal(task=pay) is None
    found = refusal(task=pay, throws_abort=True)
    assert found is not None
    assert Poor() in found


def test_abort_on_comes_before_what_the_task_throws() -> None:
    @task_of
    def pay(idempotency_key: str) -> None: ...

    pay.throws = (Declined,)
    found = refusal(task=pay, throws_abort=True, abort_on=KeyError)
    assert found is not None
    assert Declined() not in found


def test_a_task_that_throws_everything_cannot_tell_a_refusal() -> None:
    @task_of
    def pay(idempotency_key: str) -> None: ...

    pay.throws = (Exception,)
    with pytest.raises(DefinitionError, match="its task's throws= has Exception"):
        refusal(task=pay, throws_abort=True)


def test_an_undo_has_no_refusals() -> None:
    bank = Saga("bank", Step(act, compensate=undo, abort_on=Declined))
    assert bank.undos["act"].refusal is None


@pytest.mark.parametrize("error", [Abort("no"), Poor("no")])
def test_a_refusal_has_no_effect_and_is_not_tried_again(error: Exception) -> None:
    outcome: Any = outcome_of("FAILURE", error, refusal(abort_on=Declined), transactional=False)
    assert (outcome.error, outcome.effect, outcome.final) == (error, False, True)
    other: Any = outcome_of("FAILURE", ValueError("no"), refusal(abort_on=Declined), transactional=False)
    assert (other.effect, other.final) == (True, False)
