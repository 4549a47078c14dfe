"""A saga that is a part of another begins with an entry of that one, and what becomes of it makes its lane due."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from saga.core.due import Due
from saga.core.events import Abandoned, CancelRequested, CompensateRequested, Entry, Paused, RetryRequested
from saga.core.ref import Parent, Phase
from saga.core.rows import Dispatch
from saga.store.values import Addition, NewStatus, Opening, Refused, Stored, Task

from .stand import COMPLETED, FORKED, LINE, QUEUE, Stand, changes, opening_of, place, succeeded

FAR = Due(seconds=1e8)
STUCK = NewStatus("stuck", "b: it broke", False)


def opened(stand: Stand, saga: UUID, *, lane: str = "main", seq: int = 2, **said: object) -> tuple[Opening, bool]:
    """A part of a saga, begun with an entry of it, for which its lane waits; and whether that won."""
    stand.store.register(FORKED, 1.0)
    opening = opening_of(FORKED, parent=Parent(saga, lane, "bill[3]"), **said)  # type: ignore[arg-type]
    waits = changes(moved=[place(lane, "bill[3]", None, due=FAR, queue=None, priority=4)])
    return opening, stand.append(saga, Paused(), changes=waits, openings=[opening], seq=seq)


def end(stand: Stand, child: UUID, status: NewStatus, parent: Parent | None) -> Stored:
    """Change the status of a saga that is a part of another."""
    seq = len(stand.kinds(child)) + 1
    addition = Addition(child, seq, [Paused()], status=replace(status, parent=parent))
    return stand.store.append([addition], 1)[child]


def test_a_child_begins_in_the_statement_of_the_entry_that_says_so(stand: Stand) -> None:
    saga = stand.start()
    opening, won = opened(stand, saga, key="k", tags={"a": 1}, input={"b": 2}, priority=7)
    assert won
    header = stand.store.header(opening.id)
    assert header is not None
    assert (header.name, header.fingerprint, header.key, header.status, header.tags, header.realm) == (
        "forked",
        FORKED.fingerprint,
        "k",
        "running",
        {"a": 1},
        "conformance",
    )
    assert header.parent == Parent(saga, "main", "bill[3]")
    [first] = stand.store.entries(opening.id)
    assert first.data == {
        "input": {"b": 2},
        "parent": {"saga": str(saga), "lane": "main", "step": "bill[3]"},
    }
    assert first.at == header.started_at == stand.at(saga, 2)
    for row, name in zip(stand.rows(opening.id), "bc", strict=True):
        assert (row.lane, row.step, row.attempt, row.phase, row.queue) == (f"main/{name}", name, 1, "step", QUEUE)
        assert (row.priority, row.due, row.dispatches, row.worker, row.realm) == (7, None, 1, None, "conformance")
    assert [message.lane for message in opening.dispatches] == ["main/b", "main/c"]
    assert stand.store.holders("forked", ["k"]) == [(opening.id, "hash")]
    assert stand.claim(opening.id, "main/b")["main/b"].won


def test_a_child_of_an_entry_that_is_lost_is_not_there(stand: Stand) -> None:
    saga = stand.start()
    stand.append(saga, Paused())
    opening, won = opened(stand, saga)
    assert not won
    assert stand.store.header(opening.id) is None
    assert stand.rows(opening.id) == []
    assert stand.row(saga).step == "a"


def test_a_child_whose_key_another_saga_has_is_refused_with_the_entry(stand: Stand) -> None:
    saga = stand.start()
    stand.start(FORKED, key="k")
    with pytest.raises(Refused):
        opened(stand, saga, key="k")
    assert stand.kinds(saga) == ["saga_started"]
    assert stand.row(saga).step == "a"


def test_children_of_several_sagas_begin_at_once(stand: Stand) -> None:
    sagas = [stand.start() for _ in range(3)]
    stand.store.register(FORKED, 1.0)
    children = [[opening_of(LINE, parent=Parent(saga, "main", "a")) for _ in range(2)] for saga in sagas]
    stand.append(sagas[1], Paused())
    additions = [Addition(saga, 2, [Paused()], openings=each) for saga, each in zip(sagas, children, strict=True)]
    assert stand.store.append(additions, 1).keys() == {sagas[0], sagas[2]}
    there = [[stand.store.header(opening.id) is not None for opening in each] for each in children]
    assert there == [[True, True], [False, False], [True, True]]


def test_the_end_of_a_child_makes_its_parents_lane_due(stand: Stand) -> None:
    saga = stand.start()
    opening, _ = opened(stand, saga)
    assert stand.row(saga).due == pytest.approx(1e8, abs=5)
    stored = end(stand, opening.id, COMPLETED, opening.parent)
    assert stored.at == stand.at(opening.id, 2)
    assert stored.woken == (Dispatch(saga, "main", QUEUE, 4),)
    row = stand.row(saga)
    assert (row.due, row.dispatches, row.step, row.attempt, row.problem) == (None, 1, "bill[3]", None, None)
    assert row.sent == pytest.approx(0, abs=5)
    header = stand.store.header(opening.id)
    assert header is not None
    assert header.status == "completed"


def test_a_child_that_is_stuck_tells_its_parent_and_takes_it_back(stand: Stand) -> None:
    saga = stand.start()
    opening, _ = opened(stand, saga)
    assert end(stand, opening.id, STUCK, opening.parent).woken
    row = stand.row(saga)
    assert (row.due, row.problem) == (None, f"child {opening.id} (forked) is stuck: b: it broke")
    offer = stand.claim(saga)["main"]
    assert offer.due is not None
    assert stand.store.sleep_on(saga, "main", offer.due, FAR)
    assert stand.row(saga).problem == f"child {opening.id} (forked) is stuck: b: it broke"
    assert end(stand, opening.id, NewStatus("compensating", "b: it broke", False), opening.parent).woken
    assert (stand.row(saga).due, stand.row(saga).problem) == (None, None)


def test_a_status_that_a_parent_need_not_know_wakes_nobody(stand: Stand) -> None:
    saga = stand.start()
    opening, _ = opened(stand, saga)
    assert end(stand, opening.id, NewStatus("paused", None, False), opening.parent).woken == ()
    assert stand.row(saga).due == pytest.approx(1e8, abs=5)


def test_a_lane_that_a_worker_has_or_that_is_at_an_attempt_is_not_woken(stand: Stand) -> None:
    saga = stand.start()
    opening, _ = opened(stand, saga)
    stand.append(saga, Paused(), changes=changes(moved=[place(attempt=2, due=FAR)]))
    assert end(stand, opening.id, STUCK, opening.parent).woken == ()
    stand.append(saga, Paused(), changes=changes(uuid4(), moved=[place(attempt=2, owned=True, watch=100.0)]))
    assert end(stand, opening.id, COMPLETED, opening.parent).woken == ()
    assert (stand.row(saga).worker, stand.row(saga).problem) == (1, None)
    assert end(stand, opening.id, COMPLETED, Parent(uuid4(), "main", "b")).woken == ()


def test_children_that_end_together_each_tell_their_parent(stand: Stand) -> None:
    parent, other = stand.start(FORKED), stand.start()
    children = [opened(stand, parent, lane=f"main/{name}", seq=seq)[0] for seq, name in enumerate("bc", 2)]
    additions = [
        Addition(child.id, 2, [Paused()], status=replace(COMPLETED, parent=child.parent)) for child in children
    ]
    found = stand.store.append([*additions, Addition(other, 2, [Paused()])], 1)
    woken = {saga: [message.lane for message in stored.woken] for saga, stored in found.items()}
    assert woken == {children[0].id: ["main/b"], children[1].id: ["main/c"], other: []}
    assert [row.due for row in stand.rows(parent)] == [None, None]


def test_an_end_that_is_lost_tells_nobody(stand: Stand) -> None:
    saga = stand.start()
    opening, _ = opened(stand, saga)
    stand.append(opening.id, Paused())
    lost = Addition(opening.id, 2, [Paused()], status=replace(COMPLETED, parent=opening.parent))
    assert stand.store.append([lost], 1) == {}
    assert stand.row(saga).due == pytest.approx(1e8, abs=5)


def test_what_an_operator_does_to_a_child_tells_its_parent_by_the_relay(stand: Stand) -> None:
    saga = stand.start()
    opening, _ = opened(stand, saga)
    stuck = Addition(opening.id, 2, [RetryRequested()], status=NewStatus("stuck", "b: it broke", False))
    assert stand.store.request(stuck)
    assert stand.row(saga).problem == f"child {opening.id} (forked) is stuck: b: it broke"
    assert stand.store.request(
        Addition(opening.id, 3, [CancelRequested()], status=NewStatus("compensating", "no", False))
    )
    assert (stand.row(saga).due, stand.row(saga).problem, stand.row(saga).sent) == (None, None, None)
    assert stand.relay().do(Task.SEND_DUE) == ["main"]
    assert stand.store.request(Addition(opening.id, 4, [Abandoned()], status=NewStatus("abandoned", "no", True)))
    assert stand.row(saga).sent is None


def test_a_completed_child_that_is_taken_up_again_and_ends_tells_its_parent(stand: Stand) -> None:
    saga = stand.start()
    opening, _ = opened(stand, saga)
    end(stand, opening.id, COMPLETED, opening.parent)
    asked = Addition(opening.id, 3, [CompensateRequested()], status=NewStatus("compensating", "no", False))
    assert stand.store.request(asked)
    assert end(stand, opening.id, NewStatus("compensated", "no", True), opening.parent).woken


# --- lanes that sleep on ----------------------------------------------------------------------------------------------


def seen(stand: Stand, saga: UUID) -> datetime:
    """When the lane of a saga that is to be decided about was due."""
    due = stand.claim(saga)["main"].due
    assert due is not None
    return due


def test_a_lane_of_which_nothing_is_to_be_decided_sleeps_on(stand: Stand) -> None:
    saga = stand.start()
    stand.append(saga, Paused(), changes=changes(moved=[place(attempt=None, sent=True)]))
    assert stand.store.sleep_on(saga, "main", seen(stand, saga), Due(seconds=1000.0))
    row = stand.row(saga)
    assert (row.sent, row.dispatches, row.attempt, row.worker) == (None, 0, None, None)
    assert row.due == pytest.approx(10, abs=5)
    stand.pass_time(20)
    assert stand.store.sleep_on(saga, "main", seen(stand, saga), Due(seconds=1000.0))
    assert stand.row(saga).due == pytest.approx(1000, abs=5)
    stand.pass_time(2000)
    moment = stand.now() + timedelta(seconds=500)
    assert stand.store.sleep_on(saga, "main", seen(stand, saga), Due(moment))
    assert stand.row(saga).due == pytest.approx(500, abs=5)
    assert stand.claim(saga)["main"].due is None


def test_a_lane_that_was_due_at_once_sleeps_no_longer_than_it_wants_to(stand: Stand) -> None:
    saga = stand.start()
    stand.append(saga, Paused(), changes=changes(moved=[place(attempt=None)]))
    moment = stand.now() - timedelta(seconds=100)
    assert stand.store.sleep_on(saga, "main", seen(stand, saga), Due(moment))
    assert stand.row(saga).due == pytest.approx(-100, abs=5)


def test_a_lane_that_was_woken_meanwhile_does_not_sleep_on(stand: Stand) -> None:
    saga = stand.start()
    opening, _ = opened(stand, saga)
    stand.pass_time(2e8)
    before = seen(stand, saga)
    end(stand, opening.id, COMPLETED, opening.parent)
    assert not stand.store.sleep_on(saga, "main", before, FAR)
    assert stand.row(saga).due is None
    assert not stand.store.sleep_on(saga, "nowhere", before, FAR)
    assert not stand.store.sleep_on(uuid4(), "main", before, FAR)


def test_a_lane_at_an_attempt_or_with_an_owner_does_not_sleep_on(stand: Stand) -> None:
    saga = stand.start(delay=1.0)
    stand.append(saga, Paused(), changes=changes(moved=[place(attempt=None, due=Due(seconds=1.0))]))
    stand.pass_time(5)
    before = seen(stand, saga)
    moment = before
    stand.append(saga, Paused(), changes=changes(moved=[place(attempt=1, due=Due(moment))]))
    assert not stand.store.sleep_on(saga, "main", before, FAR)
    owned = place(attempt=None, owned=True, watch=100.0, due=Due(moment))
    stand.append(saga, Paused(), changes=changes(uuid4(), moved=[owned]))
    assert not stand.store.sleep_on(saga, "main", before, FAR)


# --- what else may keep an entry out ------------------------------------------------------------------------------------


def test_nothing_is_appended_before_its_time(stand: Stand) -> None:
    saga = stand.start()
    soon = stand.now() + timedelta(seconds=100)
    assert not stand.append(saga, Paused(), not_before=soon)
    assert stand.append(saga, Paused(), not_before=stand.now() - timedelta(seconds=100))
    early, late = stand.start(), stand.start()
    additions = [Addition(early, 2, [Paused()], not_before=soon), Addition(late, 2, [Paused()])]
    assert stand.store.append(additions, 1).keys() == {late}


def test_an_action_has_no_more_time_than_it_has_as_a_whole(stand: Stand) -> None:
    saga = stand.start()
    stand.append(saga, Paused(), changes=changes(moved=[place(until=Due(seconds=100.0))]))
    assert stand.row(saga).until == pytest.approx(100, abs=5)
    assert stand.claim(saga)["main"].won
    [started] = stand.store.entries(saga, 2)
    assert started.data["timeout"] == pytest.approx(100, abs=5)
    assert stand.row(saga).due == pytest.approx(100, abs=5)
    stand.pass_time(110)
    assert stand.relay().do(Task.TIME_OUT) == ["main"]


def test_an_action_whose_time_is_over_is_left_to_be_decided_about(stand: Stand) -> None:
    saga = stand.start()
    until = Due(stand.now() + timedelta(seconds=100))
    stand.append(saga, Paused(), changes=changes(added=[place("main/b", until=until)]))
    undo = place("main/c", phase=Phase.COMPENSATION, until=Due(seconds=100.0))
    stand.append(saga, Paused(), changes=changes(added=[undo]))
    stand.pass_time(150)
    offer = stand.claim(saga, "main/b")["main/b"]
    assert (offer.attempt, offer.open, offer.won, len(offer.entries)) == (None, True, False, 3)
    assert stand.claim(saga, "main/c")["main/c"].won


def test_a_move_that_names_no_end_of_the_time_takes_it_away(stand: Stand) -> None:
    saga = stand.start()
    stand.append(saga, Paused(), changes=changes(moved=[place(until=Due(seconds=100.0))]))
    stand.append(saga, Paused(), changes=changes(moved=[place()]))
    assert stand.row(saga).until is None
    assert stand.claim(saga)["main"].won
    last: Entry = stand.store.entries(saga)[-1]
    assert last.data == {"timeout": 300.0}
    assert stand.append(saga, succeeded("b"))
