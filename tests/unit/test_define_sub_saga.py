"""SubSaga: how a child's input is bound, what its results are, and when it is the parent's pivot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NotRequired

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from saga import Choice, ForEach, Saga, Step, SubSaga, Value
from saga.errors import InputError
from saga.language.binding import BindingError, Given, Values, arguments, child_input
from saga.language.visibility import Known

from .definitions import Definition, function_of, lacks, named, refused, step, taking
from .helpers import task_of


class Bill(BaseModel):
    customer: str
    amount: int = 1


@dataclass
class BillRecord:
    customer: str
    amount: int = 1


class BillDict(TypedDict):
    customer: str
    amount: NotRequired[int]


def invoice(customer: str) -> str: ...


def bill(input: Any = Bill, *more: Step, name: str = "bill") -> Saga[Any]:
    return Saga(name, step(invoice), *more, input=input)


PIVOT = Step(task_of(named("go")), pivot=True)


@pytest.mark.parametrize("input", [Bill, BillRecord, BillDict])
def test_the_fields_of_the_childs_input_are_bound_by_name(input: Any):
    found = Definition(step("amount"), SubSaga(bill(input), bind={"customer": "input.who.name"}))
    wires = {wire.parameter: wire for wire in found.walk.terms["bill"].wires}
    assert {name: (wire.source.origin, wire.optional) for name, wire in wires.items()} == {
        "customer": ("input", False),
        "amount": ("step", True),
    }
    assert found.doc[1] == {"child": "bill", "saga": "bill"}
    assert found.builder.required_fields() == {"who": "bill"}


def test_of_an_untyped_input_the_fields_that_its_steps_take_are_bound():
    child = Saga("bill", step(invoice), taking("note=None", "remark"))
    found = Definition(SubSaga(child, name="billing"))
    wires = {wire.parameter: wire for wire in found.walk.terms["billing"].wires}
    assert {name: (wire.annotation, wire.optional) for name, wire in wires.items()} == {
        "customer": (str, False),
        "note": (Any, True),
    }


def test_a_child_that_takes_the_whole_of_an_untyped_input_may_be_bound_any_field():
    child = Saga("bill", taking("input, customer", "pay"))
    found = Definition(SubSaga(child, bind={"note": Value("paid")}))
    assert {wire.parameter for wire in found.walk.terms["bill"].wires} == {"customer", "note"}
    assert "bind names 'note'" in refused(SubSaga(Saga("bill", taking("customer", "pay")), bind={"note": Value(1)}))


def test_a_child_is_given_its_input():
    parent = Definition(step(invoice, name="who"), SubSaga(bill(), bind={"customer": "who", "amount": Value(3)}))
    terms = parent.walk.terms["bill"]
    stands_in: Any = type("Parent", (), {"terms": lambda _, name: {"bill": terms}[name]})()
    assert child_input(stands_in, "bill", Values({}, {"who": "ann"}, {}), 1000) == Given(
        {"customer": "ann", "amount": 3}, {"customer": "ann", "amount": 3}
    )
    with pytest.raises(BindingError, match="parameter 'customer' of the input of saga 'bill'"):
        child_input(stands_in, "bill", Values({}, {"who": 5}, {}), 1000)
    with pytest.raises(InputError, match="saga 'bill'"):
        child_input(stands_in, "bill", Values({}, {"who": "a" * 2000}, {}), 1000)


def test_its_result_is_the_mapping_of_its_results_with_their_types():
    found = Definition(
        SubSaga(bill(None)), taking("number: str", bind={"number": "bill.invoice"}), taking("bill: dict", "all")
    )
    assert found.sources() == {"number": ("step", "bill", ("invoice",))}
    assert "did you mean 'invoice'?" in refused(SubSaga(bill(None)), taking("n", bind={"n": "bill.invoce"}))
    assert "never fits" in refused(SubSaga(bill(None)), taking("n: list", bind={"n": "bill.invoice"}))


def test_a_result_that_a_child_may_end_without_may_be_missing(monkeypatch: pytest.MonkeyPatch):
    child = bill(None)
    monkeypatch.setitem(vars(child), "results", {"invoice": Known(str, "its way may not be taken"), "pay": Known(int)})
    found = Definition(
        SubSaga(child),
        taking("n: str | None", "a", bind={"n": "bill.invoice"}),
        taking("n: str = 'x'", "b", bind={"n": "bill.invoice"}),
        taking("bill: dict, n: int", "c", bind={"n": "bill.pay"}),
    )
    values = Values({}, {"bill": {"pay": 5}}, {})
    given = {name: arguments(None, found.walk.actions[name], values) for name in "abc"}  # type: ignore[arg-type]
    assert given == {"a": {"n": None}, "b": {}, "c": {"bill": {"pay": 5}, "n": 5}}
    text = refused(SubSaga(child), taking("n: str", bind={"n": "bill.invoice"}))
    assert (
        lacks(text, ["parameter 'n'", "may be missing", "SubSaga 'bill' may end without a result 'invoice'"]) == []
    ), text
    assert "may be missing" in refused(SubSaga(child), Choice("bill.invoice", {"x": []}, name="c"))


def test_a_child_may_be_in_the_body_of_a_for_each():
    found = Definition(
        ForEach("input.users", [SubSaga(bill(), bind={"customer": "user.name"})], name="bills", item="user")
    )
    assert found.doc[0]["body"] == [{"child": "bill", "saga": "bill"}]
    assert [child.name for child in found.walk.children] == ["bill"]


def test_a_child_with_a_point_of_no_return_is_the_parents_pivot():
    child = bill(None, PIVOT)
    found = Definition(SubSaga(child, pivot=True), Step(task_of(named("after"))))
    assert found.doc[0] == {"child": "bill", "saga": "bill", "pivot": True}
    text = refused(SubSaga(child))
    assert lacks(text, ["SubSaga 'bill'", "its pivot 'go' is past", "pivot=True"]) == [], text
    assert "second pivot after 'bill'" in refused(SubSaga(child, pivot=True), PIVOT)


def test_a_child_with_a_confirmation_is_the_parents_pivot_too():
    child = Saga("hold", step(invoice, confirm=task_of(function_of("invoice", "capture"))))
    text = refused(SubSaga(child))
    assert lacks(text, ["SubSaga 'hold'", "its step 'invoice' is confirmed", "pivot=True"]) == [], text
    Definition(SubSaga(child, pivot=True))


def test_a_child_that_can_be_undone_may_be_the_pivot():
    Definition(SubSaga(bill(None), pivot=True), Step(task_of(named("after"))))


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([SubSaga(5)], ["SubSaga(5) expected a Saga"]),  # type: ignore[arg-type]
        ([SubSaga(5, name="x")], ["SubSaga 'x'", "saga=5 expected a Saga"]),  # type: ignore[arg-type]
        ([SubSaga(bill(), pivot=1)], ["SubSaga 'bill'", "pivot=1 expected True or False"]),  # type: ignore[arg-type]
        ([SubSaga(bill(), bind=["a"])], ["bind=['a'] expected a mapping of fields"]),  # type: ignore[arg-type]
        ([SubSaga(bill(), bind={"custmer": "input.a"})], ["bind names 'custmer'", "the input of saga 'bill'", "'customer'?"]),
        ([SubSaga(bill(name="shop"))], ["SubSaga 'shop'", "'shop' would be inside itself", "rename"]),
        ([SubSaga(bill(name="a.b"))], ["SubSaga 'a.b'", "'.'", "name="]),
        ([SubSaga(bill()), SubSaga(bill())], ["two SubSagas have that name", "name="]),
        ([Choice("input.x", [step("a")], name="c"),
          SubSaga(bill(), bind={"customer": "a"})], ["parameter 'customer' names a result that may be missing"]),
        ([bill()], ["expected a Step", "wrap it: SubSaga(...)"]),
    ],
)  # fmt: skip
def test_a_child_is_refused_with_what_is_wrong(items: list[Any], words: list[str]):
    text = refused(*items)
    assert lacks(text, ["saga 'shop'", *words]) == [], text


def test_a_typed_parent_has_to_have_the_field():
    @dataclass
    class Tenant:
        custmer: str

    text = refused(SubSaga(bill()), input=Tenant)
    assert lacks(text, ["SubSaga 'bill': nothing provides parameter 'customer'", "did you mean 'custmer'?"]) == [], text
