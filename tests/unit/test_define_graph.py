"""Graph: an item waits for the items whose results it names, and for what ``after`` lists."""

from __future__ import annotations

from typing import Any

import pytest

from saga import Choice, ForEach, Graph, Parallel, Sleep, Step, SubSaga
from saga.language.definition import Saga

from .definitions import Definition, function_of, lacks, named, refused, step, taking
from .helpers import task_of


def graph_of(definition: Definition, place: int = 0) -> tuple[list[list[str]], dict[str, list[int]]]:
    """The first names of the items' steps, and which item waits for which."""
    doc = definition.doc[place]
    return [[item.get("step", "?") for item in items] for items in doc["graph"]], doc["after"]


def test_an_item_waits_for_the_items_that_the_parameters_of_its_action_name():
    found = Definition(Graph(step("bucket"), taking("bucket, dns", "certificate"), step("dns")))
    assert graph_of(found) == ([["bucket"], ["certificate"], ["dns"]], {"1": [0, 2]})
    assert list(found.walk.actions) == ["bucket", "dns", "certificate"]
    assert list(found.builder.in_order(found.walk.actions)) == ["bucket", "certificate", "dns"]


@pytest.mark.parametrize(
    "options",
    [
        {"compensate": task_of(function_of("dns", "undo"))},
        {"check": task_of(function_of("dns", "ask"))},
        {"confirm": task_of(function_of("dns", "capture"))},
        {"compensate": task_of(function_of("zone", "undo")), "compensate_bind": {"zone": "dns.zone"}},
    ],
    ids=["undo", "check", "confirm", "bind"],
)
def test_an_item_waits_for_what_its_other_tasks_name(options: dict[str, Any]):
    assert graph_of(Definition(Graph(step("order", **options), step("dns"))))[1] == {"0": [1]}


def test_an_item_waits_for_what_after_lists_and_a_name_inside_an_item_stands_for_it():
    after = {"second": ["third"], "first": ["third"]}
    found = Definition(Graph([step("first"), step("second")], [step("third"), step("fourth")], after=after))
    assert graph_of(found)[1] == {"0": [1]}
    found = Definition(Graph(taking("fourth", "first"), [step("third"), step("fourth")]))
    assert graph_of(found)[1] == {"0": [1]}


def test_items_that_name_nothing_of_each_other_wait_for_nothing():
    found = Definition(step("before"), Graph(taking("before", "a"), step("b")))
    assert graph_of(found, 1) == ([["a"], ["b"]], {})


def test_paths_functions_and_inputs_of_children_count_too():
    child = Saga("bill", taking("dns", "pay"))
    found = Definition(
        Graph(
            ForEach("listing.users", [step("invite")], name="invitations"),
            Choice(function_of("listing", "decide"), [step("go")]),
            Sleep("listing.until", name="rest"),
            SubSaga(child),
            step("listing"),
            step("dns"),
            [Parallel(Choice("listing.plan", {"a": []}, name="by_plan"))],
        )
    )
    assert found.doc[0]["after"] == {"0": [4], "1": [4], "2": [4], "3": [5], "6": [4]}


def test_a_graph_in_an_item_sees_the_other_items_of_the_one_around_it():
    found = Definition(Graph(Graph(taking("c", "a"), taking("a", "b")), step("c")))
    assert found.doc[0]["after"] == {"0": [1]}
    assert found.doc[0]["graph"][0][0]["after"] == {"1": [0]}


def test_all_results_of_a_graph_are_visible_after_it():
    found = Definition(Graph([step("a"), step("b")], step("c")), taking("a, b, c"))
    assert set(found.sources()) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (
            Graph(taking("b", "a"), taking("a", "b")),
            ["Graph of 'a', 'b'", "'a' waits for 'b', which waits for 'a'", "after="],
        ),
        (
            Graph(taking("b", "a"), step("b"), step("c"), after={"b": ["c"], "c": ["a"]}),
            ["'a' waits for 'b', which waits for 'c', which waits for 'a'"],
        ),
        (Graph(step("a"), after={"a": ["a"]}), ["'a' waits for 'a'"]),
        (Graph(step("create_dns"), after={"create_dns": ["creat_dns"]}), ["'creat_dns'", "did you mean 'create_dns'?"]),
        (Graph(step("a"), after={"z": ["a"]}), ["after= names 'z'", "nothing in this Graph"]),
        (Graph(step("a"), step("b"), after={"a": "b"}), ["after={'a': 'b'} expected a list"]),
        (Graph(step("a"), after=["a"]), ["after=['a'] expected a mapping"]),  # type: ignore[arg-type]
        (Graph(), ["the Graph after 'the start' is empty"]),
        (Graph([]), ["an item is empty"]),
        (Graph(Step(task_of(named("go")), pivot=True)), ["step 'go'", "cannot be inside a Graph", "move it"]),
        (Graph(taking("a", "a")), ["step 'a'", "'a' names a step that is not over by then"]),
    ],
)
def test_a_graph_is_refused_with_what_is_wrong(graph: Graph, words: list[str]):
    text = refused(graph)
    assert lacks(text, ["saga 'shop'", *words]) == [], text


def test_after_names_only_what_is_in_the_graph():
    assert "'a', which is nothing in this Graph" in refused(step("a"), Graph(step("b"), after={"b": ["a"]}))
