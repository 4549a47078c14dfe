"""The options of a step for a second phase and for doubt: ``confirm``, ``check`` and ``within``; what a check answers."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from saga import CarelessStep, DidNotHappen, Happened, NotYet, Retry, Step, Try
from saga.errors import ResultError
from saga.language.definition import Saga
from saga.language.evidence import read_evidence

from .definitions import Definition, function_of, lacks, named, refused, step
from .helpers import task_of

PIVOT = Step(task_of(named("go")), pivot=True)


@dataclass
class Tenant:
    amount: int


def hold(amount: int, idempotency_key: str) -> Decimal: ...


def release(hold: Decimal) -> None: ...


def options_of(parameters: str, option: str, **more: Any) -> dict[str, Any]:
    return {option: task_of(function_of(parameters, f"{option}_it")), **more}


# --- confirm ----------------------------------------------------------------------------------------------------------


def test_a_confirmation_is_stored_and_bound_like_an_undo_but_for_the_error():
    found = Definition(
        step("before"),
        step(hold, **options_of("hold, result, before, amount, input, idempotency_key, action_key", "confirm")),
    )
    assert found.doc[1]["confirm"] == "shop.confirm_it"
    assert found.sources("hold", "confirms") == {
        "hold": ("step", "hold", ()),
        "result": ("reserved", "result", ()),
        "before": ("step", "before", ()),
        "amount": ("input", "", ("amount",)),
        "input": ("reserved", "input", ()),
        "idempotency_key": ("reserved", "idempotency_key", ()),
        "action_key": ("reserved", "action_key", ()),
    }


def test_a_confirmation_has_the_steps_queue_and_timeout_and_persists():
    options = {"queue": "slow", "timeout": timedelta(seconds=30), "priority": 3, "compensate_retry": Retry.none()}
    found = Definition(step(hold, **options_of("hold", "confirm", **options)))
    job = found.walk.confirms["hold"]
    assert (job.task, job.queue, job.timeout, job.priority, job.retry) == (
        "shop.confirm_it",
        "slow",
        30.0,
        3,
        Retry.persistent(),
    )


def test_confirm_bind_is_for_the_confirmation():
    found = Definition(step(hold, **options_of("sum", "confirm", confirm_bind={"sum": "hold"})))
    assert found.sources("hold", "confirms") == {"sum": ("step", "hold", ())}


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([step(hold, **options_of("held", "confirm"))], ["step 'hold', its confirm: nothing provides parameter 'held'", "did you mean 'hold'?"]),
        ([step(hold, **options_of("error", "confirm"))], ["its confirm", "'error' is for compensations only"]),
        ([step(hold, confirm=named("capture"))], ["confirm=capture is not a Celery task"]),
        ([step(hold, confirm_bind={"a": "hold"})], ["confirm_bind is given, but no confirm"]),
        ([step(hold, confirm_bind=["a"])], ["confirm_bind=['a'] expected a mapping"]),
        ([step(hold, compensate=..., pivot=True, **options_of("hold", "confirm"))], ["step 'hold'", "the pivot", "drop"]),
        ([PIVOT, Step(task_of(hold), **options_of("hold", "confirm"))], ["after the pivot 'go'", "drop confirm="]),
        (
            [PIVOT, Try(step(hold, **options_of("hold", "confirm")), otherwise=[], name="t")],
            ["after the pivot 'go'", "drop confirm="],
        ),
        ([step(hold, **options_of("connection", "confirm"))], ["'connection' is for steps with transactional=True only"]),
    ],
)  # fmt: skip
def test_a_confirmation_is_refused_with_what_is_wrong(items: list[Any], words: list[str]):
    text = refused(*items, input=Tenant)
    assert lacks(text, ["saga 'shop'", *words]) == [], text


# --- check ------------------------------------------------------------------------------------------------------------


def test_a_check_is_bound_as_the_action_is_and_is_not_stored():
    find = task_of(function_of("total, idempotency_key, more=None", "find"))
    found = Definition(
        step(function_of("total, sku", "pay"), check=find, bind={"total": "input.amount", "sku": "input.sku"})
    )
    assert found.doc == [{"step": "pay", "task": "shop.pay"}]
    assert found.sources("pay", "checks") == {
        "total": ("input", "", ("amount",)),
        "idempotency_key": ("reserved", "idempotency_key", ()),
        "more": ("input", "", ("more",)),
    }
    assert found.walk.actions["pay"].checked


def test_a_check_is_retried_as_the_undo_is_and_tells_what_the_action_returns():
    found = Definition(
        step(hold, **options_of("idempotency_key", "check", compensate_retry=Retry.none(), queue="slow"))
    )
    job = found.walk.checks["hold"]
    assert (job.retry, job.queue, job.returns) == (Retry.none(), "slow", Decimal)


def test_a_check_may_declare_what_it_returns():
    def find(idempotency_key: str) -> Happened | DidNotHappen: ...

    Definition(step(hold, check=task_of(find)))


def test_the_pivot_and_a_step_after_it_may_have_a_check():
    check = options_of("idempotency_key", "check")
    Definition(Step(task_of(hold), pivot=True, **check), Step(task_of(named("next")), **check))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (options_of("nothing", "check"), ["step 'hold', its check: nothing provides parameter 'nothing'"]),
        (options_of("hold", "check"), ["its check: parameter 'hold' names a step that is not over by then"]),
        (options_of("result", "check"), ["its check", "'result' is for compensations only"]),
        (options_of("error", "check"), ["its check", "'error' is for compensations only"]),
        (options_of("idempotency_key", "check", transactional=True), ["transactional", "always known", "drop check="]),
        ({"check": named("find")}, ["check=find is not a Celery task"]),
        ({"within": timedelta(0)}, ["within=", "positive timedelta"]),
        ({"within": 60}, ["within=60"]),
    ],
)  # fmt: skip
def test_a_check_is_refused_with_what_is_wrong(options: dict[str, Any], words: list[str]):
    text = refused(step(hold, **options), input=Tenant)
    assert lacks(text, ["saga 'shop', step 'hold'", *words]) == [], text


def test_a_step_may_have_a_time_for_all_its_attempts():
    found = Definition(step(hold, within=timedelta(minutes=10)), step("other"))
    assert found.walk.actions["hold"].within == 600.0
    assert found.walk.actions["other"].within is None
    assert not found.walk.actions["other"].checked


# --- a saga of them ---------------------------------------------------------------------------------------------------


def saga_of(**options: Any) -> Saga:
    return Saga("shop", Step(task_of(hold), compensate=task_of(release), **options))


def test_a_saga_gives_the_job_of_each_phase():
    saga = saga_of(**options_of("hold", "confirm"), **options_of("idempotency_key", "check"))
    tasks = [saga.job("hold[3]#2", phase).task for phase in ("step", "compensation", "confirmation", "check")]
    assert tasks == ["shop.hold", "shop.release", "shop.confirm_it", "shop.check_it"]
    assert [saga.job("hold", undo).task for undo in (False, True)] == ["shop.hold", "shop.release"]
    assert [job.task for job in saga.jobs()] == tasks
    assert saga.point_of_no_return == "its step 'hold' is confirmed"
    assert saga_of().point_of_no_return is None


def test_check_and_within_are_not_in_the_fingerprint():
    options = {"within": timedelta(minutes=1)} | options_of("idempotency_key", "check")
    assert saga_of(**options).outline.fingerprint == saga_of().outline.fingerprint
    assert saga_of(**options) != saga_of()
    assert saga_of(**options_of("hold", "confirm")).outline.fingerprint != saga_of().outline.fingerprint


# --- care -------------------------------------------------------------------------------------------------------------


def keyed(idempotency_key: str) -> None: ...


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        (step(keyed, **options_of("keyed", "confirm")), []),
        (step(keyed, **options_of("action_key", "confirm")), []),
        (step(keyed, **options_of("amount", "confirm")), ["its confirm takes neither the step's result nor a key"]),
        (step(keyed, **options_of("amount", "confirm", careless=True)), []),
        (step(keyed, **options_of("amount", "check")), []),
        (step(keyed, **options_of("", "check")), ["its check takes nothing"]),
        (step("keyless", **options_of("amount", "check")), ["its task takes no idempotency_key"]),
        (step("keyless"), []),
    ],
)
def test_a_step_is_warned_of_where_a_phase_cannot_tell_what_it_is_about(subject: Step, words: list[str]):
    warnings = Definition(subject).builder.ground.warnings
    assert all(isinstance(warning, CarelessStep) for warning in warnings)
    assert [word for word, warning in zip(words, warnings, strict=True) if word not in str(warning)] == []


# --- what a check answers ---------------------------------------------------------------------------------------------


def test_the_result_that_a_check_tells_is_stored_as_the_action_declares_it():
    assert read_evidence(Happened(Decimal("1.50")), Decimal, 1000) == Happened("1.50")
    assert read_evidence(Happened(), Decimal, 1000) == Happened(None)
    assert read_evidence(DidNotHappen(), Decimal, 1000) == DidNotHappen()


@pytest.mark.parametrize("answer", [None, True, "happened", Happened, DidNotHappen])
def test_a_check_that_answers_anything_else_fails(answer: Any):
    with pytest.raises(ResultError, match="a check returns Happened"):
        read_evidence(answer, Any, 1000)


def test_a_result_of_another_type_fails_the_check():
    with pytest.raises(ResultError, match="not the Decimal"):
        read_evidence(Happened("much"), Decimal, 1000)


def test_evidence_is_a_value():
    assert Happened(1) == Happened(1) != Happened(2)
    assert DidNotHappen() == DidNotHappen()
    with pytest.raises(AttributeError):
        Happened(1).result = 2  # type: ignore[misc]


def test_not_yet_says_when_to_ask_again_and_passes_between_processes():
    error = NotYet(after=timedelta(minutes=5))
    assert error.after == timedelta(minutes=5)
    assert "not yet" in str(error)
    said = pickle.loads(pickle.dumps(NotYet("the bank settles tomorrow", after=timedelta(days=1))))
    assert (str(said), said.after) == ("the bank settles tomorrow", timedelta(days=1))
    assert not isinstance(error, (ResultError,))


@pytest.mark.parametrize("after", [5, None, -timedelta(1), "soon"])
def test_not_yet_wants_a_time_to_come(after: Any):
    with pytest.raises(TypeError, match="expected a timedelta from now on"):
        NotYet(after=after)
