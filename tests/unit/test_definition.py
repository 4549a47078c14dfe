"""A definition is checked when it is built: each error names the saga, the step and the remedy."""

from __future__ import annotations

import json
import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from celery import Task, shared_task
from pydantic import BaseModel
from tenacity import stop_after_attempt
from typing_extensions import TypedDict

from saga.core.outline import Fork, Outline
from saga.errors import CorruptLog, DefinitionError
from saga.language.definition import Parallel, Saga, Step
from saga.language.retry import Retry
from tests.conftest import shown

from .helpers import app, fork, outline_of, step, task_of


@task_of
def reserve(): ...


@task_of
def release(): ...


@task_of
def charge(): ...


@task_of
def refund(): ...


@task_of
def confirm(): ...


@task_of
def notify(): ...


def plain_function(): ...


async def send_later(): ...


def nothing_to_undo(task: Any, **options: Any) -> Step:
    return Step(task, compensate=None, **options)


def refused(build: Callable[[], Any]) -> str:
    """The text of the error that a definition is refused with."""
    with pytest.raises(DefinitionError) as caught:
        build()
    return str(caught.value)


# --- what a definition is ---------------------------------------------------------------------------------------------


def test_a_definition_names_its_steps_after_their_functions():
    assert list(Saga("place_order", nothing_to_undo(reserve), nothing_to_undo(charge)).outline.steps) == [
        "reserve",
        "charge",
    ]


def test_a_name_of_its_own_wins_over_the_functions():
    assert list(Saga("place_order", nothing_to_undo(reserve, name="reservation")).outline.steps) == ["reservation"]


def test_one_task_may_serve_two_steps_under_two_names():
    saga = Saga("place_order", nothing_to_undo(reserve, name="first"), nothing_to_undo(reserve, name="second"))
    assert [job.task for job in saga.actions.values()] == ["shop.reserve", "shop.reserve"]


def test_a_shared_task_is_a_task():
    @shared_task(name="shared.reserve")
    def reserve_shared(): ...

    saga = Saga("place_order", Step(reserve_shared, compensate=reserve_shared))
    assert saga.actions["reserve_shared"].task == saga.undos["reserve_shared"].task == "shared.reserve"


def test_a_class_based_task_is_named_after_its_class():
    class ReserveStock(Task):
        name = "shop.reserve_stock"

        def run(self, sku: str) -> str: ...

    saga = Saga("place_order", nothing_to_undo(app.register_task(ReserveStock())))
    assert list(saga.outline.steps) == ["ReserveStock"]
    assert saga.required_fields == {"sku": "ReserveStock"}


def test_a_bound_task_is_not_asked_for_self():
    def reserve_bound(self, sku: str) -> str: ...

    saga = Saga("place_order", nothing_to_undo(task_of(reserve_bound, bind=True)))
    assert saga.required_fields == {"sku": "reserve_bound"}


def test_a_task_that_retries_by_itself_still_shows_its_own_parameters():
    def reserve_again(self, sku: str) -> str: ...

    task = task_of(reserve_again, bind=True, autoretry_for=(ValueError,), retry_kwargs={"max_retries": 2})
    saga = Saga("place_order", nothing_to_undo(task))
    assert saga.required_fields == {"sku": "reserve_again"}
    assert saga.actions["reserve_again"].returns is str


def test_a_bare_list_in_a_parallel_is_a_sequence():
    saga = Saga(
        "place_order",
        Parallel([nothing_to_undo(reserve), nothing_to_undo(charge)], nothing_to_undo(confirm)),
    )
    (item,) = saga.outline.main.items
    assert isinstance(item, Fork)
    assert [lane.name for lane in item.lanes] == ["main/reserve", "main/confirm"]
    assert [step.name for step in item.lanes[0].steps()] == ["reserve", "charge"]


