"""The input is checked when a saga starts; arguments come back as the types that were declared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, NotRequired
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, SecretStr, field_validator
from typing_extensions import TypedDict

from saga.errors import InputError
from saga.language.binding import BindingError, Values, arguments, read_input
from saga.language.codec import encode
from saga.language.definition import Saga, Step, Value

from .helpers import task_of

LIMIT = 10_000
ID = UUID("018f3b1e-0000-7000-8000-000000000001")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Colour(Enum):
    RED = "red"


class Customer(BaseModel):
    email: str
    vip: bool = False


class Order(BaseModel):
    sku: str
    price: Decimal
    customer: Customer
    placed: datetime = NOON
    colour: Colour | None = None


@dataclass
class OrderRecord:
    sku: str
    price: Decimal
    quantity: int = 1


class OrderDict(TypedDict):
    sku: str
    price: Decimal


class OpenOrder(TypedDict):
    sku: str
    coupon: NotRequired[str]


@dataclass
class Payment:
    id: UUID
    amount: Decimal
    at: datetime
    customer: Customer | None = None


PAYMENT = Payment(ID, Decimal("19.90"), NOON, Customer(email="a@b.c"))
GIVEN = {"sku": "A1", "price": "19.90", "customer": {"email": "a@b.c"}}


@task_of
def pay() -> Payment: ...


@task_of
def pay_untyped(): ...


def saga_of(run: Callable[..., Any], *, input: Any = None, action: Any = pay, **options: Any) -> Saga:
    """``payment``, then ``subject``, which wants the arguments."""
    return Saga(
        "place_order",
        Step(action, name="payment", compensate=None),
        Step(task_of(run), name="subject", **({"compensate": None} | options)),
        input=input,
    )


def given_to(
    run: Callable[..., Any],
    *,
    results: dict[str, Any] | None = None,
    given: Any = None,
    reserved: dict[str, Any] | None = None,
    undo: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """What a function's task is called with."""
    if undo:
        options["compensate"] = task_of(run)
        saga = saga_of(lambda_free, **options)
    else:
        saga = saga_of(run, **options)
    stored = read_input(saga, given, LIMIT).stored if given is not None else {}
    return arguments(saga, saga.job("subject", undo), Values(stored, results or {}, reserved or {}))


def lambda_free(): ...


STORED = encode(PAYMENT, Payment)


# --- the input --------------------------------------------------------------------------------------------------------


def test_an_input_is_stored_with_its_defaults_and_kept_as_it_was_given():
    def ship(): ...

    found = read_input(saga_of(ship, input=Order), GIVEN, LIMIT)
    assert found.original == GIVEN
    assert found.stored == {
        "sku": "A1",
        "price": "19.90",
        "customer": {"email": "a@b.c", "vip": False},
        "placed": "2026-01-01T12:00:00Z",
        "colour": None,
    }


@pytest.mark.parametrize(
    ("input", "given"),
    [
        (Order, Order(**GIVEN)),
        (OrderRecord, OrderRecord("A1", Decimal("19.90"))),
        (OrderRecord, {"sku": "A1", "price": "19.90"}),
        (OrderDict, {"sku": "A1", "price": Decimal("19.90")}),
    ],
    ids=["model", "dataclass", "mapping", "typed dictionary"],
)
def test_an_input_may_be_given_as_its_type_or_as_a_mapping(input: Any, given: Any):
    def ship(sku, price): ...

    assert given_to(ship, input=input, given=given) == {"sku": "A1", "price": Decimal("19.90")}


def test_an_untyped_input_is_stored_as_it_is():
    def ship(sku, price: Decimal): ...

    saga = saga_of(ship)
    found = read_input(saga, {"sku": "A1", "price": Decimal("1.5"), "more": [1]}, LIMIT)
    assert found.stored == found.original == {"sku": "A1", "price": "1.5", "more": [1]}
    values = Values(found.stored, {}, {})
    assert arguments(saga, saga.actions["subject"], values) == {"sku": "A1", "price": Decimal("1.5")}


