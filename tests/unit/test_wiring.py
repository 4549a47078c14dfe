"""Arguments are bound by name: what a parameter may name, and what is refused with the closest name there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NewType
from uuid import UUID

import pytest
from celery import shared_task
from pydantic import BaseModel
from typing_extensions import TypedDict

from saga.errors import DefinitionError
from saga.language.definition import Parallel, Saga, Step, Value
from saga.language.wiring import RESERVED, Source, fields_of

from .helpers import task_of


class Customer(BaseModel):
    email: str
    number: int


class Order(BaseModel):
    sku: str
    quantity: int
    customer: Customer
    coupon: str | None = None


@dataclass
class OrderRecord:
    sku: str
    quantity: int
    customer: Customer


class OrderDict(TypedDict):
    sku: str
    quantity: int
    customer: Customer


@dataclass
class Payment:
    number: str
    amount: int


@task_of
def charge_card() -> Payment: ...


@task_of
def untyped(): ...


def wires(saga: Saga, step: str, *, undo: bool = False) -> dict[str, Source]:
    """Parameter to source."""
    return {wire.parameter: wire.source for wire in saga.job(step, undo).wires}


def saga_with(run: Callable[..., Any], *, input: Any = None, before: tuple[Any, ...] = (), **options: Any) -> Saga:
    """``place_order`` with one step named ``subject`` that does nothing else than want its arguments."""
    options = {"compensate": None} | options
    return Saga("place_order", *before, Step(task_of(run), name="subject", **options), input=input)


def saga_undoing(run: Callable[..., Any], *, action: Any = charge_card, input: Any = None, **options: Any) -> Saga:
    """The same for a compensation, of a step named ``payment``."""
    return Saga("place_order", Step(action, name="payment", compensate=task_of(run), **options), input=input)


def refused(build: Callable[[], Any]) -> str:
    with pytest.raises(DefinitionError) as caught:
        build()
    return str(caught.value)


def wanting(parameter: str) -> Callable[..., Any]:
    """A function with that one parameter."""
    found: dict[str, Any] = {"__name__": __name__}
    exec(f"def ship({parameter}): ...", found)
    return found["ship"]


PAYMENT = Step(charge_card, name="payment", compensate=None)


# --- by name ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("input", [Order, OrderRecord, OrderDict, None])
def test_a_parameter_names_an_input_field(input: Any):
    def pick(sku, quantity): ...

    assert wires(saga_with(pick, input=input), "subject") == {
        "sku": Source("input", path=("sku",)),
        "quantity": Source("input", path=("quantity",)),
    }


def test_a_parameter_names_an_earlier_step():
    def ship(payment): ...

    saga = saga_with(ship, input=Order, before=(PAYMENT,))
    assert wires(saga, "subject") == {"payment": Source("step", "payment")}


def test_a_parameter_after_a_parallel_names_a_step_in_a_branch_of_it():
    def ship(payment): ...

    saga = saga_with(ship, before=(Parallel([PAYMENT], Step(untyped, compensate=None)),))
    assert wires(saga, "subject") == {"payment": Source("step", "payment")}


def test_a_compensation_may_name_its_own_step():
    def refund(payment, quantity): ...

    assert wires(saga_undoing(refund, input=Order), "payment", undo=True) == {
        "payment": Source("step", "payment"),
        "quantity": Source("input", path=("quantity",)),
    }


def test_a_compensation_may_name_an_earlier_step_and_the_reserved_words():
    def cancel(first, error, result, action_key, idempotency_key, input): ...

    saga = Saga(
        "place_order",
        Step(untyped, name="first", compensate=None),
        Step(charge_card, name="payment", compensate=task_of(cancel)),
    )
    found = wires(saga, "payment", undo=True)
    assert found.pop("first") == Source("step", "first")
    assert found == {name: Source("reserved", name) for name in found}


def test_an_action_gets_its_keys_and_the_whole_input():
    def ship(input: Order, idempotency_key: str, action_key: str): ...

    saga = saga_with(ship, input=Order)
    assert wires(saga, "subject") == {
        name: Source("reserved", name) for name in ("input", "idempotency_key", "action_key")
    }


def test_a_transactional_step_and_its_undo_may_take_a_connection_or_a_session():
    def write(connection): ...
    def erase(session): ...

    saga = saga_with(write, compensate=task_of(erase), transactional=True)
    assert wires(saga, "subject") == {"connection": Source("reserved", "connection")}
    assert wires(saga, "subject", undo=True) == {"session": Source("reserved", "session")}


def test_a_parameter_with_a_default_may_stay_unprovided():
    def ship(sku, colour="red", error=None, session=None): ...

    assert set(wires(saga_with(ship, input=Order), "subject")) == {"sku"}


def test_a_parameter_with_a_default_is_given_what_has_its_name():
    def ship(sku="", payment=None): ...

    saga = saga_with(ship, input=Order, before=(PAYMENT,))
    assert set(wires(saga, "subject")) == {"sku", "payment"}
    assert all(wire.optional for wire in saga.actions["subject"].wires)


def test_a_parameter_with_a_default_ignores_a_step_that_is_not_over():
    def ship(subject=None): ...

    assert wires(saga_with(ship), "subject") == {}


def test_keyword_only_parameters_are_bound_and_further_keywords_are_not():
    def ship(*, sku, **others): ...

    assert set(wires(saga_with(ship, input=Order), "subject")) == {"sku"}


def test_a_shared_tasks_parameters_are_read():
    @shared_task(name="shared.ship")
    def ship(sku: str): ...

    saga = Saga("place_order", Step(ship, compensate=None), input=Order)
    (wire,) = saga.actions["ship"].wires
    assert (wire.parameter, wire.annotation) == ("sku", str)


def test_what_an_untyped_input_must_hold_is_known_with_the_step_that_needs_it():
    def ship(sku, colour="red"): ...
    def recall(reason): ...

    saga = saga_with(ship, compensate=task_of(recall))
    assert saga.required_fields == {"sku": "subject", "reason": "subject"}


def test_a_typed_input_says_itself_what_it_must_hold():
    def ship(sku): ...

    assert saga_with(ship, input=Order).required_fields == {}


# --- by bind ----------------------------------------------------------------------------------------------------------


def test_bind_renames():
    def mail(to, about, text, whole, first): ...

    saga = saga_with(
        mail,
        input=Order,
        before=(PAYMENT,),
        bind={
            "to": "input.customer.email",
            "about": "payment",
            "text": "payment.number",
            "whole": "input",
            "first": "idempotency_key",
        },
    )
    assert wires(saga, "subject") == {
        "to": Source("input", path=("customer", "email")),
        "about": Source("step", "payment"),
        "text": Source("step", "payment", ("number",)),
        "whole": Source("reserved", "input"),
        "first": Source("reserved", "idempotency_key"),
    }


def test_bind_fixes_a_constant():
    def mail(kind): ...

    assert wires(saga_with(mail, bind={"kind": Value("sold")}), "subject") == {"kind": Source("constant", value="sold")}


def test_bind_wins_over_the_name():
    def mail(sku): ...

    saga = saga_with(mail, input=Order, bind={"sku": Value("B2")})
    assert wires(saga, "subject") == {"sku": Source("constant", value="B2")}


def test_bind_reaches_into_a_step_whose_type_is_not_known():
    def mail(to): ...

    saga = saga_with(mail, before=(Step(untyped, compensate=None),), bind={"to": "untyped.any.thing"})
    assert wires(saga, "subject") == {"to": Source("step", "untyped", ("any", "thing"))}


def test_compensate_bind_is_for_the_undo():
    def refund(number, why): ...

    saga = saga_undoing(refund, compensate_bind={"number": "payment.number", "why": "error"})
    assert wires(saga, "payment", undo=True) == {
        "number": Source("step", "payment", ("number",)),
        "why": Source("reserved", "error"),
    }


def test_a_bound_field_of_an_untyped_input_is_required():
    def mail(to): ...

    assert saga_with(mail, bind={"to": "input.customer.email"}).required_fields == {"customer": "subject"}


# --- what is refused --------------------------------------------------------------------------------------------------


def test_an_unknown_name_is_refused_with_the_closest_one():
    def ship(quantty): ...

    text = refused(lambda: saga_with(ship, input=Order))
    assert text.startswith("saga 'place_order', step 'subject': nothing provides parameter 'quantty'")
    assert "did you mean 'quantity'?" in text
    assert "default" in text
    assert "bind=" in text


def test_an_unknown_name_may_be_close_to_a_step_or_a_reserved_word():
    def ship(paiment): ...
    def send(idempotence_key): ...

    assert "did you mean 'payment'?" in refused(lambda: saga_with(ship, input=Order, before=(PAYMENT,)))
    assert "did you mean 'idempotency_key'?" in refused(lambda: saga_with(send, input=Order))


def test_an_unknown_name_far_from_all_is_refused_without_a_guess():
    def ship(zzz): ...

    assert "did you mean" not in refused(lambda: saga_with(ship, input=Order))


def test_a_compensation_whose_parameter_nothing_provides_is_refused():
    def refund(pament): ...

    text = refused(lambda: saga_undoing(refund, input=Order))
    assert text.startswith("saga 'place_order', step 'payment', its compensation: nothing provides parameter 'pament'")
    assert "did you mean 'payment'?" in text


@pytest.mark.parametrize("input", [Order, None])
def test_a_later_step_cannot_be_named(input: Any):
    def ship(payment): ...

    text = refused(
        lambda: Saga("place_order", Step(task_of(ship), name="shipping", compensate=None), PAYMENT, input=input)
    )
    assert "saga 'place_order', step 'shipping': parameter 'payment' names a step that is not over by then" in text
    assert "give the parameter a default" in text


@pytest.mark.parametrize("input", [Order, None])
def test_a_step_of_another_branch_cannot_be_named(input: Any):
    def ship(payment): ...

    text = refused(
        lambda: Saga(
            "place_order",
            Parallel(PAYMENT, Step(task_of(ship), name="shipping", compensate=None)),
            input=input,
        )
    )
    assert "in another branch" in text
    assert "'shipping'" in text


def test_a_step_cannot_name_itself():
    def ship(subject): ...

    assert "names a step that is not over by then" in refused(lambda: saga_with(ship))


@pytest.mark.parametrize("undo_knows", ["later", "other"])
def test_a_compensation_cannot_name_a_step_that_came_after_its_own(undo_knows: str):
    def first_undo(later): ...
    def second_undo(other): ...

    undo = task_of(first_undo if undo_knows == "later" else second_undo)
    text = refused(
        lambda: Saga(
            "place_order",
            Parallel(
                Step(charge_card, name="payment", compensate=undo),
                Step(untyped, name="other", compensate=None),
            ),
            Step(untyped, name="later", compensate=None),
        )
    )
    assert f"its compensation: parameter {undo_knows!r} names a step that is not over by then" in text


@pytest.mark.parametrize("word", ["error", "result"])
def test_only_a_compensation_gets(word: str):
    text = refused(lambda: saga_with(wanting(word)))
    assert f"parameter {word!r} cannot be provided: {word!r} is for compensations only" in text


@pytest.mark.parametrize("word", ["connection", "session"])
def test_only_a_transactional_step_gets(word: str):
    text = refused(lambda: saga_with(wanting(word)))
    assert f"{word!r} is for steps with transactional=True only" in text


@pytest.mark.parametrize("target", ["error", "session"])
def test_bind_gives_no_reserved_word_out_of_its_place(target: str):
    def ship(what=None): ...

    assert f"{target!r} is for" in refused(lambda: saga_with(ship, bind={"what": target}))


def test_star_args_are_refused():
    def ship(*parcels): ...

    text = refused(lambda: saga_with(ship))
    assert "'subject': shop.ship takes *parcels, but arguments are bound by name; give it a plain name" in text


def test_positional_only_parameters_are_refused():
    def ship(sku, /): ...

    assert "the positional-only parameter 'sku'" in refused(lambda: saga_with(ship))


def test_a_compensation_with_star_args_is_refused():
    def refund(*payments): ...

    assert "shop.refund takes *payments" in refused(lambda: saga_undoing(refund))


def test_an_async_compensation_is_refused():
    async def refund(): ...

    assert "shop.refund is an async def" in refused(lambda: saga_undoing(refund))


def test_an_async_generator_is_refused():
    async def ship():
        yield 1

    assert "async def" in refused(lambda: saga_with(ship))


def test_bind_of_an_unknown_parameter_is_refused_with_the_closest_one():
    def mail(recipient): ...

    text = refused(lambda: saga_with(mail, bind={"recepient": "input.email", "recipient": "input.email"}))
    assert "step 'subject': bind names 'recepient', but the task has no such parameter" in text
    assert "did you mean 'recipient'?" in text


def test_compensate_bind_of_an_unknown_parameter_is_refused():
    def refund(number): ...

    text = refused(lambda: saga_undoing(refund, compensate_bind={"nummber": "payment.number"}))
    assert "its compensation: bind names 'nummber'" in text
    assert "did you mean 'number'?" in text


def test_bind_to_an_unknown_field_is_refused_with_the_closest_one():
    def mail(to): ...

    text = refused(lambda: saga_with(mail, input=Order, bind={"to": "input.custommer"}))
    assert "bind={'to': 'input.custommer'}: the input has no field 'custommer'; did you mean 'customer'?" in text


def test_bind_to_an_unknown_field_of_a_field_is_refused():
    def mail(to): ...

    text = refused(lambda: saga_with(mail, input=Order, bind={"to": "input.customer.mail"}))
    assert "Customer has no field 'mail'; did you mean 'email'?" in text


def test_bind_to_an_unknown_field_of_a_step_is_refused():
    def mail(to): ...

    text = refused(lambda: saga_with(mail, before=(PAYMENT,), bind={"to": "payment.nummer"}))
    assert "Payment has no field 'nummer'; did you mean 'number'?" in text


def test_bind_to_an_unknown_step_is_refused_with_what_was_perhaps_meant():
    def mail(to): ...

    text = refused(lambda: saga_with(mail, before=(PAYMENT,), bind={"to": "paymnet"}))
    assert "names no earlier step; did you mean 'payment'?" in text
    assert "'input.paymnet'" in text
    assert "Value('paymnet')" in text


def test_bind_to_a_later_step_is_refused():
    def mail(to): ...

    text = refused(
        lambda: Saga(
            "place_order", Step(task_of(mail), name="mailing", compensate=None, bind={"to": "payment"}), PAYMENT
        )
    )
    assert "saga 'place_order', step 'mailing'" in text
    assert "names no earlier step" in text


def test_a_bare_constant_in_bind_is_refused_with_how_to_write_it():
    def mail(number): ...

    text = refused(lambda: saga_with(mail, bind={"number": 5}))
    assert "bind={'number': 5} expected" in text
    assert "for a constant write Value(5)" in text


class Opaque:
    """Nothing pydantic knows how to store."""


def test_a_parameter_whose_type_cannot_be_read_back_is_refused():
    def ship(sku: Opaque): ...

    text = refused(lambda: saga_with(ship))
    assert "saga 'place_order', step 'subject': parameter 'sku' has a type that cannot be stored as JSON" in text


def test_a_result_whose_type_cannot_be_stored_is_refused():
    def ship() -> Opaque: ...

    text = refused(lambda: saga_with(ship))
    assert "step 'subject': the result of shop.ship has a type that cannot be stored as JSON" in text


def test_a_connection_may_be_annotated_with_its_class():
    def write(connection: Opaque): ...

    saga_with(write, transactional=True)


def test_an_unprovided_parameter_may_have_any_type():
    def ship(helper: Opaque | None = None): ...

    assert wires(saga_with(ship, input=Order), "subject") == {}


@pytest.mark.parametrize("annotation", ["Missing", "dataclass.Missing", "not an expression"])
def test_an_annotation_that_cannot_be_resolved_is_refused(annotation: str):
    def ship(sku): ...

    ship.__annotations__ = {"sku": annotation}
    text = refused(lambda: saga_with(ship))
    assert "saga 'place_order', step 'subject': an annotation of shop.ship cannot be resolved" in text


@dataclass
class Unfinished:
    number: Missing  # type: ignore[name-defined]  # noqa: F821


@dataclass
class Misspelt:
    number: dataclass.Missing  # type: ignore[name-defined]


@pytest.mark.parametrize("annotation", [Unfinished, Misspelt, list[Unfinished]], ids=str)
def test_a_type_with_an_annotation_that_cannot_be_resolved_is_refused(annotation: Any):
    def ship(sku): ...

    for name in ("sku", "return"):
        ship.__annotations__ = {name: annotation}
        text = refused(lambda: saga_with(ship))
        assert text.startswith("saga 'place_order', step 'subject': ")
        assert "cannot be resolved" in text
        assert "Missing" in text


@pytest.mark.parametrize("target", ["input.", "input..email", ".email", "payment.", "", "."])
def test_bind_with_an_empty_part_is_refused(target: str):
    def mail(to): ...

    text = refused(lambda: saga_with(mail, before=(PAYMENT,), bind={"to": target}))
    assert f"step 'subject': bind={{'to': {target!r}}} has an empty part; expected 'input.field'" in text


def test_every_reserved_word_is_refused_as_a_steps_name():
    for word in RESERVED:
        text = refused(lambda word=word: Saga("place_order", Step(untyped, name=word, compensate=None)))
        assert f"step {word!r}: its name is a reserved word" in text


def test_the_fields_of_each_kind_of_type_are_known():
    assert fields_of(Order) == {"sku": str, "quantity": int, "customer": Customer, "coupon": str | None}
    assert fields_of(OrderRecord) == {"sku": str, "quantity": int, "customer": Customer}
    assert fields_of(OrderDict) == {"sku": str, "quantity": int, "customer": Customer}
    assert fields_of(dict[str, int]) is None
    assert fields_of(OrderRecord("A1", 1, Customer(email="", number=1))) is None


@pytest.mark.parametrize("word", ["error", "idempotency_key", "action_key"])
@pytest.mark.parametrize("annotation", [Exception, int, UUID, list[str], int | None], ids=str)
def test_a_word_that_is_a_text_cannot_be_wanted_as_anything_else(word: str, annotation: Any):
    def cancel(subject): ...

    cancel.__annotations__["subject"] = annotation
    text = refused(lambda: saga_undoing(cancel, compensate_bind={"subject": word}))
    assert f"parameter 'subject': `{word}` is a text: annotate it str" in text


@pytest.mark.parametrize(
    "annotation", [str, str | None, Annotated[str, "why"], Any, object, NewType("Key", str)], ids=str
)
def test_a_word_that_is_a_text_may_be_wanted_as_one(annotation: Any):
    def cancel(error): ...

    cancel.__annotations__["error"] = annotation
    assert saga_undoing(cancel)