def test_a_parallel_may_stand_in_a_parallel():
    inner = Parallel(nothing_to_undo(reserve), nothing_to_undo(charge))
    saga = Saga("place_order", Parallel(inner, nothing_to_undo(confirm)))
    assert {name: step.lane for name, step in saga.outline.steps.items()} == {
        "reserve": "main/reserve/reserve",
        "charge": "main/reserve/charge",
        "confirm": "main/confirm",
    }


def test_a_step_keeps_its_options():
    saga = Saga(
        "place_order",
        Step(
            reserve,
            compensate=release,
            retry=Retry.none(),
            timeout=timedelta(seconds=30),
            queue="stock",
            priority=7,
            transactional=True,
        ),
    )
    action, undo = saga.job("reserve", undo=False), saga.job("reserve", undo=True)
    assert (action.task, action.timeout, action.queue, action.priority) == ("shop.reserve", 30.0, "stock", 7)
    assert (undo.task, undo.timeout, undo.queue, undo.priority) == ("shop.release", 30.0, "stock", 7)
    assert action.transactional
    assert undo.transactional
    assert list(saga.jobs()) == [action, undo]


def test_an_undo_may_have_a_timeout_of_its_own():
    saga = Saga("place_order", Step(reserve, compensate=release, compensate_timeout=timedelta(minutes=1)))
    assert saga.actions["reserve"].timeout == 300
    assert saga.undos["reserve"].timeout == 60


def waits_for_days(retry: Retry) -> bool:
    return retry.next_wait(ValueError(), 1000, 3600 * 23) is not None


def test_actions_are_tried_three_times_and_undos_for_a_day():
    saga = Saga("place_order", Step(reserve, compensate=release))
    assert saga.actions["reserve"].retry.next_wait(ValueError(), 2, 0) is not None
    assert saga.actions["reserve"].retry.next_wait(ValueError(), 3, 0) is None
    assert waits_for_days(saga.undos["reserve"].retry)


def test_steps_after_the_pivot_persist_unless_they_say_otherwise():
    saga = Saga(
        "place_order",
        Step(confirm, pivot=True),
        Step(notify),
        Parallel(Step(reserve), Step(charge, retry=Retry.none())),
    )
    assert not waits_for_days(saga.actions["confirm"].retry)
    assert waits_for_days(saga.actions["notify"].retry)
    assert waits_for_days(saga.actions["reserve"].retry)
    assert saga.actions["charge"].retry.next_wait(ValueError(), 1, 0) is None


def test_a_definition_shows_itself_by_its_name_and_steps():
    assert repr(Saga("place_order", nothing_to_undo(reserve))) == "<Saga place_order: reserve>"


def test_only_the_steps_after_the_pivot_are_after_it():
    saga = Saga(
        "place_order",
        Parallel(nothing_to_undo(reserve), nothing_to_undo(charge)),
        Step(confirm, pivot=True),
        Step(notify),
    )
    assert {name: step.after_pivot for name, step in saga.outline.steps.items()} == {
        "reserve": False,
        "charge": False,
        "confirm": False,
        "notify": True,
    }