def test_no_input_is_an_empty_one():
    def ship(): ...

    assert read_input(saga_of(ship), None, LIMIT).stored == {}


def refused(run: Callable[..., Any], given: Any, input: Any = None, limit: int = LIMIT, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_input(saga_of(run, input=input, **options), given, limit)
    return str(caught.value)


def ship(): ...


def test_an_input_with_a_wrong_field_is_refused_and_the_field_named():
    text = refused(ship, GIVEN | {"price": "much", "customer": {}}, Order)
    assert text.startswith("saga 'place_order': the input does not fit Order: ")
    assert "price: " in text
    assert "customer.email: Field required" in text
    assert "much" not in text


def test_no_input_where_one_is_wanted_is_refused():
    assert "sku: Field required" in refused(ship, None, Order)


def test_an_untyped_input_without_a_wanted_field_is_refused_with_the_step():
    def ship(sku): ...

    assert refused(ship, {}) == "saga 'place_order': the input has no field 'sku', which step 'subject' needs"


def test_an_untyped_input_lacks_what_only_a_compensation_wants():
    def recall(reason): ...

    assert "no field 'reason', which step 'subject' needs" in refused(ship, {}, compensate=task_of(recall))


@pytest.mark.parametrize("given", [[1], "text", 5, True])
def test_an_input_that_is_no_mapping_is_refused(given: Any):
    assert "expected a mapping of field names to values as input, got " + type(given).__name__ in refused(ship, given)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "cannot be stored"),
        ("a\x00", "NUL character"),
        ("\ud800", "surrogate"),
        (float("nan"), "cannot be stored"),
        ("x" * 20_000, "saga_max_payload = 10,000"),
    ],
    ids=["object", "NUL", "surrogate", "NaN", "oversize"],
)
@pytest.mark.parametrize("input", [None, OpenOrder, OrderRecord])
def test_an_input_that_cannot_be_stored_is_refused(value: Any, said: str, input: Any):
    text = refused(ship, {"sku": value, "price": 1}, None if input is OpenOrder else input)
    assert text.startswith("saga 'place_order': ")
    assert said in text or "does not fit" in text
    assert "xxx" not in text


def test_a_field_that_may_be_missing_is_wanted_when_the_saga_starts_not_when_the_step_runs():
    def ship(coupon): ...

    assert "the input has no field 'coupon', which step 'subject' needs" in refused(ship, {"sku": "A1"}, OpenOrder)
    saga = saga_of(ship, input=OpenOrder)
    assert read_input(saga, {"sku": "A1", "coupon": "C"}, LIMIT).stored == {"sku": "A1", "coupon": "C"}


def test_a_field_that_may_be_missing_may_be_missing_where_there_is_a_default():
    def ship(coupon="none"): ...

    assert given_to(ship, input=OpenOrder, given={"sku": "A1"}) == {}


class Login(BaseModel):
    user: str
    password: SecretStr


def test_an_input_that_holds_a_secret_is_refused_and_the_secret_not_shown():
    text = refused(ship, {"user": "ann", "password": "hunter2"}, Login)
    assert "it holds a secret" in text
    assert "hunter2" not in text


# --- arguments --------------------------------------------------------------------------------------------------------


def test_an_argument_comes_as_the_type_that_its_parameter_declares():
    def ship(sku: str, price: Decimal, placed: datetime, customer: Customer, colour: Colour | None): ...

    assert given_to(ship, input=Order, given=GIVEN | {"colour": "red"}) == {
        "sku": "A1",
        "price": Decimal("19.90"),
        "placed": NOON,
        "customer": Customer(email="a@b.c"),
        "colour": Colour.RED,
    }


def test_an_argument_without_an_annotation_comes_as_the_type_that_the_input_declares():
    def ship(price, customer): ...

    assert given_to(ship, input=Order, given=GIVEN) == {
        "price": Decimal("19.90"),
        "customer": Customer(email="a@b.c"),
    }


