"""Addresses: a step's name with where it runs, and what is keyed by them."""

from __future__ import annotations

from typing import Any

import pytest

from saga import Saga, Step
from saga.core.address import Address, Element, Round, name_of
from saga.core.events import AttemptEvent, AttemptFailed, AttemptStarted, AttemptSucceeded, Entry, SagaStarted
from saga.core.machine import beginning, extend, replay
from saga.core.outcome import Broken, Report
from saga.core.outline import Outline
from saga.core.ref import AttemptRef, way
from saga.core.state import NOTHING_YET, State, StepStatus
from saga.core.verdict import verdict
from saga.errors import DefinitionError

from .helpers import NOON, outline_of, task_of

SPELLED: dict[str, Address] = {
    "pick": Address("pick"),
    "invite user": Address("invite user"),
    "pick[0]": Address("pick", (Element(0),)),
    "pick[12][3]": Address("pick", (Element(12), Element(3))),
    "pick#2": Address("pick", (Round(2),)),
    "pick[3]#2": Address("pick", (Element(3), Round(2))),
    "pick#2[3]": Address("pick", (Round(2), Element(3))),
    "pick#1#2": Address("pick", (Round(1), Round(2))),
    "pick#2#1": Address("pick", (Round(2), Round(1))),
}


@pytest.mark.parametrize("text", SPELLED)
def test_an_address_has_one_spelling(text: str):
    assert Address.parse(text) == SPELLED[text]
    assert str(SPELLED[text]) == text
    assert name_of(text) == SPELLED[text].name


def test_first_rounds_are_left_out_where_all_are_first():
    assert str(Address("pick", (Round(1),))) == "pick"
    assert str(Address("pick", (Round(1), Element(3), Round(1)))) == "pick[3]"


@pytest.mark.parametrize(
    "text", ["", "[3]", "#2", "pick[", "pick[]", "pick[-1]", "pick[03]", "pick#0", "pick#1", "pick#", "pick]", "pick[3]x",
             "pick[1]#1", "pick[\u0663]"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str):
    with pytest.raises(ValueError, match="no address of a step"):
        Address.parse(text)


@task_of
def act(): ...


@task_of
def undo(): ...


@pytest.mark.parametrize("name", ["pick[0]", "pick#2", "]"])
def test_a_new_definition_has_no_name_that_looks_like_an_address(name: str):
    with pytest.raises(DefinitionError, match="cannot hold"):
        Saga("order", Step(act, name=name))


def test_a_stored_definition_may_have_such_names():
    outline = outline_of("pick#2", "pick")
    assert outline.step("pick#2").name == "pick#2"
    entries = [Entry(1, SagaStarted(), NOON), Entry(2, AttemptStarted("main", "pick#2", 1, timeout=5.0), NOON)]
    assert replay(outline, entries).steps["pick#2"].status is StepStatus.RUNNING


def test_a_step_and_its_jobs_are_found_by_address():
    saga = Saga("order", Step(act, compensate=undo, name="pick"))
    assert saga.outline.step("pick[3]#2") is saga.outline.step("pick") is saga.outline.steps["pick"]
    assert saga.job("pick[3]", undo=False) is saga.actions["pick"]
    assert saga.job("pick#2", undo=True) is saga.undos["pick"]
    with pytest.raises(KeyError):
        saga.outline.step("pack[3]")


# --- the machine, keyed by addresses: no construct begins them yet, so they are put into the state here ---------------------


def begun(outline: Outline, *addresses: str) -> State:
    state = beginning(outline)
    state.steps.update(dict.fromkeys(addresses, NOTHING_YET))
    return state


def after(outline: Outline, state: State, *events: AttemptEvent) -> State:
    state = state.copy()
    extend(outline, state, [Entry(seq, event, NOON, 1) for seq, event in enumerate(events, state.seq + 1)])
    return state


def ref(address: str, *, undo: bool = False) -> Any:
    return AttemptRef("main", address, 1, way(undo))


def test_what_happens_at_one_address_is_kept_apart_from_the_others():
    outline = outline_of("a")
    state = after(
        outline,
        begun(outline, "a[0]", "a[1]"),
        AttemptStarted(*ref("a[0]"), timeout=5.0),
        AttemptStarted(*ref("a[1]"), timeout=5.0),
        AttemptSucceeded(*ref("a[1]"), result=7),
    )
    assert (state.track("a[0]", False).status, state.track("a[1]", False).status) == ("running", "succeeded")
    assert state.steps["a"] == NOTHING_YET
    assert state.results() == {"a[1]": 7}


def test_a_failure_at_one_address_turns_back_and_owes_the_undo_of_each_that_had_an_effect():
    outline = outline_of("a")
    state = after(
        outline,
        begun(outline, "a[0]", "a[1]", "a[2]"),
        AttemptStarted(*ref("a[0]"), timeout=5.0),
        AttemptSucceeded(*ref("a[0]")),
        AttemptStarted(*ref("a[1]"), timeout=5.0),
    )
    failed = verdict(outline, state, ref("a[1]"), Broken(Report("it broke")), None)
    assert failed == AttemptFailed(*ref("a[1]"), outcome="unknown", error="it broke")
    state = after(outline, state, failed)
    assert state.rollback_reason == "a[1]: it broke"
    assert state.undos_owed == ("a[0]", "a[1]")
    state = after(outline, state, AttemptStarted(*ref("a[1]", undo=True), timeout=5.0))
    assert state.track("a[1]", True).status is StepStatus.RUNNING
    assert state.track("a[0]", True).status is StepStatus.PENDING


def test_what_a_person_is_asked_about_is_the_address():
    outline = outline_of("a")
    state = begun(outline, "a[0]", "a[1]")
    state.asks = frozenset({"a"})
    state = after(
        outline,
        state,
        AttemptStarted(*ref("a[1]"), timeout=5.0),
        AttemptFailed(*ref("a[1]"), outcome="unknown", error="no"),
    )
    assert state.stuck_on == {("a[1]", False): "in doubt: a[1]: no"}


def test_an_entry_of_an_address_that_has_not_begun_changes_nothing():
    outline = outline_of("a")
    state = begun(outline, "a[0]")
    assert after(outline, state, AttemptStarted(*ref("a[7]"), timeout=5.0)).steps == state.steps
