"""Scopes: each turns back by itself, with those inside it. No construct makes one yet, so they are put into an outline here."""

from __future__ import annotations

from dataclasses import replace

from saga.core.events import RetryRequested
from saga.core.outline import Fork, Lane, Outline, StepOutline
from saga.core.permission import check
from saga.core.scope import OUTERMOST, Direction, Scope
from saga.core.state import Status

from .helpers import Log, fork, outline_of

INNER = "inner"


def scoped(outline: Outline, lane: str) -> Outline:
    """The outline, with a scope of its own for one lane and those below it."""

    def within(of: Lane, scope: str) -> Lane:
        scope = INNER if of.name == lane else scope
        items: list[StepOutline | Fork] = []
        for item in of.items:
            if isinstance(item, Fork):
                items.append(Fork(tuple(within(branch, scope) for branch in item.lanes)))
            else:
                items.append(replace(item, scope=scope))
        return Lane(of.name, tuple(items), of.parent, scope)

    outline.main = within(outline.main, OUTERMOST)
    outline.lanes = {each.name: each for each in outline.main.lanes()}
    outline.steps = {each.name: each for each in outline.main.steps()}
    outline.scopes = {OUTERMOST: (OUTERMOST,), INNER: (INNER, OUTERMOST)}
    return outline


def two_scopes() -> Log:
    """``b`` and ``c`` after each other, and ``d`` beside ``e`` below ``c``, in a scope of their own; ``f`` beside them."""
    return Log(scoped(outline_of("a", fork(["b", "c", fork("d", "e")], "f"), "g"), "main/b"))


def directions(log: Log) -> tuple[Direction, Direction]:
    return log.state.scopes[OUTERMOST].direction, log.state.scopes[INNER].direction


def test_what_fails_in_a_scope_turns_back_that_scope_only():
    log = two_scopes().did("a", "b", "c").started("d", "e", "f").failed("d")
    assert directions(log) == (Direction.FORWARD, Direction.BACKWARD)
    assert (log.state.scopes[INNER].reason, log.state.rollback_reason) == ("d: it broke", None)
    assert log.todo() == ["Wait e 1", "Wait f 1"]
    assert log.succeeded("e").todo() == ["Undo d 1", "Undo e 1", "Wait f 1"]
    assert log.undid("d", "e").todo() == ["Undo c 1", "Wait f 1"]
    log.succeeded("f").undid("c", "b")
    assert log.state.scopes[INNER].over
    assert not log.state.scopes[OUTERMOST].over
    assert log.status is Status.RUNNING
    assert log.todo() == ["Run g 1"]


def test_no_action_is_tried_again_in_a_scope_that_turns_back():
    log = two_scopes().did("a", "b", "c").started("d", "e", "f").will_retry("e").will_retry("f").failed("d")
    assert (log.track("e").over, log.track("f").over) == (True, False)
    assert [log.step(name).undo is not None for name in "abcdef"] == [False, True, True, True, True, False]


def test_a_saga_that_turns_back_takes_its_scopes_along():
    log = two_scopes().did("a", "b").started("c").cancel()
    assert directions(log) == (Direction.BACKWARD, Direction.BACKWARD)
    assert log.todo() == ["Wait c 1"]
    log.succeeded("c").undid("c", "b", "a")
    assert log.status is Status.COMPENSATED


def test_a_scope_that_had_turned_back_goes_on_as_part_of_the_saga_that_does():
    log = two_scopes().did("a", "b", "c").started("d", "e").failed("d").succeeded("e").undid("e").cancel()
    assert log.todo() == ["Undo d 1"]
    log.undid("d", "c", "b", "a")
    assert log.status is Status.COMPENSATED


def test_the_counts_of_a_scope_are_in_those_of_the_scopes_around_it():
    log = two_scopes()
    assert log.state.scopes == {OUTERMOST: Scope(left=7), INNER: Scope(left=4)}
    log.did("a", "b").started("c", "f")
    assert log.state.scopes == {OUTERMOST: Scope(open=2, left=5), INNER: Scope(open=1, left=3)}
    whole, inner = log.failed("c").state.scopes.values()
    assert ((whole.open, whole.left, whole.owed), (inner.open, inner.left, inner.owed)) == ((1, 5, 2), (0, 3, 2))


def test_a_retry_is_for_the_actions_of_scopes_that_go_forward_and_the_undos_of_those_that_go_back():
    log = two_scopes().did("a", "b").started("c", "f").will_retry("f", wait=600).failed("c", effect=False)
    check("place_order[1]", log.outline, log.state, RetryRequested("ann"))
    log.retry()
    assert log.todo() == ["Run f 2", "Undo b 1"]


def test_steps_and_lanes_of_today_are_in_the_outermost_scope():
    outline = outline_of("a", fork("b", "c"))
    assert {step.scope for step in outline.steps.values()} == {lane.scope for lane in outline.lanes.values()} == {""}
    assert outline.scopes == {OUTERMOST: (OUTERMOST,)}


def test_scopes_are_no_part_of_what_is_stored():
    plain, with_scope = (outline_of("a", fork(["b", "c"], "f")) for _ in range(2))
    scoped(with_scope, "main/b")
    assert (with_scope.to_json(), with_scope.fingerprint) == (plain.to_json(), plain.fingerprint)
