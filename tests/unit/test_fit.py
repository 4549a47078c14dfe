"""Types between steps: what never fits is refused when the saga is built, what may not fit is warned of."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pytest
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError
from typing_extensions import TypedDict

from saga import DefinitionError, DoubtfulType
from saga.errors import ResultError
from saga.language.codec import decode, encode, result_json
from saga.language.definition import Saga, Step
from saga.language.fit import Fit, fit

from .helpers import task_of


@dataclass
class Payment:
    id: str
    amount: Decimal


@dataclass
class Receipt:
    id: str
    amount: Decimal
    note: str = ""


class Charge(BaseModel):
    id: int
    parent: Charge | None = None


class Coded(BaseModel):
    id: str = Field(validation_alias="number")


class Ticket(TypedDict):
    id: str


class Pair(NamedTuple):
    x: int
    y: int


class Colour(Enum):
    RED = "red"


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


class Noted(BaseModel):
    note: str


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str


class Lenient(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)
    id: str


SAMPLES: list[tuple[Any, list[Any]]] = [
    (str, ["", "7", "red", "2026-01-01", "x", "true", "7.5"]),
    (int, [0, 1, 7, 10**12]),
    (float, [0.0, 1.0, 7.25]),
    (bool, [True, False]),
    (Decimal, [Decimal("7"), Decimal("7.50")]),
    (UUID, [UUID(int=7)]),
    (datetime, [datetime(2026, 1, 1, 12, 30, tzinfo=UTC)]),
    (date, [date(2026, 1, 1)]),
    (timedelta, [timedelta(seconds=90)]),
    (bytes, [b"7"]),
    (Colour, [Colour.RED]),
    (Literal["red", "blue"], ["red", "blue"]),
    (Literal["green"], ["green"]),
    (list[int], [[], [7]]),
    (list[str], [[], ["x"]]),
    (set[int], [set(), {7}]),
    (tuple[int, int], [(1, 2)]),
    (Pair, [Pair(1, 2)]),
    (dict[str, int], [{}, {"id": 7}]),
    (dict[str, Any], [{}, {"id": "x", "amount": 1}]),
    (Payment, [Payment("x", Decimal("7"))]),
    (Receipt, [Receipt("x", Decimal("7"), "thanks")]),
    (Charge, [Charge(id=7), Charge(id=7, parent=Charge(id=8))]),
    (Coded, [Coded(number="x")]),
    (Ticket, [{"id": "x"}]),
    (Loose, [Loose(name="x", id=7)]),
    (Noted, [Noted(note="x")]),
    (Lenient, [Lenient(id="x")]),
    (Closed, [Closed(id="x")]),
    (str | int, ["x", 7]),
    (Payment | None, [Payment("x", Decimal("7"))]),
    (Annotated[int, AfterValidator(abs)], [7]),
    (Annotated[int, BeforeValidator(len)], [7]),
    (Annotated[Decimal, PlainSerializer(float)], [Decimal("7.5")]),
    (Any, [1, "x", {}]),
]


def reads(value: Any, source: Any, target: Any) -> bool:
    try:
        decode(encode(value, source), target)
    except (ValidationError, TypeError):  # the latter by a validator of the type's own
        return False
    return True


@pytest.mark.parametrize(("source", "values"), SAMPLES, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_said_of_two_types_is_what_pydantic_does_with_their_values(source: Any, values: list[Any]) -> None:
    for target, _ in SAMPLES:
        found = fit(source, (), target)
        works = [reads(value, source, target) for value in values]
        assert found is not Fit.NEVER or not any(works), (source, target)
        assert found is not Fit.ALWAYS or _says_nothing(source, target) or all(works), (source, target)


def _says_nothing(source: Any, target: Any) -> bool:
    """Where a value, not a type, decides, and a text is the usual way to write it, or the type has code of its own."""
    texts = (Decimal, UUID, datetime, date, timedelta, bytes, Colour, Literal["red", "blue"], Literal["green"])
    code = (Annotated[int, BeforeValidator(len)], Annotated[Decimal, PlainSerializer(float)], Coded)
    loose = (list[int], set[int], tuple[int, int], Pair)
    by_text = target in texts and (source in (str, bytes, str | int, *texts))
    sized = target in (tuple[int, int], Pair) and source in loose
    return by_text or sized or target in code or source in code or Any in (source, target) or source == dict[str, Any]


NEVER = [
    (Payment, int), (int, str), (float, str), (bool, str), (int, Payment), (str, Payment), (list[int], int),
    (int, list[int]), (UUID, int), (Literal["green"], Colour), (Noted, Payment), (datetime, float), (Payment, Closed), (bool, Decimal), (tuple[int, int, int], Pair), (dict[str, int], str),
    (Payment | None, int), (tuple[int, int], Payment), (Charge, str),
]  # fmt: skip
PERHAPS = [
    (str, int), (float, int), (int, bool), (str, bool), (str, float), (str | int, int), (int | Payment, int),
    (list[str], list[int]), (int, datetime), (Decimal, int), (datetime, date), (dict[str, int], Payment), (type(None), int),
    (Charge, Lenient), (list[int], Pair), (dict[str, str], dict[str, int]),
]  # fmt: skip
ALWAYS = [
    (int, float), (bool, int), (str, Decimal), (str, UUID), (str, datetime), (str, Colour), (int, Decimal), (Decimal, float),
    (Payment, Receipt), (Receipt, Payment), (Payment, dict[str, Any]), (date, datetime), (int, int | None), (int | None, int),
    (set[int], list[int]), (Ticket, Lenient), (Any, int), (Payment, Any), (Payment, object), (int, str | int),
    (Payment, Coded), (Payment, Annotated[int, BeforeValidator(len)]), (type(None), int | None), (Charge, Charge),
]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [(*pair, expected) for pairs, expected in ((NEVER, Fit.NEVER), (PERHAPS, Fit.PERHAPS), (ALWAYS, Fit.ALWAYS)) for pair in pairs],
)  # fmt: skip
def test_a_type_fits_another_always_perhaps_or_never(source: Any, target: Any, expected: Fit) -> None:
    assert fit(source, (), target) is expected


# --- in a saga --------------------------------------------------------------------------------------------------------


def returning(kind: Any) -> Any:
    def pay(idempotency_key: str): ...

    pay.__annotations__["return"] = kind
    return task_of(pay)


def taking(kind: Any) -> Any:
    def ship(payment): ...

    ship.__annotations__["payment"] = kind
    return task_of(ship)


def built(given: Any, taken: Any, **options: Any) -> Saga:
    return Saga(
        "shop", Step(returning(given), name="payment", compensate=None), Step(taking(taken), pivot=True, **options)
    )


def test_a_type_that_never_fits_is_refused_with_saga_step_parameter_both_types_and_the_remedy() -> None:
    with pytest.raises(DefinitionError) as raised:
        built(Payment, int)
    text = str(raised.value)
    assert text.startswith(
        "saga 'shop', step 'ship': parameter 'payment' takes int, but the result 'payment' is Payment"
    )
    assert "which never fits; give both the same annotation, or take another value with bind={'payment': ...}" in text


def test_a_type_that_may_not_fit_is_warned_of() -> None:
    with pytest.warns(DoubtfulType, match="takes int, and the result 'payment' is str, which may not fit"):
        saga = built(str, int)
    assert [type(warning) for warning in saga.warnings] == [DoubtfulType]


def test_a_type_that_fits_is_not_spoken_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert built(Payment, Receipt).warnings == ()


def test_a_field_of_a_result_is_compared_by_its_own_type() -> None:
    with pytest.raises(DefinitionError, match=r"the result 'payment.amount' is Decimal, which never fits"):
        built(Payment, Charge, bind={"payment": "payment.amount"})
    assert built(Payment, Decimal, bind={"payment": "payment.amount"}).warnings == ()


def test_an_undo_is_compared_with_the_result_of_its_action() -> None:
    @task_of
    def refund(payment: int | None, action_key: str): ...

    @task_of
    def revoke(result: int | None, action_key: str): ...

    with pytest.raises(DefinitionError, match="step 'payment', its compensation: parameter 'payment' takes"):
        Saga("shop", Step(returning(Payment), name="payment", compensate=refund))
    with pytest.raises(DefinitionError, match="but the result of its action is Payment"):
        Saga("shop", Step(returning(Payment), name="payment", compensate=revoke))


def test_a_field_of_the_input_is_compared_with_who_takes_it() -> None:
    @task_of
    def scan(id: int, idempotency_key: str): ...

    @task_of
    def read(order: Charge, idempotency_key: str): ...

    with pytest.warns(DoubtfulType, match="takes int, and the input's 'id' is str"):
        Saga("shop", Step(scan, compensate=None), input=Payment)
    with pytest.warns(DoubtfulType, match="takes Charge, and the input is Payment"):
        Saga("shop", Step(read, bind={"order": "input"}, compensate=None), input=Payment)


def test_a_thousand_steps_are_compared_once_for_each_pair_of_types() -> None:
    pay, ship = returning(Payment), taking(Receipt)
    steps = [Step(ship, name=f"s{n}", bind={"payment": "payment"}, compensate=None) for n in range(1000)]
    first = time.process_time()
    Saga("shop", Step(pay, name="payment", compensate=None), *steps)
    assert time.process_time() - first < 5


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "value"),
    [(int, "x"), (str, 7), (type(None), 1), (Payment, {"id": "x"}), (Payment, 7), (list[int], ["x"]), (Payment, Charge(id=7)),
     (Payment, Payment(7, "much")), (Colour, "green"), (Ticket, {})],
)  # fmt: skip
def test_a_result_that_is_not_what_the_task_declares_is_refused(declared: Any, value: Any) -> None:
    with pytest.raises(ResultError, match=f"the task returned a {type(value).__name__}, which is not the") as raised:
        result_json(value, declared, 1000)
    assert "much" not in str(raised.value)
    result_json(value, declared, 1000, as_declared=False)


@pytest.mark.parametrize(
    ("declared", "value"),
    [(int, 7), (float, 7), (Decimal, Decimal("7")), (Payment, None), (Payment, Payment("x", Decimal(7))), (Any, object),
     (Payment, {"id": "x", "amount": "7"}), (Ticket, {"id": "x"}), (set[int], {2, 1}), (Coded, Coded(number="x")),
     (bytes, b"x"), (str | None, "x"), (object, 7)],
)  # fmt: skip
def test_a_result_that_can_be_read_as_what_the_task_declares_is_stored(declared: Any, value: Any) -> None:
    if declared is Any:
        value = [1, "x"]
    result_json(value, declared, 1000)