def test_a_result_comes_as_the_type_that_its_producer_declares():
    def ship(payment): ...

    assert given_to(ship, results={"payment": STORED}) == {"payment": PAYMENT}


def test_a_result_comes_as_the_type_that_its_consumer_declares():
    def ship(payment: Payment): ...
    def count(payment: dict[str, Any]): ...

    assert given_to(ship, action=pay_untyped, results={"payment": STORED}) == {"payment": PAYMENT}
    assert given_to(count, results={"payment": STORED}) == {"payment": STORED}


def test_a_result_that_neither_declares_comes_as_json():
    def ship(payment): ...

    assert given_to(ship, action=pay_untyped, results={"payment": STORED}) == {"payment": STORED}


def test_a_field_of_a_result_comes_typed():
    def ship(amount, email, number: UUID): ...

    bind = {"amount": "payment.amount", "email": "payment.customer.email", "number": "payment.id"}
    assert given_to(ship, bind=bind, results={"payment": STORED}) == {
        "amount": Decimal("19.90"),
        "email": "a@b.c",
        "number": ID,
    }


def test_a_field_of_the_input_comes_typed():
    def ship(to, vip: bool): ...

    bind = {"to": "input.customer.email", "vip": "input.customer.vip"}
    assert given_to(ship, bind=bind, input=Order, given=GIVEN) == {"to": "a@b.c", "vip": False}


def test_the_whole_input_comes_as_its_type():
    def ship(input): ...

    assert given_to(ship, input=Order, given=GIVEN) == {"input": Order(**GIVEN)}


class Aliased(BaseModel):
    sku: str = Field(alias="itemSku")


def test_an_input_with_an_alias_comes_back_as_its_type():
    def ship(input, sku): ...

    assert given_to(ship, input=Aliased, given={"itemSku": "A1"}) == {"input": Aliased(itemSku="A1"), "sku": "A1"}


def test_a_constant_comes_as_it_is():
    def ship(kind, when: datetime): ...

    marker = object()
    assert given_to(ship, bind={"kind": Value(marker), "when": Value(NOON)}) == {"kind": marker, "when": NOON}


def test_reserved_words_come_as_they_are():
    def ship(idempotency_key: str, action_key: str): ...

    keys = {"idempotency_key": "1/ship", "action_key": "1/ship"}
    assert given_to(ship, reserved=keys) == keys


def test_a_step_of_unknown_outcome_has_none_as_its_result():
    def ship(payment: Payment, amount: Decimal): ...

    assert given_to(ship, bind={"amount": "payment.amount"}) == {"payment": None, "amount": None}


def test_none_is_a_result_even_where_the_type_does_not_allow_it():
    def ship(payment: Payment): ...

    assert given_to(ship, results={"payment": None}) == {"payment": None}


def test_a_compensation_gets_its_own_result_typed_or_none():
    def recall(result: Payment | None, error: str): ...

    reserved = {"result": STORED, "error": "declined"}
    assert given_to(recall, undo=True, reserved=reserved) == {"result": PAYMENT, "error": "declined"}
    reserved["result"] = None
    assert given_to(recall, undo=True, reserved=reserved) == {"result": None, "error": "declined"}


def test_a_compensation_gets_its_own_result_typed_as_its_action_declares_it():
    def recall(result): ...

    saga = Saga("place_order", Step(pay, name="payment", compensate=task_of(recall)))
    values = Values({}, {"payment": STORED}, {"result": STORED})
    assert arguments(saga, saga.undos["payment"], values) == {"result": PAYMENT}


def test_a_default_stands_in_for_a_field_that_is_missing():
    def ship(coupon="none", discount: int = 0): ...

    assert given_to(ship, given={"sku": "A1"}) == {}
    assert given_to(ship, given={"coupon": "C", "discount": 5}) == {"coupon": "C", "discount": 5}


