"""Choice: what it goes by, what answers it can have, and what is visible in and after its ways."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, Literal

import pytest

from saga import Choice, Step
from saga.language.choice import answer_json

from .definitions import Definition, function_of, lacks, named, refused, step, taking
from .helpers import task_of


class Plan(Enum):
    BASIC = "basic"
    ENTERPRISE = "enterprise"


class Tier(StrEnum):
    ONE = "one"


class Level(IntEnum):
    HIGH = 3


@dataclass
class Tenant:
    plan: Plan
    size: Literal["small", "large"]
    seats: int
    vip: bool
    users: list[str]
    price: Decimal
    free: str | None = None


PIVOT = Step(task_of(named("go")), pivot=True)
OTHER_PIVOT = Step(task_of(named("stay")), pivot=True)


def lookup() -> Tenant: ...


def decide(plan: Plan, before: str) -> Plan: ...


def test_a_choice_on_a_path_is_stored_with_its_answers_in_their_order():
    found = Definition(
        Choice("input.plan", {Plan.ENTERPRISE: [step("audit")], "basic": []}, name="by_plan"), input=Tenant
    )
    assert found.doc == [
        {
            "choice": "by_plan",
            "on": "input.plan",
            "cases": [["enterprise", [{"step": "audit", "task": "shop.audit"}]], ["basic", []]],
            "otherwise": [],
        }
    ]
    assert found.types["by_plan"] is Plan


def test_one_sequence_is_for_the_answer_true():
    found = Definition(Choice("input.vip", [step("greet")], otherwise=[step("pass_by")], name="by_vip"), input=Tenant)
    assert [answer for answer, _ in found.doc[0]["cases"]] == [True]
    assert found.doc[0]["otherwise"] == [{"step": "pass_by", "task": "shop.pass_by"}]


def test_a_choice_on_a_function_is_named_after_it_and_its_parameters_are_bound_by_name():
    found = Definition(step("before"), Choice(decide, {"basic": [step("a")]}), input=Tenant)
    assert found.doc[1]["choice"] == "decide"
    assert found.doc[1]["on"] is None
    assert found.doc[1]["function"] == f"{__name__}.decide"
    job = found.walk.functions["decide"]
    assert (job.kind, job.function, job.timeout, job.returns, job.queue) == ("function", decide, 10.0, Any, None)
    assert found.sources("decide", "functions") == {"plan": ("input", "", ("plan",)), "before": ("step", "before", ())}
    assert found.types["decide"] is Plan


def test_a_field_may_be_named_without_the_word_input_and_is_stored_with_it():
    assert Definition(Choice("plan", {"basic": []}, name="c"), input=Tenant).doc[0]["on"] == "input.plan"
    assert Definition(Choice("plan.name", {"basic": []}, name="c")).doc[0]["on"] == "input.plan.name"


def test_a_way_sees_what_was_before_and_the_answer_and_each_other_step_of_it():
    found = Definition(
        step("before"),
        Choice("before.kind", {"x": [step("a"), taking("before, kind, a")]}, name="kind"),
    )
    assert set(found.sources()) == {"before", "kind", "a"}


def test_a_result_of_a_way_may_be_missing_after_it_and_the_answer_is_there():
    found = Definition(Choice("input.vip", [step("a")], otherwise=[step("b")], name="vip"))
    assert found.missing == {"a", "b"}
    found = Definition(
        Choice("input.vip", [step("a")], name="vip"), taking("vip: bool, a=1, b=2, c=3, d: int | None = 4")
    )
    wires = {wire.parameter: wire for wire in found.walk.actions["subject"].wires}
    assert wires["a"].missing
    assert not wires["vip"].missing


@pytest.mark.parametrize("parameter", ["a", "a: str | None", "a: str = 'none'", "a: Optional[str]", "a: Any"])
def test_what_may_be_missing_may_be_named_by_what_takes_none_or_has_a_default(parameter: str):
    found = Definition(Choice("input.vip", [step("a")], name="vip"), taking(parameter))
    assert found.sources() == {"a": ("step", "a", ())}


def test_what_may_be_missing_is_refused_where_it_has_to_be_there():
    text = refused(Choice("input.vip", [step("a")], name="vip"), taking("a: str"))
    assert lacks(text, ["saga 'shop', step 'subject': parameter 'a'", "may be missing", "Choice 'vip'", "take None",
                        "default"]) == [], text  # fmt: skip
    text = refused(Choice("input.vip", [step("a")], name="vip"), taking("x: str", bind={"x": "a.id"}))
    assert "parameter 'x' names a result that may be missing" in text
    text = refused(Choice("input.vip", [step("a")], name="vip"), Choice("a.id", {"x": []}, name="next"))
    assert lacks(text, ["Choice 'next': on='a.id'", "may be missing", "Choice 'vip'"]) == [], text


def test_a_step_of_another_way_is_not_visible():
    text = refused(Choice("input.kind", {"x": [step("a")], "y": [taking("a")]}, name="kind"))
    assert "parameter 'a' names a step that is not over by then" in text


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice("input.plan", {}, name="c"), ["Choice 'c'", "no cases"]),
        (Choice("input.plan", [], name="c"), ["Choice 'c'", "no cases"]),
        (Choice("input.plan", {"enterprize": []}, name="c"), ["'enterprize'", "on='input.plan'", "Plan", "did you mean 'enterprise'?"]),
        (Choice("input.size", {"larg": []}, name="c"), ["'larg'", "did you mean 'large'?"]),
        (Choice("input.seats", {"1": []}, name="c"), ["'1'", "int"]),
        (Choice("input.seats", {True: []}, name="c"), ["True", "int"]),
        (Choice("input.seats", {1.5: []}, name="c"), ["1.5", "int"]),
        (Choice("input.vip", {1: []}, name="c"), ["the case 1", "bool", "did you mean True?"]),
        (Choice("input.vip", {"true": []}, name="c"), ["'true'", "did you mean True?"]),
        (Choice("input.users", {"a": []}, name="c"), ["'a'", "list[str]"]),
        (Choice("input.plan", [step("a")], name="c"), ["one sequence", "True or False", "Plan", "mapping"]),
        (Choice("input.plan", {None: []}, name="c"), ["the case None", "text", "number"]),
        (Choice("input.seats", {(1, 2): []}, name="c"), ["the case (1, 2)", "enum"]),
        (Choice("input.seats", {float("inf"): []}, name="c"), ["the case inf"]),
        (Choice("input.plan", {"basic": [], Plan.BASIC: []}, name="c"), ["two cases are 'basic' as JSON"]),
        (Choice("input.plan", {"basic": step("a")}, name="c"), ["cases['basic']=Step", "expected a list of steps"]),  # type: ignore[dict-item]
        (Choice("input.plan", step("a"), name="c"), ["cases=Step", "expected a mapping"]),  # type: ignore[arg-type]
        (Choice("input.plan", {"basic": []}, otherwise=step("a"), name="c"), ["otherwise=Step", "list of steps"]),  # type: ignore[arg-type]
        (Choice("input.plan", {"basic": []}), ["a Choice has no name by itself", "Choice('input.plan'", "name="]),
        (Choice(lambda plan: plan, {"basic": []}), ["a Choice has no name by itself", "name="]),
        (Choice("input.plann", {"basic": []}, name="c"), ["on='input.plann'", "no field 'plann'", "did you mean 'plan'?"]),
        (Choice("plann", {"basic": []}, name="c"), ["on='plann'", "names nothing that is there", "did you mean 'plan'?"]),
        (Choice("input..plan", {"basic": []}, name="c"), ["on='input..plan'", "empty part"]),
        (Choice("connection", {"basic": []}, name="c"), ["on='connection'", "names nothing that is there"]),
        (Choice("error", {"basic": []}, name="c"), ["on='error'", "names nothing that is there"]),
        (Choice(5, {"basic": []}, name="c"), ["on=5", "expected a path", "plain function"]),  # type: ignore[arg-type]
        (Choice(task_of(named("ask")), {"basic": []}, name="c"), ["the task shop.ask", "plain function"]),
        (Choice(decide, {"basic": []}, name="c"), ["nothing provides parameter 'before'"]),
        (Choice(function_of("*plans", "pick"), {"basic": []}), ["pick takes *plans"]),
        (Choice(function_of("plan, idempotency_key", "pick"), {"basic": []}), ["'idempotency_key' is for the tasks of steps"]),
        (Choice("input.plan", {"basic": [PIVOT]}, name="c"), ["'go' is a pivot", "otherwise has none", "otherwise= included"]),
        (Choice("input.plan", {"basic": [PIVOT], "enterprise": []}, otherwise=[OTHER_PIVOT], name="c"), ["the case 'enterprise' has none"]),
        (Choice("input.plan", {"basic": [[step("a")]]}, name="c"), ["got a list of 'a'", "inside a Parallel or a Graph only"]),  # type: ignore[list-item]
        (Choice("input.plan", {"basic": []}, name="a#b"), ["Choice 'a#b'", "'#'"]),
        (Choice("input.plan", {"basic": []}, name="plan"), ["Choice 'plan'", "the input has a field of the same name"]),
        (Choice("input.plan", {"basic": [step("c")]}, name="c"), ["step 'c'", "a Choice has that name", "name="]),
    ],
)  # fmt: skip
def test_a_choice_is_refused_with_what_is_wrong(choice: Choice, words: list[str]):
    text = refused(choice, input=Tenant)
    assert lacks(text, ["saga 'shop'", *words]) == [], text


def test_an_async_function_is_refused():
    async def ask() -> str: ...

    assert "async def" in refused(Choice(ask, {"x": []}))


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("input.seats", 1),
        ("input.seats", 2.0),
        ("input.plan", Plan.BASIC),
        ("input.free", "x"),
        ("input.price", "1.50"),
    ],
)
def test_an_answer_that_the_annotation_can_give_is_a_case(path: str, answer: Any):
    Definition(Choice(path, {answer: []}, name="c"), input=Tenant)


def test_the_type_of_a_path_into_a_result_is_known():
    text = refused(step(lookup), Choice("lookup.plan", {"none": []}, name="c"))
    assert "Plan" in text
    assert "lookup.plan" in text
    assert Definition(step(lookup), Choice("lookup.plan", {"basic": []}, name="c")).types["c"] is Plan


def test_each_way_may_have_a_pivot_if_all_have_one():
    ways = Choice("input.kind", {"x": [PIVOT]}, otherwise=[OTHER_PIVOT, step("after", compensate=None)], name="c")
    found = Definition(ways, Step(task_of(named("last"))))
    assert found.walk.actions["last"].retry.next_wait(ValueError(), 1000, 3600) is not None
    assert "second pivot after 'go'" in refused(ways, Step(task_of(named("more")), pivot=True))
    assert "second pivot after 'first'" in refused(Step(task_of(named("first")), pivot=True), ways)


def test_ways_of_a_way_have_pivots_of_their_own():
    inner = Choice("input.kind", [PIVOT], otherwise=[OTHER_PIVOT], name="inner")
    Definition(Choice("input.kind", [inner], otherwise=[Step(task_of(named("third")), pivot=True)], name="outer"))


def test_a_field_that_a_path_leads_to_is_required_of_an_untyped_input():
    found = Definition(Choice("input.plan.kind", {"x": []}, name="c"), Choice(function_of("size", "f"), {"x": []}))
    assert found.builder.required_fields() == {"plan": "c", "size": "f"}


@pytest.mark.parametrize(
    ("answer", "stored"),
    [
        ("x", "x"),
        (1, 1),
        (True, True),
        (None, None),
        (1.5, 1.5),
        (Plan.BASIC, "basic"),
        (Tier.ONE, "one"),
        (Level.HIGH, 3),
    ],
)
def test_an_answer_is_stored_as_json(answer: Any, stored: Any):
    assert answer_json(answer) == stored
    assert type(answer_json(answer)) is type(stored)


@pytest.mark.parametrize("answer", [[], {}, float("nan"), Decimal(1), object(), b"x"])
def test_what_is_no_answer_is_refused(answer: Any):
    with pytest.raises(ValueError, match="an answer is a text"):
        answer_json(answer)
