"""Values survive their way through JSON, or are refused before the database has to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import reduce
from typing import Annotated, Any, Optional
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    ValidationError,
    computed_field,
)
from typing_extensions import TypedDict

from saga.core.text import Unencodable, canonical, clean_text, digest, dumps
from saga.errors import ResultError
from saga.language.codec import allows_none, decode, encode, result_json
from tests.conftest import shown

ID = UUID("018f3b1e-0000-7000-8000-000000000001")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Address:
    street: str
    since: date


class Line(BaseModel):
    sku: str
    price: Decimal


class Order(BaseModel):
    id: UUID
    placed: datetime
    colour: Colour
    lines: list[Line]
    address: Address
    notes: dict[str, Decimal | None] = {}


class Parcel(TypedDict):
    number: int
    weight: Decimal


class OldParcel(typing.TypedDict):
    number: Annotated[int, Field(gt=0)]
    inner: typing.NotRequired[OldLabel]


class OldLabel(typing.TypedDict, total=False):
    weight: typing.Required[Decimal]
    printed: date


class Renamed(BaseModel):
    number: int = Field(alias="paymentNumber")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    amount: int

    @computed_field
    def doubled(self) -> int:
        return self.amount * 2


ORDER = Order(
    id=ID,
    placed=datetime(2026, 1, 1, 12, tzinfo=UTC),
    colour=Colour.RED,
    lines=[Line(sku="A1", price=Decimal("19.90"))],
    address=Address("Main St", date(2020, 2, 29)),
    notes={"discount": Decimal("0.10"), "tip": None},
)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (Decimal("0.10"), Decimal),
        (datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC), datetime),
        (datetime(2026, 1, 1), datetime),
        (date(2026, 1, 1), date),
        (timedelta(days=1, microseconds=1), timedelta),
        (ID, UUID),
        (Colour.BLUE, Colour),
        (Address("Main St", date(2020, 2, 29)), Address),
        (ORDER, Order),
        ([ORDER, ORDER], list[Order]),
        ({"a": Decimal("1.50")}, dict[str, Decimal]),
        ({1: "a"}, dict[int, str]),
        ((1, "a", Decimal("2")), tuple[int, str, Decimal]),
        ({1, 2}, set[int]),
        ({"number": 1, "weight": Decimal("2.5")}, Parcel),
        ({"number": 1, "inner": {"weight": Decimal("2.5")}}, OldParcel),
        (None, None),
        (None, Order | None),
        (ORDER, Optional[Order]),  # noqa: UP045
        (b"plain", bytes),
        (3.5, float),
        (True, bool),
        ("ü \U0001f600 \\u0000 \n", str),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value)[:30],
)
def test_a_value_survives_by_its_annotation(value: Any, annotation: Any):
    stored = json.loads(dumps(encode(value, annotation)))
    found = decode(stored, annotation)
    assert found == value
    assert type(found) is type(value)


def test_a_field_with_an_alias_survives():
    value = Renamed(paymentNumber=7)
    assert decode(json.loads(dumps(encode(value, Renamed))), Renamed) == value


def test_a_model_with_a_computed_field_survives():
    assert decode(json.loads(dumps(encode(Strict(amount=2), Strict))), Strict) == Strict(amount=2)


@pytest.mark.parametrize(
    "value", [Decimal("0.10"), datetime(2026, 1, 1, tzinfo=UTC), ID, Colour.RED, ORDER, Renamed(paymentNumber=7)]
)
def test_a_value_without_an_annotation_is_stored_by_its_own_type(value: Any):
    assert decode(json.loads(dumps(encode(value))), type(value)) == value


def test_a_typed_dictionary_of_the_standard_library_is_checked_as_it_says():
    for wrong in ({"number": 0}, {"inner": {"weight": 1}}, {"number": 1, "inner": {"printed": "2026-01-01"}}):
        with pytest.raises(ValidationError):
            decode(wrong, OldParcel)


def test_json_may_name_a_field_by_its_alias_too():
    assert decode({"paymentNumber": 7}, Renamed) == decode({"number": 7}, Renamed) == Renamed(paymentNumber=7)


class Login(BaseModel):
    password: SecretStr


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (Login(password="hunter2"), Login),
        (SecretStr("hunter2"), SecretStr),
        (SecretBytes(b"hunter2"), SecretBytes),
        ([{"pin": Secret(1234)}], list[dict[str, Secret[int]]]),
    ],
    ids=shown,
)
def test_a_secret_is_refused_as_only_its_mask_would_be_stored(value: Any, annotation: Any):
    for declared in (annotation, Any):
        with pytest.raises(Unencodable, match="it holds a secret") as caught:
            encode(value, declared)
        assert "hunter2" not in str(caught.value)


def test_a_text_that_looks_like_a_mask_is_fine():
    assert encode({"shown": "**********"}) == {"shown": "**********"}
    assert encode(Line(sku="**********", price=Decimal(1)), Line) == {"sku": "**********", "price": "1"}


def test_a_value_of_another_type_than_declared_is_stored_by_its_own():
    assert encode({"ok": Decimal("1.5")}, Order) == {"ok": "1.5"}
    assert encode("nothing", int) == "nothing"


@pytest.mark.parametrize("value", [object(), lambda: None, [object()], {"a": {1: object()}}, b"\xff\xfe", iter])
@pytest.mark.parametrize("annotation", [Any, dict])
def test_a_value_without_a_json_form_is_refused(value: Any, annotation: Any):
    with pytest.raises(Unencodable, match="cannot be stored as JSON"):
        encode(value, annotation)


def test_a_value_that_holds_itself_is_refused():
    value: list[Any] = []
    value.append(value)
    with pytest.raises(Unencodable):
        encode(value)


def test_a_value_that_is_too_deep_is_refused():
    deep = reduce(lambda inner, _: [inner], range(100_000), 1)
    with pytest.raises(Unencodable):
        dumps(deep)
    with pytest.raises(Unencodable):
        encode(deep)


@pytest.mark.parametrize("value", ["a\x00b", {"a\x00": 1}, ["\x00"], "\\\x00", {"a": {"b": "\x00"}}], ids=ascii)
def test_a_nul_character_is_refused_with_the_remedy(value: Any):
    with pytest.raises(Unencodable, match="NUL character, which Postgres cannot store; encode binary data"):
        dumps(value)


@pytest.mark.parametrize("value", ["\\u0000", "\\\\u0000", "x\\u0000y", {"\\u0000": "\\u0000"}], ids=ascii)
def test_what_only_looks_like_a_nul_character_is_fine(value: Any):
    assert json.loads(dumps(value)) == value


@pytest.mark.parametrize("value", ["\ud800", {"\udfff": 1}, ["a\ud800b"]], ids=ascii)
def test_half_a_surrogate_pair_is_refused(value: Any):
    with pytest.raises(Unencodable, match="half a surrogate pair"):
        dumps(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")]])
def test_a_number_that_is_none_is_refused(value: Any):
    with pytest.raises(Unencodable):
        dumps(value)
    with pytest.raises(ResultError, match="the result cannot be stored"):
        result_json(value, Any, 1000)


def test_the_limit_is_in_bytes():
    assert dumps("ü" * 4, 10) == '"üüüü"'
    with pytest.raises(Unencodable, match=r"it is 12 bytes of JSON, over saga_max_payload = 10; store it elsewhere"):
        dumps("ü" * 5, 10)


def test_a_result_that_is_too_large_says_the_setting():
    with pytest.raises(ResultError, match=r"the result cannot be stored: .* saga_max_payload = 1,000"):
        result_json("x" * 1000, str, 1000)


def test_none_is_a_fine_result():
    assert result_json(None, Any, 10) is None


def test_json_that_does_not_fit_is_refused():
    with pytest.raises(ValidationError):
        decode("abc", Decimal)


def test_json_is_strict_about_nothing_it_need_not_be():
    assert decode(5, Decimal) == Decimal(5)
    assert decode("anything", Any) == "anything"


def test_canonical_json_is_equal_for_equal_values():
    assert canonical({"b": [1, {"d": 1, "c": 2}], "a": "ü"}) == canonical({"a": "ü", "b": [1, {"c": 2, "d": 1}]})
    assert canonical([1, 2]) != canonical([2, 1])


def test_a_digest_is_32_hexadecimal_digits_and_never_fails_on_text():
    assert len(digest("\ud800")) == 32
    assert digest({"a": 1}) == digest({"a": 1}) != digest({"a": 2})


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain ü", "plain ü"),
        ("a\x00b", "a\\x00b"),
        ("a\ud800b", "a\\ud800b"),
        (ValueError("wrong"), "wrong"),
        (Unspeakable(), "<Unspeakable that cannot be shown: RuntimeError>"),
        ("x" * 11, "x" * 10 + " …"),
        ("x" * 10, "x" * 10),
    ],
    ids=shown,
)
def test_any_text_is_made_fit_for_storing(text: object, clean: str):
    found = clean_text(text, 10 if "xxx" in clean else 4000)
    assert found == clean
    dumps(found)


@pytest.mark.parametrize(
    ("annotation", "allows"),
    [
        (Any, True),
        (None, True),
        (type(None), True),
        (int | None, True),
        (Optional[int], True),  # noqa: UP045
        (typing.Union[int, str, None], True),  # noqa: UP007
        (Annotated[int | None, "note"], True),
        (Annotated[int, "note"], False),
        (int, False),
        (int | str, False),
        (list[None], False),
    ],
    ids=shown,
)
def test_it_is_known_whether_a_type_allows_none(annotation: Any, allows: bool):
    assert allows_none(annotation) is allows


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_json_survives_or_is_refused_for_what_postgres_cannot_store(value):
    try:
        text = dumps(value)
    except Unencodable:
        assert "\\u0000" in json.dumps(value) or "\\ud" in json.dumps(value)
    else:
        assert json.loads(text) == value
        text.encode()


@given(st.text())
def test_clean_text_can_always_be_stored(text):
    dumps(clean_text(text))


class Basket(BaseModel):
    codes: set[str]


class Bag(RootModel[frozenset[str]]):
    pass


@dataclass
class Crate:
    codes: frozenset[str]


WORDS = ["pear", "apple", "fig", "plum", "date", "kiwi", "lime", "nut"]


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (set(WORDS), Any),
        (frozenset(WORDS), frozenset[str]),
        (Bag(frozenset(WORDS)), Any),
    ],
    ids=["set", "frozenset", "model"],
)
def test_a_set_is_a_sorted_list(value: Any, annotation: Any):
    assert encode(value, annotation) == sorted(WORDS)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ({"more": [{"codes": set(WORDS)}]}, Any),
        ({"more": [Basket(codes=set(WORDS))]}, Any),
        ({"more": (Crate(frozenset(WORDS)),)}, dict[str, tuple[Crate, ...]]),
        ({"more": [Basket(codes=set(WORDS))]}, dict[str, list[Basket]]),
    ],
    ids=["plain", "model", "dataclass", "typed"],
)
@pytest.mark.parametrize("as_given", [False, True])
def test_a_set_within_is_a_sorted_list(value: Any, annotation: Any, as_given: bool):
    assert encode(value, annotation, as_given=as_given) == {"more": [{"codes": sorted(WORDS)}]}


def test_sets_of_sets_and_of_mixed_values_have_one_order():
    assert encode({frozenset({"b", "a"}), frozenset({"c", "a"})}) == [["a", "b"], ["a", "c"]]
    assert encode({10, 9, "b", None}) == encode({None, "b", 9, 10})


def test_a_list_and_a_tuple_keep_their_order():
    assert encode({"a": ["c", "b"], 5: ("b", "a"), "s": {("b", "a")}}) == {
        "a": ["c", "b"],
        "5": ["b", "a"],
        "s": [["b", "a"]],
    }


def test_equal_sets_have_one_digest_whatever_the_hash_seed():
    program = f"from saga.language.codec import encode; from saga.core.text import digest; print(digest(encode({{'codes': set({WORDS})}})))"
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(found) == 1