def test_a_missing_field_without_a_default_is_an_error_that_names_parameter_and_task():
    def ship(to): ...

    with pytest.raises(BindingError, match=r"parameter 'to' of shop\.ship: there is no value for it"):
        given_to(ship, action=pay_untyped, bind={"to": "payment.email"}, results={"payment": {}})


class Card(BaseModel):
    kind: Literal["visa"]
    number: str = Field(max_length=4)


class Cash(BaseModel):
    kind: Literal["cash"]


class Fussy(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def check(cls, value: int) -> int:
        if value:
            raise ValueError("not that one")
        return value


SECRET = "4111-secret-4111"


@pytest.mark.parametrize(
    ("annotation", "stored"),
    [
        (int, SECRET),
        (Decimal, SECRET),
        (datetime, SECRET),
        (UUID, SECRET),
        (Colour, SECRET),
        (Literal["a"], SECRET),
        (Card, {"kind": "visa", "number": SECRET}),
        (Card | Cash, {"kind": SECRET}),
        (list[int], [SECRET]),
        (Payment, {"id": SECRET, "amount": SECRET, "at": SECRET}),
        (Fussy, {"number": 4111}),
    ],
    ids=str,
)
def test_a_binding_error_names_the_parameter_and_never_shows_the_value(annotation: Any, stored: Any):
    def ship(payment): ...

    ship.__annotations__ = {"payment": annotation}
    with pytest.raises(BindingError) as caught:
        given_to(ship, action=pay_untyped, results={"payment": stored})
    text = str(caught.value)
    assert text.startswith("parameter 'payment' of shop.ship: the stored value does not fit: ")
    assert "4111" not in text
    assert caught.value.__cause__ is None


# --- an input without a type ------------------------------------------------------------------------------------------


def test_a_mistyped_field_of_an_untyped_input_is_refused_with_the_step():
    def ship(sku: str, quantity: int): ...

    text = refused(ship, {"sku": "A1", "quantity": "lots"})
    assert text.startswith("saga 'place_order': the input does not fit: 'quantity', which step 'subject' takes: ")
    assert "lots" not in text


def test_a_mistyped_field_that_only_a_compensation_takes_is_refused():
    def recall(reason: int): ...

    assert "'reason', which step 'subject' takes: " in refused(ship, {"reason": "why"}, compensate=task_of(recall))


def test_a_mistyped_part_of_a_field_is_refused_and_a_missing_one_too():
    def ship(to: int): ...

    bind = {"to": "input.customer.number"}
    assert "'customer.number', which step 'subject' takes: " in refused(ship, {"customer": {"number": "x"}}, bind=bind)
    assert "takes: there is no 'number' in it" in refused(ship, {"customer": {}}, bind=bind)


def test_a_whole_input_that_a_step_wants_as_a_model_is_checked():
    def ship(input: Customer): ...

    assert "'input', which step 'subject' takes: email: Field required" in refused(ship, {"vip": True})


def test_a_field_that_a_step_can_do_without_may_be_missing_but_not_mistyped():
    def ship(quantity: int = 1): ...

    assert read_input(saga_of(ship), {}, LIMIT).stored == {}
    assert "'quantity', which step 'subject' takes" in refused(ship, {"quantity": "lots"})


def test_a_field_that_fits_is_stored_as_it_was_given():
    def ship(price: Decimal, when: datetime | None, sku): ...

    given = {"price": "1.50", "when": None, "sku": 5, "more": 1}
    assert read_input(saga_of(ship), given, LIMIT).stored == given


def test_a_field_of_the_name_of_a_step_is_refused():
    assert refused(ship, {"subject": 1}) == (
        "saga 'place_order': the input has a field of the same name as step 'subject'; rename one of them"
    )


def test_an_input_that_holds_a_set_is_stored_and_compared_in_one_order():
    def ship(codes: set[str]): ...

    found = read_input(saga_of(ship), {"codes": {"c", "a", "b"}}, LIMIT)
    assert found.stored == found.original == {"codes": ["a", "b", "c"]}