# --- what is refused --------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "a saga without steps": (
        lambda: Saga("place_order"),
        ["'place_order'", "empty", "at least one Step"],
    ),
    "a saga without a name": (lambda: Saga("", nothing_to_undo(reserve)), ["name"]),
    "a saga whose name is its first step": (lambda: Saga(nothing_to_undo(reserve)), ["first argument", "name"]),  # type: ignore[arg-type]
    "an empty parallel": (
        lambda: Saga("place_order", nothing_to_undo(reserve), Parallel()),
        ["'place_order'", "Parallel after 'reserve'", "empty", "drop it"],
    ),
    "an empty branch": (
        lambda: Saga("place_order", nothing_to_undo(reserve), Parallel([], nothing_to_undo(charge))),
        ["'place_order'", "branch", "after 'reserve'", "empty", "at least one Step"],
    ),
    "a list outside a parallel": (
        lambda: Saga("place_order", [nothing_to_undo(reserve)]),  # type: ignore[arg-type]
        ["'place_order'", "inside a Parallel"],
    ),
    "a task without a step": (
        lambda: Saga("place_order", reserve),
        ["'place_order'", "expected a Step", "Step(reserve)"],
    ),
    "two steps of one name": (
        lambda: Saga("place_order", nothing_to_undo(reserve), Parallel(nothing_to_undo(reserve))),
        ["'place_order'", "'reserve'", "two steps", "name="],
    ),
    "a step named by a reserved word": (
        lambda: Saga("place_order", nothing_to_undo(reserve, name="error")),
        ["'place_order'", "'error'", "reserved", "name="],
    ),
    "a step named like the main lane": (
        lambda: Saga("place_order", nothing_to_undo(reserve, name="main")),
        ["'main'", "reserved"],
    ),
    "a step named like the deadline's lane": (
        lambda: Saga("place_order", nothing_to_undo(reserve, name="deadline")),
        ["'deadline'", "reserved"],
    ),
    "a step whose name holds a slash": (
        lambda: Saga("place_order", nothing_to_undo(reserve, name="a/b")),
        ["'a/b'", "'/'", "name="],
    ),
    "a step whose name holds a dot": (
        lambda: Saga("place_order", nothing_to_undo(reserve, name="a.b")),
        ["'a.b'", "'.'", "name="],
    ),
    "a step whose name is empty": (lambda: Saga("place_order", nothing_to_undo(reserve, name="")), ["empty", "name="]),
    "a step whose name is no text": (
        lambda: Saga("place_order", nothing_to_undo(reserve, name=5)),
        ["'place_order'", "5", "name="],
    ),
    "a saga whose name holds a NUL": (lambda: Saga("a\x00", nothing_to_undo(reserve)), ["name", "NUL"]),
    "a step whose name holds a NUL": (
        lambda: Saga("place_order", nothing_to_undo(reserve, name="a\x00b")),
        ["'place_order'", "'a\\x00b'", "NUL", "name="],
    ),
    "a timeout of a century": (
        lambda: Saga("place_order", nothing_to_undo(reserve, timeout=timedelta.max)),
        ["'reserve'", "timeout=", "ten years at most"],
    ),
    "two pivots": (
        lambda: Saga("place_order", Step(reserve, pivot=True), Step(charge, pivot=True)),
        ["'place_order'", "'charge'", "second pivot", "'reserve'", "one at most"],
    ),
    "a pivot in a parallel": (
        lambda: Saga("place_order", Parallel(Step(reserve, pivot=True), nothing_to_undo(charge))),
        ["'place_order'", "'reserve'", "pivot", "inside a Parallel", "move it"],
    ),
    "a pivot deep in a parallel": (
        lambda: Saga("place_order", Parallel([nothing_to_undo(charge), Parallel([Step(reserve, pivot=True)])])),
        ["'reserve'", "inside a Parallel"],
    ),
    "a compensation at the pivot": (
        lambda: Saga("place_order", Step(confirm, pivot=True, compensate=release)),
        ["'place_order'", "'confirm'", "the pivot", "drop compensate="],
    ),
    "a compensation after the pivot": (
        lambda: Saga("place_order", Step(confirm, pivot=True), Step(notify, compensate=release)),
        ["'place_order'", "'notify'", "after the pivot 'confirm'", "drop compensate="],
    ),
    "a compensation in a parallel after the pivot": (
        lambda: Saga("place_order", Step(confirm, pivot=True), Parallel(Step(notify, compensate=release))),
        ["'notify'", "after the pivot 'confirm'"],
    ),
    "no word of a compensation before the pivot": (
        lambda: Saga("place_order", Step(reserve), Step(confirm, pivot=True)),
        ["'place_order'", "'reserve'", "how to undo it", "compensate=None"],
    ),
    "no word of a compensation where there is no pivot": (
        lambda: Saga("place_order", Step(reserve)),
        ["'place_order'", "'reserve'", "how to undo it"],
    ),
    "a compensate_bind without a compensation": (
        lambda: Saga("place_order", Step(reserve, compensate=None, compensate_bind={"a": "b"})),
        ["'place_order'", "'reserve'", "compensate_bind", "no compensation"],
    ),
    "a task that is none": (
        lambda: Saga("place_order", nothing_to_undo(plain_function)),
        ["'place_order'", "'plain_function'", "not a Celery task", "@app.task"],
    ),
    "a compensation that is no task": (
        lambda: Saga("place_order", Step(reserve, compensate=plain_function)),  # type: ignore[arg-type]
        ["'place_order'", "'reserve'", "compensate=plain_function", "not a Celery task", "@app.task"],
    ),
    "a compensation that is the name of a task": (
        lambda: Saga("place_order", Step(reserve, compensate="shop.release")),  # type: ignore[arg-type]
        ["'place_order'", "'reserve'", "compensate='shop.release'", "not a Celery task"],
    ),
    "a task class that was not registered": (
        lambda: Saga("place_order", nothing_to_undo(Task)),
        ["'place_order'", "not a Celery task"],
    ),
    "an async def": (
        lambda: Saga("place_order", nothing_to_undo(task_of(send_later))),
        ["'place_order'", "'send_later'", "async def", "plain def"],
    ),
    "a retry that is a number": (
        lambda: Saga("place_order", nothing_to_undo(reserve, retry=3)),
        ["'place_order'", "'reserve'", "retry=3", "expected a Retry"],
    ),
    "a retry that is zero": (
        lambda: Saga("place_order", nothing_to_undo(reserve, retry=0)),
        ["'reserve'", "retry=0", "expected a Retry"],
    ),
    "a compensate_retry that is a strategy": (
        lambda: Saga("place_order", Step(reserve, compensate=release, compensate_retry=stop_after_attempt(2))),  # type: ignore[arg-type]
        ["'place_order'", "'reserve'", "compensate_retry=", "expected a Retry"],
    ),
    "a compensate_retry that is None": (
        lambda: Saga("place_order", Step(reserve, compensate=release, compensate_retry=None)),  # type: ignore[arg-type]
        ["'place_order'", "'reserve'", "compensate_retry=None", "expected a Retry"],
    ),
    "a signature": (
        lambda: Saga("place_order", nothing_to_undo(reserve.s())),
        ["'place_order'", "task=shop.reserve()", "is a signature, not a Celery task", "without .s()"],
    ),
    "a signature of a compensation": (
        lambda: Saga("place_order", Step(reserve, compensate=release.s())),
        ["'place_order'", "'reserve'", "compensate=shop.release()", "not a Celery task", "without .s()"],
    ),
    "the name of a task": (
        lambda: Saga("place_order", nothing_to_undo("shop.reserve")),
        ["'place_order'", "task='shop.reserve' is not a Celery task", "@app.task"],
    ),
    "a pivot that is a text": (
        lambda: Saga("place_order", nothing_to_undo(reserve, pivot="no")),
        ["'place_order', step 'reserve'", "pivot='no' expected True or False"],
    ),
    "a transactional that is a number": (
        lambda: Saga("place_order", nothing_to_undo(reserve, transactional=1)),
        ["'place_order', step 'reserve'", "transactional=1 expected True or False"],
    ),
    "a queue that is a number": (
        lambda: Saga("place_order", nothing_to_undo(reserve, queue=5)),
        ["'place_order', step 'reserve'", "queue=5 expected the name of a queue"],
    ),
    "a queue without a name": (
        lambda: Saga("place_order", nothing_to_undo(reserve, queue="")),
        ["'place_order', step 'reserve'", "queue='' expected the name of a queue"],
    ),
    "a priority that is too high": (
        lambda: Saga("place_order", nothing_to_undo(reserve, priority=256)),
        ["'place_order', step 'reserve'", "priority=256 expected a whole number from 0 to 255"],
    ),
    "a priority that is a truth": (
        lambda: Saga("place_order", nothing_to_undo(reserve, priority=True)),
        ["'place_order', step 'reserve'", "priority=True expected a whole number from 0 to 255"],
    ),
    "a bind that is a list": (
        lambda: Saga("place_order", nothing_to_undo(reserve, bind=["x"])),
        ["'place_order', step 'reserve'", "bind=['x'] expected a mapping of parameters to sources"],
    ),
    "a bind whose parameter is a number": (
        lambda: Saga("place_order", nothing_to_undo(reserve, bind={1: "input.x"})),
        ["'place_order', step 'reserve'", "expected a mapping of parameters to sources"],
    ),
    "a timeout in seconds": (
        lambda: Saga("place_order", nothing_to_undo(reserve, timeout=30)),
        ["'place_order'", "'reserve'", "timeout=30", "timedelta(seconds=30)"],
    ),
    "a timeout of nothing": (
        lambda: Saga("place_order", nothing_to_undo(reserve, timeout=timedelta(0))),
        ["'reserve'", "timeout=", "positive"],
    ),
    "no timeout": (
        lambda: Saga("place_order", nothing_to_undo(reserve, timeout=None)),
        ["'reserve'", "timeout=None", "positive"],
    ),
    "a negative timeout of an undo": (
        lambda: Saga("place_order", Step(reserve, compensate=release, compensate_timeout=timedelta(seconds=-1))),
        ["'reserve'", "compensate_timeout=", "positive"],
    ),
    "a timeout of nothing of an undo": (
        lambda: Saga("place_order", Step(reserve, compensate=release, compensate_timeout=timedelta(0))),
        ["'reserve'", "compensate_timeout=", "positive"],
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_definition_is_refused_for(what: str):
    build, words = REFUSED[what]
    text = refused(build)
    assert [word for word in words if word not in text] == [], text


class OrderModel(BaseModel):
    sku: str
    error: str = ""


class OrderWithReserve(BaseModel):
    reserve: int


@dataclass
class OrderRecord:
    sku: str


class OrderDict(TypedDict):
    sku: str


def test_a_step_may_not_be_named_like_a_field_of_the_input():
    text = refused(lambda: Saga("place_order", nothing_to_undo(reserve), input=OrderWithReserve))
    assert "'place_order', step 'reserve'" in text
    assert "the input has a field of the same name; rename the step with name=" in text


def test_an_input_field_may_not_be_a_reserved_word():
    text = refused(lambda: Saga("place_order", nothing_to_undo(reserve), input=OrderModel))
    assert text == "saga 'place_order': input field 'error' is a reserved word; rename the field"


@pytest.mark.parametrize("input", [dict, int, "Order", OrderRecord("A1")])
def test_an_input_is_a_model_a_dataclass_or_a_typed_dictionary(input: Any):
    text = refused(lambda: Saga("place_order", nothing_to_undo(reserve), input=input))
    assert "expected a pydantic model, a dataclass or a TypedDict" in text


@pytest.mark.parametrize("input", [OrderWithReserve, OrderRecord, OrderDict])
def test_each_kind_of_input_type_serves(input: Any):
    assert Saga("place_order", nothing_to_undo(charge), input=input).input is input


class Opaque:
    """Nothing pydantic knows how to store."""


@dataclass
class OpaqueOrder:
    handle: Opaque


@dataclass
class UnfinishedOrder:
    handle: Missing  # type: ignore[name-defined]  # noqa: F821


def test_an_input_that_cannot_be_stored_is_refused():
    text = refused(lambda: Saga("place_order", nothing_to_undo(charge), input=OpaqueOrder))
    assert "saga 'place_order': the input has a type that cannot be stored as JSON" in text


class UnfinishedDict(TypedDict):
    handle: Missing  # type: ignore[name-defined]  # noqa: F821


class OldDict(typing.TypedDict):
    sku: str


def test_a_typed_dictionary_of_the_standard_library_serves():
    saga = Saga("place_order", nothing_to_undo(charge), input=OldDict)
    assert saga.input is OldDict


def test_a_typed_dictionary_whose_annotations_cannot_be_resolved_is_refused():
    text = refused(lambda: Saga("place_order", nothing_to_undo(charge), input=UnfinishedDict))
    assert "saga 'place_order': an annotation of the input cannot be resolved (name 'Missing' is not defined)" in text


def test_an_input_whose_annotations_cannot_be_resolved_is_refused():
    assert "saga 'place_order'" in refused(lambda: Saga("place_order", nothing_to_undo(charge), input=UnfinishedOrder))


# --- the outline ------------------------------------------------------------------------------------------------------


def order_saga(**changes: Any) -> Saga:
    said: dict[str, Any] = {"name": "place_order", "step": "reserve", "task": reserve, "compensate": release,
                            "pivot": True, "transactional": False}  # fmt: skip
    said |= changes
    options = {key: said[key] for key in ("retry", "timeout", "queue", "priority", "compensate_retry") if key in said}
    steps = [
        Step(
            said["task"],
            name=said["step"],
            compensate=said["compensate"],
            transactional=said["transactional"],
            **options,
        ),
        Step(charge, compensate=refund),
        Step(confirm, pivot=True) if said["pivot"] else nothing_to_undo(confirm),
    ]
    if said.get("swapped"):
        steps[0], steps[1] = steps[1], steps[0]
    if said.get("parallel"):
        steps[:2] = [Parallel(*steps[:2])]  # type: ignore[list-item]
    return Saga(said["name"], *steps)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "take_order"},
        {"step": "reservation"},
        {"task": notify},
        {"compensate": notify},
        {"compensate": None},
        {"pivot": False},
        {"transactional": True},
        {"swapped": True},
        {"parallel": True},
    ],
    ids=shown,
)
def test_the_fingerprint_changes_with_the_structure(change: dict[str, Any]):
    assert order_saga(**change).outline.fingerprint != order_saga().outline.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"retry": Retry.forever()},
        {"compensate_retry": Retry.none()},
        {"timeout": timedelta(seconds=1)},
        {"queue": "stock"},
        {"priority": 9},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_fingerprint_never_changes_with_a_policy(change: dict[str, Any]):
    assert order_saga(**change).outline.fingerprint == order_saga().outline.fingerprint


