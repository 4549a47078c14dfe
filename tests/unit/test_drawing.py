"""A saga's structure is drawn from its stored document alone, as a tree and as a flowchart."""

from __future__ import annotations

import re
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from tenacity import stop_after_attempt

from saga import Choice, ForEach, Graph, Parallel, Retry, Saga, Sleep, Step, SubSaga, Try, WaitFor
from saga.language import drawing

from .definitions import Definition, function_of, named, step
from .helpers import task_of

DAY = timedelta(days=1)
PIVOT = Step(task_of(named("go")), pivot=True)


def outline_of(*items: Any) -> Any:
    """What a drawing needs of an outline."""
    return SimpleNamespace(name="shop", doc=Definition(*items).doc)


def tree(*items: Any, **options: Any) -> list[str]:
    return drawing.text(outline_of(*items), **options).splitlines()


def chart(*items: Any) -> list[str]:
    return [line.strip() for line in drawing.mermaid(outline_of(*items)).splitlines()]


CHILD = Saga("bill", Step(task_of(named("pay")), compensate=task_of(named("unpay"))))


def test_every_construct_is_a_line_with_what_is_inside_it_below():
    drawn = tree(
        Parallel(step("a"), [step("b"), step("c")]),
        Graph(step("dns"), [step("order"), step("install")], after={"order": ["dns"]}),
        Choice("input.plan", {"big": [step("audit")], True: []}, name="by_plan"),
        ForEach("input.users", [step("invite")], name="invites", item="user"),
        Try(step("fast"), retry=Retry(stop=stop_after_attempt(2)), otherwise=[step("slow")], name="scope"),
        SubSaga(CHILD),
        Sleep(DAY, name="rest"),
        Sleep("input.at", name="until"),
        WaitFor("yes", "no", name="answer", timeout=DAY, on_timeout=[step("remind")]),
        step("hold", confirm=task_of(function_of("hold", "capture"))),
    )
    assert [re.sub(r"(\w) {2,}", r"\1  ", line) for line in drawn] == [
        "shop",
        "├─┬ in parallel",
        "│ ├─ a  shop.a  nothing to undo",
        "│ └─┬ in sequence",
        "│   ├─ b  shop.b  nothing to undo",
        "│   └─ c  shop.c  nothing to undo",
        "├─┬ as soon as each can",
        "│ ├─ dns  shop.dns  nothing to undo",
        "│ └─┬ in sequence  after dns",
        "│   ├─ order  shop.order  nothing to undo",
        "│   └─ install  shop.install  nothing to undo",
        "├─┬ by_plan  one way, by input.plan",
        '│ ├─┬ "big"',
        "│ │ └─ audit  shop.audit  nothing to undo",
        "│ ├─ true  goes on",
        "│ └─ otherwise  goes on",
        "├─┬ invites  for each user of input.users",
        "│ └─ invite  shop.invite  nothing to undo",
        "├─┬ scope  tried, and undone as a whole",
        "│ ├─ fast  shop.fast  nothing to undo",
        "│ └─┬ otherwise",
        "│   └─ slow  shop.slow  nothing to undo",
        "├─ bill  saga bill",
        "├─ rest  sleeps",
        "├─ until  sleeps until input.at",
        "├─┬ answer  waits for yes or no",
        "│ └─┬ on timeout",
        "│   └─ remind  shop.remind  nothing to undo",
        "└─ hold  shop.hold  nothing to undo  ✓ shop.capture",
    ]


def test_a_child_is_drawn_inside_its_parent_where_it_is_known():
    drawn = tree(
        SubSaga(CHILD, name="billing", pivot=True), Step(task_of(named("last"))), children={"bill": CHILD.outline}
    )
    assert drawn == [
        "shop",
        "├─┬ billing  saga bill  ◆ pivot: no way back once it completed",
        "│ └─ pay     shop.pay  ↩ shop.unpay",
        "└─ last      shop.last  → forward only",
    ]


def test_what_follows_the_pivot_of_a_way_goes_forward_only():
    other = Step(task_of(named("stay")), pivot=True)
    drawn = tree(
        Choice("input.x", [PIVOT, Step(task_of(named("a")))], otherwise=[step("b"), other], name="c"),
        Step(task_of(named("d"))),
    )
    assert [line.split("  ")[-1] for line in drawn if "shop." in line] == [
        "◆ pivot: no way back once it succeeded",
        "→ forward only",
        "nothing to undo",
        "◆ pivot: no way back once it succeeded",
        "→ forward only",
    ]


def test_a_choice_is_a_rhombus_whose_ways_meet_in_what_follows():
    drawn = chart(Choice("input.plan", {"big": [step("audit")]}, name="by_plan"), step("last"))
    assert drawn == [
        "flowchart TD",
        'n0(["shop"])',
        'n1{"by_plan<br/>one way, by input.plan"}',
        "n0 --> n1",
        'n2["audit<br/>shop.audit"]',
        'n1 -->|"#quot;big#quot;"| n2',
        'n3["last<br/>shop.last"]',
        "n2 --> n3",
        'n1 -->|"otherwise"| n3',
        "n4([completed])",
        "n3 --> n4",
    ]


def test_arrows_of_a_graph_lead_from_item_to_item():
    drawn = chart(Graph(step("dns"), step("bucket"), step("order"), after={"order": ["dns", "bucket"]}))
    nodes = {line.split("<br/>")[0].split('"')[1]: line.split("[")[0] for line in drawn if "<br/>" in line}
    gate = next(line.split("((")[0] for line in drawn if "((&))" in line)
    join = next(line.split("[")[0] for line in drawn if "join" in line)
    assert {f"{nodes['dns']} --> {gate}", f"{nodes['bucket']} --> {gate}", f"{gate} --> {nodes['order']}",
            f"{nodes['order']} --> {join}"} <= set(drawn)  # fmt: skip
    assert f"{nodes['dns']} --> {join}" not in drawn


def test_what_is_inside_a_construct_is_framed_and_no_edge_draws_others_into_it():
    drawn = chart(
        step("first"),
        ForEach("input.users", [Try(step("fast"), otherwise=[step("slow")], name="scope")], name="invites"),
        step("last"),
    )
    assert [line for line in drawn if line.startswith(("subgraph", "end"))] == [
        'subgraph n2["invites: for each item of input.users"]',
        'subgraph n3["scope: tried, and undone as a whole"]',
        "end",
        "end",
    ]
    assert drawn.index("n1 --> n4") > max(place for place, line in enumerate(drawn) if line == "end")
    assert 'n3 -.->|"otherwise"| n5' in drawn


def test_waits_sleeps_and_children_have_shapes_of_their_own():
    drawn = chart(
        Sleep(DAY, name="rest"),
        WaitFor("yes", timeout=DAY, on_timeout=[]),
        SubSaga(CHILD),
        SubSaga(CHILD, name="again", pivot=True),
    )
    assert 'n1[/"rest<br/>sleeps"/]' in drawn
    assert 'n2[/"yes<br/>waits for yes"/]' in drawn
    assert {"n2 --> n3", 'n2 -->|"on timeout"| n3'} <= set(drawn)
    assert 'n3[["bill<br/>saga bill"]]' in drawn
    assert any(line.startswith('n4{{"again<br/>saga bill') for line in drawn)
