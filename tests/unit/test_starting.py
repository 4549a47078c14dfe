"""What a saga is started with is checked before anything is written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy
from pydantic import BaseModel

from saga.client.starting import order
from saga.errors import InputError
from saga.language.definition import Saga, Step
from saga.store.postgres.caller import join
from tests.conftest import shown

from .helpers import task_of


@task_of
def reserve(): ...


SAGA = Saga("place_order", Step(reserve, compensate=None))


def started_with(**given: Any) -> Any:
    return order_of(**given).started


def order_of(**given: Any) -> Any:
    options: dict[str, Any] = dict.fromkeys(("input", "key", "tags", "delay", "deadline", "priority"))
    return order(SAGA, **(options | given), limit=1000)


@pytest.mark.parametrize("name", ["delay", "deadline"])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), (0, 0.0), (1.5, 1.5), (timedelta(minutes=1), 60.0), (3650 * 86400, 315360000.0)],
)
def test_a_delay_and_a_deadline_are_seconds_or_a_timedelta(name: str, value: Any, seconds: float | None):
    assert getattr(started_with(**{name: value}), name) == seconds


@pytest.mark.parametrize("name", ["delay", "deadline"])
@pytest.mark.parametrize(
    "value",
    [-1, timedelta(seconds=-1), True, "soon", float("nan"), float("inf"), 1e12, 10**400, timedelta.max],
    ids=lambda value: str(value)[:12],
)
def test_a_delay_or_a_deadline_that_is_no_time_or_too_far_away_is_refused(name: str, value: Any):
    with pytest.raises(InputError, match=rf"^saga 'place_order': {name}=.* not negative and ten years at most"):
        started_with(**{name: value})


@pytest.mark.parametrize(
    "key", ["", "x" * 501, "x" * 2_000_000, "a\x00", "a\ud800", 5], ids=lambda value: str(value)[:5]
)
def test_a_key_that_is_no_text_of_fitting_length_is_refused(key: Any):
    with pytest.raises(InputError, match="expected a text of 1 to 500 characters"):
        started_with(key=key)


def test_tags_are_as_small_as_an_input():
    with pytest.raises(
        InputError, match=r"^saga 'place_order': the tags cannot be stored: it is 1,0\d\d bytes of JSON"
    ):
        order_of(tags={"region": "x" * 1000})


@pytest.mark.parametrize("priority", [None, 0, 9, 255])
def test_a_priority_is_a_byte_or_nothing(priority: Any):
    assert started_with(priority=priority).priority == priority


@pytest.mark.parametrize("priority", [-1, 256, True, "high", 1.5, 10**30], ids=shown)
def test_a_priority_that_is_none_is_refused(priority: Any):
    with pytest.raises(InputError, match=r"^saga 'place_order': priority=.* expected a whole number from 0 to 255"):
        started_with(priority=priority)


@pytest.mark.parametrize("tags", [{"a": object()}, ["\x00"], [float("nan")], {"\ud800"}], ids=shown)
def test_tags_that_cannot_be_stored_are_refused(tags: Any):
    with pytest.raises(InputError, match=r"^saga 'place_order': the tags cannot be stored: "):
        order_of(tags=tags)


def test_tags_in_a_set_are_stored_as_a_list_in_one_order():
    assert order_of(tags={"eu", "b2b", "vip"}).tags == ["b2b", "eu", "vip"]


class Line(BaseModel):
    sku: str
    quantity: int = 1


class Cart(BaseModel):
    lines: list[Line]
    gift: bool = False


def hash_of(given: Any) -> str:
    saga = Saga("buy", Step(reserve, compensate=None), input=Cart)
    return order(saga, given, None, None, None, None, None, 1000).hash


def test_a_model_and_the_mapping_it_was_made_from_are_the_same_input_as_given():
    given = {"lines": [{"sku": "A1"}]}
    assert hash_of(Cart(lines=[Line(sku="A1")])) == hash_of(Cart.model_validate(given)) == hash_of(given)


def test_a_field_that_was_set_to_its_default_was_given():
    assert hash_of(Cart(lines=[Line(sku="A1", quantity=1)])) == hash_of({"lines": [{"sku": "A1", "quantity": 1}]})
    assert hash_of(Cart(lines=[Line(sku="A1", quantity=1)])) != hash_of({"lines": [{"sku": "A1"}]})


@pytest.mark.parametrize("connection", [sqlalchemy.create_engine("sqlite://"), "postgresql://", object()], ids=type)
def test_what_is_no_connection_is_refused(connection: Any):
    with pytest.raises(
        InputError, match="expected a SQLAlchemy Session or Connection, a psycopg 3 connection, or Django"
    ):
        join(connection, "saga")


@pytest.mark.parametrize("many", [[[]] * 1_000_000, {"a": [{}] * 1_000_000}, ["x" * 2_000_000], [[0] * 2000] * 2000])
def test_what_is_far_too_large_is_refused_before_any_work_is_done_on_it(many, monkeypatch):
    monkeypatch.setattr("saga.language.binding.encode", lambda *_, **__: pytest.fail("it was encoded"))
    with pytest.raises(InputError, match="it is over saga_max_payload = 1,048,576 bytes of JSON"):
        order(SAGA, {"x": many}, None, None, None, None, None, 1024 * 1024)


class Large:
    def __repr__(self) -> str:
        return "large\n" * 1000


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize("value", [Large(), Broken(), "x" * 1000])
@pytest.mark.parametrize("name", ["key", "deadline", "delay", "priority"])
def test_an_error_names_a_wrong_value_in_a_few_words(name: str, value: Any):
    with pytest.raises(InputError, match=name) as caught:
        order_of(**{name: value})
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)