def test_an_outline_survives_its_way_through_json():
    outline = Saga(
        "place_order",
        Step(reserve, compensate=release, transactional=True),
        Parallel([Step(charge, compensate=refund), nothing_to_undo(notify)], nothing_to_undo(reserve, name="again")),
        Step(confirm, pivot=True),
    ).outline
    stored = Outline.from_json(json.loads(json.dumps(outline.to_json())))
    assert stored.fingerprint == outline.fingerprint
    assert stored.main == outline.main
    assert dict(stored.steps) == dict(outline.steps)
    assert stored.name == "place_order"
    assert stored.outline is stored


@pytest.mark.parametrize(
    "doc",
    [
        None,
        [],
        "place_order",
        {},
        {"saga": "place_order"},
        {"saga": "place_order", "steps": None},
        {"saga": "place_order", "steps": ["reserve"]},
        {"saga": "place_order", "steps": [{"task": "t"}]},
        {"saga": "place_order", "steps": [{"step": "reserve"}]},
        {"saga": "place_order", "steps": [{"parallel": [[]]}]},
    ],
    ids=shown,
)
def test_a_damaged_outline_is_refused(doc: Any):
    with pytest.raises(CorruptLog, match="a stored definition cannot be read"):
        Outline.from_json(doc)


def test_equal_outlines_have_no_difference():
    assert outline_of("a", fork("b", "c")).difference(outline_of("a", fork("b", "c"))) == ""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (["a", "b"], ["a"], "step 'b' is gone"),
        (["a"], ["a", "b"], "step 'b' is new"),
        (["a", "b"], ["b", "a"], "the order of the steps is another"),
        (["a", "b"], ["a", "c"], "step 'b' is gone; step 'c' is new"),
        (["a"], [step("a", undo=False)], "step 'a' has compensate None instead of 'undo_a'"),
        (["a"], [step("a", transactional=True)], "step 'a' has transactional True instead of False"),
        (
            [step("a", undo=False)],
            [step("a", pivot=True)],
            "step 'a' has pivot True instead of False",
        ),
        (["a", "b"], ["a", fork("b")], "step 'b' has lane 'main/b' instead of 'main'"),
        (["a"], [step("a") | {"task": "do_it"}], "step 'a' has task 'do_it' instead of 'do_a'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_difference_is_told_step_by_step(old: list[Any], new: list[Any], said: str):
    assert outline_of(*old).difference(outline_of(*new)) == said


def test_a_difference_tells_more_than_one_change():
    said = outline_of("a", "b").difference(outline_of(step("a", undo=False, transactional=True), "c"))
    assert said.split("; ") == [
        "step 'a' has compensate None instead of 'undo_a'",
        "step 'a' has transactional True instead of False",
        "step 'b' is gone",
        "step 'c' is new",
    ]


# --- definitions are values -------------------------------------------------------------------------------------------


def value_of(**options: Any) -> Saga:
    return Saga(
        "place_order",
        Step(reserve, compensate=release, **options),
        Parallel(Step(charge, compensate=refund, bind={}), [nothing_to_undo(notify)]),
    )


def test_definitions_that_are_made_alike_are_equal():
    assert value_of() == value_of()
    assert {value_of(), value_of()} == {value_of()}
    assert value_of().items == value_of().items
    assert hash(value_of().items) == hash(value_of().items)


@pytest.mark.parametrize(
    "options",
    [{"queue": "slow"}, {"timeout": timedelta(seconds=3)}, {"retry": Retry.none()}, {"transactional": True}],
    ids=lambda options: next(iter(options)),
)
def test_definitions_that_differ_in_anything_are_not_equal(options: dict[str, Any]):
    assert value_of(**options) == value_of(**options)
    assert value_of() != value_of(**options)
    assert value_of() != "place_order"


@pytest.mark.parametrize("what", [value_of(), Parallel(nothing_to_undo(reserve)), nothing_to_undo(reserve)], ids=type)
@pytest.mark.parametrize("name", ["name", "branches", "task", "anything"])
def test_a_definition_cannot_be_changed(what: Any, name: str):
    with pytest.raises((AttributeError, TypeError)):
        setattr(what, name, None)
    with pytest.raises((AttributeError, TypeError)):
        delattr(what, name)


def test_what_a_definition_was_made_of_can_be_changed_without_changing_it():
    bind, branch = {}, [nothing_to_undo(reserve)]
    step, parallel = nothing_to_undo(reserve, bind=bind), Parallel(branch)
    bind["sku"] = "input.sku"
    branch.clear()
    assert step.bind == {}
    assert parallel == Parallel([nothing_to_undo(reserve)])
    with pytest.raises(TypeError):
        value_of().actions["other"] = None  # type: ignore[index]


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_in_place_of_a_step_is_refused_with_the_names_of_its_steps(kind: Any):
    text = refused(lambda: Saga("place_order", kind([nothing_to_undo(reserve), nothing_to_undo(charge)])))
    assert f"expected a Step or a Parallel, got a {kind.__name__} of 'reserve', 'charge'; a list forms a branch" in text
