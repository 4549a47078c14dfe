"""A saga may begin with any construct: then the worker that claims its lane decides what comes first."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from saga.core.events import SagaStarted
from saga.core.ref import Phase
from saga.core.rows import Place
from saga.core.text import digest
from saga.store.values import Opening, ValueRefused
from tests.unit.helpers import step

from .stand import QUEUE, Stand

CHOICE = {"choice": "by_plan", "on": "input.plan", "cases": [["basic", [step("a")]]], "otherwise": [step("b")]}
EACH = {"for_each": "users", "over": "input.users", "item": "user", "body": [step("invite")]}
GRAPH = {"graph": [[step("a")], [step("b")], [CHOICE | {"choice": "c"}]], "after": {"1": [0]}}
TRY = {"try": "attempt", "body": [{"parallel": [[step("a")], [EACH]]}], "otherwise": [step("z")]}


class Definition:
    """As much of a definition as a store looks at."""

    def __init__(self, *steps: Any) -> None:
        self.name = "begins"
        self._doc = {"saga": self.name, "steps": list(steps)}
        self.fingerprint = digest(self._doc)

    def to_json(self) -> Any:
        return self._doc


def start(stand: Stand, definition: Definition, *places: tuple[str, str, int | None]) -> UUID:
    """A saga of that definition, with these lanes, steps and attempts."""
    stand.store.register(definition, 1.0)  # type: ignore[arg-type]
    rows = [Place(lane, step, attempt, Phase.STEP, QUEUE, sent=True) for lane, step, attempt in places]
    opening = Opening(uuid4(), "begins", definition.fingerprint, None, None, "hash", SagaStarted(), rows, True)
    assert stand.store.open([opening], 1.0) == {opening.id}
    return opening.id


@pytest.mark.parametrize(
    ("item", "places"),
    [
        (CHOICE, [("main", "by_plan", None)]),
        (CHOICE, [("main", "by_plan", 1)]),
        (EACH, [("main", "users", None)]),
        ({"child": "billing", "saga": "bill"}, [("main", "billing", None)]),
        ({"sleep": "nap"}, [("main", "nap", None)]),
        ({"wait": "approval", "signals": ["approval"]}, [("main", "approval", None)]),
        (GRAPH, [("main/a", "a", 1), ("main/c", "c", None)]),
        (TRY, [("main", "attempt", None)]),
        (TRY, [("main/a", "a", 1), ("main/users", "users", None)]),
        ({"parallel": [[step("a")], [CHOICE]]}, [("main/a", "a", 1), ("main/by_plan", "by_plan", None)]),
        ({"parallel": [[step("a")], [{"parallel": [[EACH], [step("b")]]}]]}, [("main/a", "a", 1), ("main/users", "users", None)]),
    ],
)  # fmt: skip
def test_a_saga_begins_with_what_its_definition_may_begin_with(stand: Stand, item: Any, places: Any) -> None:
    saga = start(stand, Definition(item, step("z")), *places)
    assert [(row.lane, row.step, row.attempt) for row in stand.rows(saga)] == sorted(places)


@pytest.mark.parametrize(
    ("item", "places"),
    [
        (CHOICE, [("main", "a", 1)]),
        (CHOICE, [("main", "by_plan", 2)]),
        (CHOICE, [("elsewhere", "by_plan", None)]),
        (CHOICE, []),
        (EACH, [("main/invite[0]", "invite[0]", 1)]),
        (GRAPH, [("main/b", "b", 1)]),
        (TRY, [("main", "z", 1)]),
        (step("a"), [("main", "a", None)]),
        ({"parallel": [[step("a")], [step("b")]]}, [("main/a", "a", 1)]),
        ({"parallel": [[step("a")], [step("b")]]}, [("main/a", "a", 1), ("main/b", "b", None)]),
    ],
)
def test_a_saga_begins_with_nothing_else(stand: Stand, item: Any, places: Any) -> None:
    with pytest.raises(ValueRefused, match="at the first steps of its definition only"):
        start(stand, Definition(item, step("y")), *places)


def test_an_address_of_what_comes_first_may_begin_a_saga(stand: Stand) -> None:
    saga = start(stand, Definition(TRY), ("main/a#1", "a#1", 1))
    assert stand.row(saga).step == "a#1"
