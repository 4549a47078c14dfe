"""What a log is given comes back as JSON has it; what JSON, or Postgres, has no form for is refused."""

from __future__ import annotations

from typing import Any

import pytest

from saga.core.events import Paused
from saga.store.values import NewStatus, Refused, ValueRefused

from .stand import LINE, Stand, changes, opening_of, place, succeeded

ODD: list[Any] = [
    None, True, 0, -1, 2**80, 1.5, 1.0, 1e16, 1e20, 1.5e300, 1e-7, -0.0, "", "é€𝄞", "\\u0000", [[], {}], {"": {"a": [1]}},
    {"bb": 1, "a": 2, "c": {"é": 1, "zz": 2, "z": 3}}, (1, 2),
]  # fmt: skip


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_a_value_comes_back_as_json_has_it(stand: Stand, value: Any) -> None:
    saga = stand.start()
    stand.append(saga, succeeded(result={"value": value}))
    [entry] = stand.store.entries(saga, 1)
    found = entry.data["result"]["value"]
    expected = list(value) if isinstance(value, tuple) else value
    assert (float(found) if isinstance(value, float) else found) == expected
    assert type(found) is (int if isinstance(value, float) and value >= 1e16 else type(expected))
    assert repr(found) != "-0.0"


def test_names_in_an_object_come_in_the_order_of_a_jsonb_column(stand: Stand) -> None:
    saga = stand.start(input={"bb": 1, "a": 2, "é": 3, "C": 4})
    [entry] = stand.store.entries(saga)
    assert list(entry.data["input"]) == ["C", "a", "bb", "é"]


def test_each_reader_has_a_value_to_itself(stand: Stand) -> None:
    given = {"list": [1]}
    saga = stand.start(input=given, tags=given)
    given["list"].append(2)
    stand.store.entries(saga)[0].data["input"]["list"].append(3)
    header = stand.store.header(saga)
    assert header is not None
    header.tags["list"].append(4)
    again = stand.store.header(saga)
    assert again is not None
    assert again.tags == stand.store.entries(saga)[0].data["input"] == {"list": [1]}


BAD: list[Any] = ["a\x00b", "\ud800", float("nan"), float("inf"), object(), {1, 2}, b"bytes", {"k\x00": 1}]


@pytest.mark.parametrize("value", BAD, ids=lambda value: ascii(value).partition(" at ")[0])
def test_a_value_without_a_form_is_refused_and_nothing_is_stored(stand: Stand, value: Any) -> None:
    saga = stand.start()
    with pytest.raises(ValueRefused):
        stand.append(saga, succeeded(result=value))
    with pytest.raises(ValueRefused):
        stand.store.open([opening_of(LINE, input=value)], 1.0)
    with pytest.raises(ValueRefused):
        stand.store.open([opening_of(LINE, tags=value)], 1.0)
    assert stand.kinds(saga) == ["saga_started"]


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"], ids=ascii)
def test_a_text_without_a_form_is_refused(stand: Stand, text: str) -> None:
    saga = stand.start()
    with pytest.raises(ValueRefused):
        stand.append(saga, Paused(reason=text))
    with pytest.raises(ValueRefused):
        stand.append(saga, Paused(), status=NewStatus("stuck", text, False))
    with pytest.raises(ValueRefused):
        stand.append(saga, Paused(), changes=changes(moved=[place(queue=text)]))
    with pytest.raises(ValueRefused):
        stand.store.park(saga, "main", text)
    with pytest.raises(ValueRefused):
        stand.store.open([opening_of(LINE, key=text)], 1.0)
    with pytest.raises(Refused):
        stand.store.holders("line", [text])
    assert stand.kinds(saga) == ["saga_started"]
