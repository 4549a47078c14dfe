"""Constructs are values: made alike they are equal, they cannot be changed, and they show how they were made."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from tenacity import stop_after_attempt

from saga import Choice, ForEach, Graph, Parallel, Retry, Saga, Sleep, Step, SubSaga, Try, Value, WaitFor
from saga.language.walk import Construct

from .definitions import Definition, function_of, lacks, named, refused, step
from .helpers import task_of

A = Step(task_of(named("a")), compensate=None)
B = Step(task_of(named("b")), compensate=None)
CHILD = Saga("child", A)
DAY = timedelta(days=1)
pick = function_of("plan", "pick")

MADE: dict[str, tuple[Callable[[], Construct], list[Callable[[], Construct]]]] = {
    "Parallel": (lambda: Parallel(A, [B]), [lambda: Parallel([B], A), lambda: Graph(A, [B])]),
    "Graph": (
        lambda: Graph(A, [B], after={"a": ["b"]}),
        [lambda: Graph(A, [B]), lambda: Graph(A, B, after={"a": ["b"]})],
    ),
    "Choice": (
        lambda: Choice("input.plan", {"x": [A], 5: []}, otherwise=[B], name="c"),
        [
            lambda: Choice("input.plan", {"x": [A], 5: []}, otherwise=[B]),
            lambda: Choice("input.plan", {"x": [A], 5: []}, name="c"),
            lambda: Choice("input.plan", {"x": [B], 5: []}, otherwise=[B], name="c"),
            lambda: Choice("input.plan", [A], otherwise=[B], name="c"),
            lambda: Choice(pick, {"x": [A], 5: []}, otherwise=[B], name="c"),
        ],
    ),
    "ForEach": (
        lambda: ForEach("input.users", [A], name="f", item="user", limit=3),
        [
            lambda: ForEach("input.users", [A], name="f", item="user"),
            lambda: ForEach("input.users", [A], name="f", limit=3),
            lambda: ForEach("input.users", [B], name="f", item="user", limit=3),
        ],
    ),
    "SubSaga": (
        lambda: SubSaga(CHILD, name="s", bind={"x": Value(1)}, pivot=True),
        [lambda: SubSaga(CHILD, name="s", bind={"x": Value(2)}, pivot=True), lambda: SubSaga(CHILD, name="s")],
    ),
    "Sleep": (lambda: Sleep(DAY, name="s"), [lambda: Sleep(2 * DAY, name="s"), lambda: Sleep("input.at", name="s")]),
    "WaitFor": (
        lambda: WaitFor("x", "y", name="w", payload=int, timeout=DAY, on_timeout=[A]),
        [
            lambda: WaitFor("x", "y", name="w", payload=int, timeout=DAY, on_timeout=[]),
            lambda: WaitFor("x", "y", name="w", payload=int, timeout=DAY),
            lambda: WaitFor("y", "x", name="w", payload=int, timeout=DAY, on_timeout=[A]),
        ],
    ),
    "Try": (
        lambda: Try(A, B, retry=Retry(stop=stop_after_attempt(2)), otherwise=[B], name="t"),
        [
            lambda: Try(A, B, retry=Retry(stop=stop_after_attempt(3)), otherwise=[B], name="t"),
            lambda: Try(A, B, retry=Retry(stop=stop_after_attempt(2)), otherwise=[], name="t"),
            lambda: Try(A, B, retry=Retry(stop=stop_after_attempt(2)), name="t"),
        ],
    ),
}


@pytest.mark.parametrize("kind", MADE)
def test_constructs_that_are_made_alike_are_equal(kind: str):
    make, others = MADE[kind]
    assert type(make()).__name__ == kind
    assert make() == make()
    assert {make(), make()} == {make()}
    assert [other for other in others if other() == make()] == []


@pytest.mark.parametrize("kind", MADE)
def test_a_construct_cannot_be_changed(kind: str):
    made = MADE[kind][0]()
    for name in (*vars(made), "anything"):
        with pytest.raises(AttributeError):
            setattr(made, name, None)
        with pytest.raises(AttributeError):
            delattr(made, name)


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (Parallel(Sleep("input.at", name="s"), []), "Parallel(Sleep('input.at', name='s'), [])"),
        (Graph(WaitFor("x"), after={"x": []}), "Graph(WaitFor('x'), after={'x': []})"),
        (Choice(pick, {"x": []}), "Choice(pick, {'x': []})"),
        (
            Choice("input.x", [], otherwise=[WaitFor("y")], name="c"),
            "Choice('input.x', [], otherwise=[WaitFor('y')], name='c')",
        ),
        (ForEach("input.users", [WaitFor("x")], name="f"), "ForEach('input.users', [WaitFor('x')], name='f')"),
        (SubSaga(CHILD, pivot=True), "SubSaga(<Saga child: a>, pivot=True)"),
        (WaitFor("x", "y", payload=int, on_timeout=[]), "WaitFor('x', 'y', payload=int, on_timeout=[])"),
        (Try(WaitFor("x"), otherwise=[], name="t"), "Try(WaitFor('x'), otherwise=[], name='t')"),
    ],
)
def test_a_construct_shows_how_it_was_made(made: Construct, shown: str):
    assert repr(made) == shown


def test_what_a_construct_was_made_of_can_be_changed_without_changing_it():
    body, cases, after, bind = [A], {"x": [A]}, {"a": ["b"]}, {"x": "input.x"}
    made = (
        ForEach("input.x", body, name="f"),
        Choice("input.x", cases, name="c"),
        Graph(A, B, after=after),
        SubSaga(CHILD, bind=bind),
    )
    body.clear()
    cases["x"].clear()
    cases.clear()
    after["a"].clear()
    bind.clear()
    assert made == (
        ForEach("input.x", [A], name="f"),
        Choice("input.x", {"x": [A]}, name="c"),
        Graph(A, B, after={"a": ["b"]}),
        SubSaga(CHILD, bind={"x": "input.x"}),
    )


EACH: dict[str, Callable[[Step], Construct]] = {
    "Parallel": lambda inner: Parallel(inner, WaitFor("p")),
    "a branch": lambda inner: Parallel([WaitFor("p"), inner]),
    "Graph": lambda inner: Graph([inner], WaitFor("p")),
    "a way": lambda inner: Choice("input.x", {"x": [inner]}, name="c"),
    "otherwise": lambda inner: Choice("input.x", {"x": []}, otherwise=[inner], name="c"),
    "ForEach": lambda inner: ForEach("input.xs", [inner], name="f"),
    "on_timeout": lambda inner: WaitFor("w", timeout=DAY, on_timeout=[inner]),
    "Try": lambda inner: Try(inner, otherwise=[], name="t"),
    "the other way": lambda inner: Try(WaitFor("p"), otherwise=[inner], name="t"),
}
INNER: dict[str, Callable[[], Construct]] = {
    "Step": lambda: step("inner"),
    "Parallel": lambda: Parallel(step("inner")),
    "Graph": lambda: Graph(step("inner")),
    "Choice": lambda: Choice("input.y", [step("inner")], name="inner_c"),
    "ForEach": lambda: ForEach("input.ys", [step("inner")], name="inner_f", item="inner_item"),
    "SubSaga": lambda: SubSaga(CHILD),
    "Sleep": lambda: Sleep(DAY, name="inner_s"),
    "WaitFor": lambda: WaitFor("inner_w"),
    "Try": lambda: Try(step("inner"), otherwise=[step("inner_o")], name="inner_t"),
}


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("outer", EACH)
def test_each_may_stand_wherever_a_step_may(outer: str, inner: str):
    found = Definition(EACH[outer](INNER[inner]()))  # type: ignore[arg-type]
    assert f"'{next(iter(found.walk.names_in(INNER[inner]())))[0]}'" in repr(found.doc)


@pytest.mark.parametrize("outer", EACH)
def test_names_are_unique_in_the_saga_however_deep(outer: str):
    text = refused(EACH[outer](step("same")), step("same"))
    assert "saga 'shop', step 'same': two steps have that name; give one of them another with name=" in text


def test_names_in_a_child_are_apart():
    Definition(A, SubSaga(CHILD))


@pytest.mark.parametrize("outer", EACH)
def test_what_is_no_construct_is_refused_wherever_it_stands(outer: str):
    text = refused(EACH[outer](task_of(named("bare"))))
    assert lacks(text, ["saga 'shop': expected a Step", "wrap it: Step(bare)"]) == [], text
