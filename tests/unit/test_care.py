"""Steps that cannot tell a repeated attempt from the first, and undos that cannot tell what there is to undo."""

from __future__ import annotations

import importlib
import pickle
import sys
import warnings
from typing import Any

import pytest

import saga
from saga.errors import CarelessStep
from saga.language.definition import Parallel, Saga, Step

from .helpers import task_of


@task_of
def keyed(idempotency_key: str) -> str: ...


@task_of
def keyless(sku: str) -> str: ...


@task_of
def undo_by_result(done: str | None) -> None: ...


@task_of
def undo_by_word(result: str | None) -> None: ...


@task_of
def undo_by_key(action_key: str) -> None: ...


@task_of
def undo_blindly(sku: str) -> None: ...


def warned(*items: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        built = Saga("shop", *items)
    assert [str(warning) for warning in built.warnings] == [str(each.message) for each in found]
    assert all(each.category is CarelessStep and each.filename == __file__ for each in found)
    return [str(each.message) for each in found]


@pytest.mark.parametrize("undo", [undo_by_result, undo_by_word, undo_by_key])
def test_a_step_with_a_key_whose_undo_takes_its_result_or_a_key_is_careful(undo: Any) -> None:
    assert warned(Step(keyed, name="done", compensate=undo)) == []


def test_a_step_with_an_effect_that_takes_no_key_is_warned_of() -> None:
    (text,) = warned(Step(keyless, name="done", compensate=undo_by_result))
    assert text.startswith("saga 'shop', step 'done': its task takes no idempotency_key")
    assert "careless=True" in text


def test_an_undo_that_takes_neither_result_nor_key_is_warned_of() -> None:
    (text,) = warned(Step(keyed, name="done", compensate=undo_blindly))
    assert "its undo takes neither the step's result nor a key" in text
    assert "saga.current()" in text


def test_a_step_deep_in_a_parallel_is_warned_of_too() -> None:
    assert len(warned(Parallel([Step(keyless, name="done", compensate=undo_blindly)]))) == 2


def test_a_key_or_result_under_another_name_counts() -> None:
    @task_of
    def act(request: str) -> str: ...

    @task_of
    def revoke(number: str | None) -> None: ...

    careful = Step(act, name="done", bind={"request": "idempotency_key"},
                   compensate=revoke, compensate_bind={"number": "done.id"})  # fmt: skip
    assert warned(careful) == []


@pytest.mark.parametrize(
    "step",
    [
        Step(keyless, compensate=undo_blindly, careless=True),
        Step(keyless, compensate=None),
        Step(keyless, pivot=True),
        Step(keyless, compensate=undo_blindly, transactional=True),
    ],
    ids=["it is meant", "nothing to undo", "the pivot", "exactly once"],
)
def test_a_step_is_not_warned_of_where_it_is_meant_or_needs_no_care(step: Step) -> None:
    assert warned(step) == []


def test_a_warning_can_be_filtered_by_its_class_and_passed_between_processes() -> None:
    (warning,) = Saga("shop", Step(keyless, name="done", compensate=undo_by_result)).warnings
    assert isinstance(warning, saga.DefinitionWarning)
    assert str(pickle.loads(pickle.dumps(warning))) == str(warning)


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_careless_is_true_or_false(value: Any) -> None:
    with pytest.raises(saga.DefinitionError, match="careless="):
        Saga("shop", Step(keyed, name="done", compensate=undo_by_key, careless=value))


@pytest.mark.parametrize("module", ["examples.shop.app", "examples.transfer", "examples.trip", "bench.app"])
def test_what_we_show_to_others_warns_of_nothing(module: str) -> None:
    found = importlib.import_module(module)
    sagas = [each for each in vars(sys.modules[found.__name__]).values() if isinstance(each, Saga)]
    assert sagas
    assert [warning for each in sagas for warning in each.warnings] == []
