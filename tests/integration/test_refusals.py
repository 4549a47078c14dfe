"""What becomes of a saga when a task that knows nothing of sagas refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

from saga import Abort, Cause, Orchestrator, Saga, Step
from saga.client.handle import Handle
from saga.worker.performers.plain import Performer
from tests.integration.conftest import Bench, always, never

app = Celery("refusals", broker="memory://", set_as_current=False)
_does: list[Callable[[Any], Any]] = []


class InsufficientFunds(ValueError):
    """What an existing task raises."""


@app.task(shared=False, bind=True, throws=(InsufficientFunds,))
def debit(self: Any, idempotency_key: str) -> str:
    return str(_does.pop(0)(self))


@app.task(shared=False)
def credit(action_key: str) -> None: ...


@app.task(shared=False)
def count(idempotency_key: str) -> int:
    return _does.pop(0)(None)


@app.task(shared=False)
def discount(count: int | None, action_key: str) -> int:
    return _does.pop(0)(None)


SAGAS = [
    Saga("counted", Step(count, compensate=discount), Step(debit, pivot=True, abort_on=InsufficientFunds)),
    Saga("listed", Step(debit, compensate=credit, abort_on=InsufficientFunds)),
    Saga("asked", Step(debit, compensate=credit, abort_on=lambda error: "funds" in str(error))),
    Saga("thrown", Step(debit, compensate=credit), throws_abort=True),
    Saga("unsaid", Step(debit, compensate=credit)),
    Saga("pivot", Step(debit, pivot=True, abort_on=InsufficientFunds)),
]


@pytest.fixture
def bank(database_url: str) -> Iterator[Bench]:
    own = Celery("refusals", broker="memory://", set_as_current=False)
    for task in (debit, credit, count, discount):
        own.tasks.register(app.tasks[task.name])
    orchestrator = Orchestrator(own, sagas=SAGAS, database_url=database_url)
    published: list[Any] = []
    orchestrator.engine.publish = published.extend
    _does.clear()
    yield Bench(orchestrator, database_url.replace("+psycopg", ""), published)
    orchestrator.close()


def attempt(bank: Bench, name: str, *does: Callable[[Any], Any]) -> Handle:
    """Run a saga through attempts that do these things."""
    handle = bank.orchestrator.start(name, {})
    worker = bank.worker()
    performer = Performer(bank.orchestrator.app, 1_000_000, never)
    _does[:] = does
    run = bank.claimed(handle, worker=worker)
    while _does:
        following = worker.record(run, performer.perform(run, None), always)
        run = following and (worker.wake(following) if following.held is not None else following)
        assert run or not _does
    return handle


def refuses(task: Any) -> None:
    raise InsufficientFunds("insufficient funds")


def refuses_by_retry(task: Any) -> None:
    task.retry(exc=InsufficientFunds("insufficient funds"))


def breaks(task: Any) -> None:
    raise ConnectionError("reset")


@pytest.mark.parametrize("how", [refuses, refuses_by_retry])
@pytest.mark.parametrize("name", ["listed", "asked", "thrown", "pivot"])
def test_a_refusal_of_an_existing_task_is_an_abort_with_its_own_type_and_text(
    bank: Bench, name: str, how: Callable[[Any], Any]
) -> None:
    state = attempt(bank, name, how).replay()
    assert state.status == "compensated"
    assert state.steps["debit"].status == "aborted"
    assert state.steps["debit"].attempts == 1
    assert state.steps["debit"].undo is None
    assert state.cause == Cause("InsufficientFunds", "insufficient funds", step="debit")


def test_the_same_exception_of_a_step_that_says_nothing_is_tried_again(bank: Bench) -> None:
    state = attempt(bank, "unsaid", refuses).replay()
    assert state.status == "running"
    assert state.steps["debit"].attempts == 2


def test_a_refusal_after_an_attempt_that_may_have_had_its_effect_is_undone(bank: Bench) -> None:
    state = attempt(bank, "listed", breaks, refuses).replay()
    assert state.steps["debit"].status == "unknown"
    assert state.status == "compensating"
    assert state.steps["debit"].undo is not None


def test_a_refusal_is_no_error_in_celerys_log_and_is_asked_about_once(
    bank: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[Exception] = []
    saga = Saga("counting", Step(count, compensate=discount, abort_on=lambda error: asked.append(error) or True))
    bank.orchestrator.register(saga)
    with caplog.at_level("INFO", "celery.app.trace"):
        attempt(bank, "counting", refuses)
        levels = [record.levelname for record in caplog.records if "InsufficientFunds" in record.getMessage()]
        assert levels == ["INFO"]
        attempt(bank, "counting", breaks)
    assert len(asked) == 2


class Declined(ValueError):
    """As many libraries' errors, it cannot be pickled: its arguments are not those it is made with."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code


class Closed(Abort):
    """The same, of an ``Abort``."""

    def __init__(self, text: str, shop: int) -> None:
        super().__init__(f"{text}: {shop}")


@pytest.mark.parametrize("error", [Declined("by the bank", "51"), Closed("shop", 7)], ids=["refusal", "abort"])
def test_a_refusal_that_cannot_be_pickled_is_no_error_in_celerys_log(
    bank: Bench, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    saga = Saga("coded", Step(count, compensate=discount, abort_on=lambda error: error.code == "51"))
    bank.orchestrator.register(saga)

    def declines(_: Any) -> None:
        raise error

    with caplog.at_level("INFO"):
        handle = attempt(bank, "coded", declines)

    assert [record.levelname for record in caplog.records if record.name == "celery.app.trace"] == ["INFO"]
    assert handle.replay().steps["count"].status == "aborted"


def test_a_task_that_has_run_as_a_step_still_tells_its_own_refusals(bank: Bench) -> None:
    attempt(bank, "thrown", refuses)
    again = Saga("again", Step(debit, compensate=credit), throws_abort=True)
    refusal = again.actions["debit"].refusal
    assert refusal is not None
    assert InsufficientFunds() in refusal
    assert ConnectionError() not in refusal


def test_any_other_exception_is_no_refusal(bank: Bench) -> None:
    for name in ("listed", "asked", "thrown"):
        assert attempt(bank, name, breaks).replay().steps["debit"].attempts == 2


def promises_a_number(task: Any) -> Any:
    return "seven"


def test_a_result_that_is_not_what_the_task_declares_is_undone_and_not_stored(bank: Bench) -> None:
    state = attempt(bank, "counted", promises_a_number).replay()
    assert state.status == "compensating"
    step = state.steps["count"]
    assert (step.status, step.attempts, step.result) == ("unknown", 1, None)
    assert step.error_type == "ResultError"
    assert "the task returned a str, which is not the int that it declares" in str(step.error)
    assert "seven" not in str(step.error)


def test_what_an_undo_returns_is_used_by_nobody_and_fails_it_not(bank: Bench) -> None:
    handle = attempt(bank, "counted", promises_a_number, promises_a_number)
    assert handle.status == "compensated"
