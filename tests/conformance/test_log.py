"""A log takes an entry at the next place, after the entry that the writer knows, and all that follows with it, or nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from saga.core.due import Due
from saga.core.events import CancelRequested, CompensateRequested, Paused, SagaStarted, StepSkipped
from saga.core.ref import Phase
from saga.errors import CorruptLog
from saga.store.values import Addition, NewStatus, Refused, Stored, ValueRefused

from .stand import COMPLETED, FORKED, LINE, Stand, changes, place, started, succeeded


def test_an_entry_goes_to_the_next_place(stand: Stand) -> None:
    saga = stand.start()
    assert stand.append(saga, started(), worker=7)
    [_, entry] = stand.store.entries(saga)
    assert (entry.seq, entry.event, entry.worker) == (2, started(), 7)


def test_the_time_that_is_returned_is_that_of_the_entry(stand: Stand) -> None:
    saga = stand.start()
    found = stand.store.append([Addition(saga, 2, [Paused()])], None)
    assert found == {saga: Stored(stand.at(saga, 2))}


@pytest.mark.parametrize("seq", [-1, 0, 1, 2, 4, 9])
def test_a_place_that_is_taken_or_not_the_next_is_lost(stand: Stand, seq: int) -> None:
    saga = stand.start()
    assert stand.append(saga, started())
    before = stand.rows(saga), stand.store.header(saga), stand.kinds(saga)
    assert not stand.append(saga, succeeded(), seq=seq, changes=changes(removed=["main"]), status=COMPLETED)
    assert (stand.rows(saga), stand.store.header(saga), stand.kinds(saga))[1:] == before[1:]
    assert len(stand.rows(saga)) == 1


def test_a_log_whose_last_entry_is_not_the_one_that_is_known_takes_nothing(stand: Stand) -> None:
    saga = stand.start()
    at = stand.at(saga, 1)
    assert not stand.append(saga, Paused(), after=at - timedelta(seconds=1))
    assert stand.append(saga, Paused(), after=at)


def test_nothing_is_appended_after_a_deadline(stand: Stand) -> None:
    saga = stand.start()
    now = stand.now()
    assert not stand.append(saga, started(), before=now - timedelta(seconds=1))
    assert stand.append(saga, started(), before=now + timedelta(hours=1))


def test_a_saga_that_there_is_not_takes_nothing(stand: Stand) -> None:
    assert stand.store.append([Addition(uuid4(), 1, [Paused()]), Addition(uuid4(), 2, [Paused()])], 1) == {}


def test_several_events_get_places_one_after_the_other_and_one_time(stand: Stand) -> None:
    saga = stand.start()
    assert stand.append(saga, started(), succeeded(), started("b"))
    assert stand.kinds(saga) == ["saga_started", "step_started", "step_succeeded", "step_started"]
    assert len({entry.at for entry in stand.store.entries(saga, 1)}) == 1


def test_of_several_sagas_each_wins_or_loses_by_itself(stand: Stand) -> None:
    first, second, third = stand.start(), stand.start(), stand.start()
    additions = [
        Addition(first, 2, [started()], changes(removed=["main"]), COMPLETED),
        Addition(second, 3, [started()], changes(removed=["main"]), COMPLETED),
        Addition(third, 2, [started()]),
    ]
    assert stand.store.append(additions, 1).keys() == {first, third}
    assert [len(stand.kinds(saga)) for saga in (first, second, third)] == [2, 1, 2]
    assert [len(stand.rows(saga)) for saga in (first, second, third)] == [0, 1, 1]
    assert stand.store.statuses([first, second]) == {first: "completed", second: "running"}


def test_nothing_of_several_sagas_happens_if_one_of_them_is_refused(stand: Stand) -> None:
    first, second = stand.start(), stand.start()
    additions = [
        Addition(first, 2, [started()]),
        Addition(second, 2, [started()], changes(added=[place("main")])),
    ]
    with pytest.raises(Refused):
        stand.store.append(additions, 1)
    assert [len(stand.kinds(saga)) for saga in (first, second)] == [1, 1]


# --- rows -------------------------------------------------------------------------------------------------------------


def test_rows_are_added_moved_and_removed_with_an_entry(stand: Stand) -> None:
    saga = stand.start(FORKED)
    token = uuid4()
    added = place("main", "d", 2, phase=Phase.COMPENSATION, priority=3, due=Due(None, 50.0))
    moved = place("main/b", "b", 2, queue="other", owned=True, watch=100.0, sent=True)
    assert stand.append(
        saga, Paused(), worker=5, changes=changes(token, added=[added], moved=[moved], removed=["main/c"])
    )
    main, branch = stand.rows(saga)
    assert (main.lane, main.step, main.attempt, main.phase, main.queue, main.priority) == (
        "main",
        "d",
        2,
        "compensation",
        "celery",
        3,
    )
    assert main.due == pytest.approx(50, abs=5)
    assert (main.sent, main.dispatches, main.worker, main.token, main.realm) == (None, 0, None, None, "conformance")
    assert (branch.lane, branch.attempt, branch.queue, branch.worker, branch.token) == ("main/b", 2, "other", 5, token)
    assert branch.due == pytest.approx(100, abs=5)
    assert (branch.dispatches, branch.watch, branch.sent is not None) == (1, 100.0, True)


def test_a_row_that_is_not_there_is_neither_moved_nor_missed(stand: Stand) -> None:
    saga = stand.start()
    assert stand.append(saga, Paused(), changes=changes(removed=["nowhere"], moved=[place("elsewhere")]))
    assert [row.lane for row in stand.rows(saga)] == ["main"]


def test_a_row_that_is_there_is_not_added(stand: Stand) -> None:
    saga = stand.start()
    with pytest.raises(Refused):
        stand.append(saga, Paused(), changes=changes(added=[place("main")]))
    assert stand.kinds(saga) == ["saga_started"]


def test_a_lane_whose_queue_the_writer_does_not_know_stays_where_it_is_or_goes_to_the_default_one(stand: Stand) -> None:
    saga = stand.start(queue="payments")
    assert stand.append(
        saga, Paused(), changes=changes(moved=[place("main", queue=None)], added=[place("x", queue=None)])
    )
    assert [row.queue for row in stand.rows(saga)] == ["payments", "default"]


def test_a_row_due_at_a_moment_is_due_then_also_when_it_is_past(stand: Stand) -> None:
    saga = stand.start()
    for seconds in (-3600.0, 3600.0):
        due = Due(stand.now() + timedelta(seconds=seconds))
        assert stand.append(saga, Paused(), changes=changes(moved=[place(due=due)]))
        assert stand.row(saga).due == pytest.approx(seconds, abs=5)


def test_a_row_that_moves_has_no_problem_any_more(stand: Stand) -> None:
    saga = stand.start()
    stand.store.park(saga, "main", "nobody knows it")
    assert stand.append(saga, Paused(), changes=changes(moved=[place()]))
    assert (stand.row(saga).problem, stand.row(saga).due) == (None, None)


@pytest.mark.parametrize(
    "wrong",
    [place("x", attempt=0), place("x", watch=-1.0), place("x", watch=1e12), place("x", step=None), place(None),
     place("x", owned=True)],
)  # fmt: skip
def test_a_row_that_the_table_does_not_allow_is_refused(stand: Stand, wrong: Any) -> None:
    saga = stand.start()
    with pytest.raises(Refused):
        stand.append(saga, Paused(), worker=None, changes=changes(uuid4(), added=[wrong]))
    assert stand.kinds(saga) == ["saga_started"]


@pytest.mark.parametrize(
    "wrong", [place("x", attempt=2**31), place("x", priority=2**15), place("x", due=Due(None, 1e13))]
)
def test_a_value_that_has_no_room_is_refused(stand: Stand, wrong: Any) -> None:
    saga = stand.start()
    with pytest.raises(ValueRefused):
        stand.append(saga, Paused(), changes=changes(added=[wrong]))


def test_an_owner_without_a_token_is_refused(stand: Stand) -> None:
    saga = stand.start()
    with pytest.raises(ValueRefused):
        stand.append(saga, Paused(), changes=changes(None, added=[place("x", owned=True)]))


# --- the index --------------------------------------------------------------------------------------------------------


def test_the_index_says_what_the_entry_makes_of_the_status(stand: Stand) -> None:
    saga = stand.start()
    stand.pass_time(40)
    assert stand.append(saga, Paused(), status=NewStatus("stuck", "it broke", False))
    header = stand.store.header(saga)
    assert header is not None
    assert (header.status, header.reason, header.finished_at, header.updated_at) == (
        "stuck", "it broke", None, stand.at(saga, 2),
    )  # fmt: skip
    assert header.started_at == stand.at(saga, 1)
    assert stand.append(saga, Paused(), status=NewStatus("compensated", "it broke", True))
    header = stand.store.header(saga)
    assert header is not None
    assert header.finished_at == stand.at(saga, 3)


@pytest.mark.parametrize("wrong", [("completed", False), ("running", True), ("unheard of", False)])
def test_a_status_that_there_is_not_is_refused(stand: Stand, wrong: tuple[str, bool]) -> None:
    saga = stand.start()
    with pytest.raises(Refused):
        stand.append(saga, Paused(), status=NewStatus(wrong[0], None, wrong[1]))
    assert stand.kinds(saga) == ["saga_started"]


def test_a_log_starts_once(stand: Stand) -> None:
    saga = stand.start()
    with pytest.raises(Refused):
        stand.append(saga, SagaStarted({}))


def test_an_attempt_has_a_number_from_1_on(stand: Stand) -> None:
    saga = stand.start()
    with pytest.raises(Refused):
        stand.append(saga, started(attempt=0))


def test_an_entry_that_the_table_does_not_allow_is_refused_also_where_its_place_is_taken(stand: Stand) -> None:
    saga = stand.start()
    stand.append(saga, started())
    with pytest.raises(Refused):
        stand.append(saga, started(attempt=0), seq=2)
    assert not stand.append(saga, started(attempt=0), seq=7)
    assert not stand.append(saga, started(attempt=0), seq=3, before=stand.now() - timedelta(hours=1))


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_request_says_who_was_there(stand: Stand) -> None:
    saga = stand.start()
    at = stand.store.request(
        Addition(saga, 2, [CancelRequested("ann", "no")], changes(moved=[place(phase=Phase.COMPENSATION)]))
    )
    [entry] = stand.store.entries(saga, 1)
    assert isinstance(entry.event, CancelRequested)
    assert (entry.at, entry.worker, entry.event.by, entry.event.reason) == (at, None, "ann", "no")
    assert entry.event.session_user
    assert stand.row(saga).phase == "compensation"


def test_a_request_at_a_place_that_is_taken_is_lost(stand: Stand) -> None:
    saga = stand.start()
    stand.append(saga, Paused())
    status = NewStatus("paused", None, False)
    for seq in (1, 2, 4):
        assert stand.store.request(Addition(saga, seq, [Paused("ann")], None, status)) is None
    assert stand.store.request(Addition(saga, 3, [Paused("ann")], after=stand.now() - timedelta(days=1))) is None
    assert stand.store.statuses([saga]) == {saga: "running"}


def test_a_completed_saga_is_taken_up_again_once(stand: Stand) -> None:
    saga = stand.start()
    again = Addition(
        saga, 3, [CompensateRequested("ann")], changes(added=[place()]), NewStatus("compensating", "no", False)
    )
    assert stand.store.request(again) is None
    stand.append(saga, started(), changes=changes(removed=["main"]), status=COMPLETED)
    assert stand.store.request(again) is not None
    header = stand.store.header(saga)
    assert header is not None
    assert (header.status, header.finished_at) == ("compensating", None)
    assert stand.row(saga).step == "b"
    assert stand.store.request(again) is None


def test_a_completed_saga_stays_so_where_the_request_is_lost(stand: Stand) -> None:
    saga = stand.start()
    stand.append(saga, started(), changes=changes(removed=["main"]), status=COMPLETED)
    again = Addition(saga, 2, [CompensateRequested("ann")], None, NewStatus("compensating", "no", False))
    assert stand.store.request(again) is None
    header = stand.store.header(saga)
    assert header is not None
    assert (header.status, header.finished_at) == ("completed", stand.at(saga, 2))


@pytest.mark.parametrize(
    ("event", "status"),
    [(succeeded(), None), (Paused(), "abandoned"), (CancelRequested(), "paused"), (Paused(), "completed")],
)
def test_an_operator_cannot_ask_for_anything_else(stand: Stand, event: Any, status: str | None) -> None:
    saga = stand.start()
    new = NewStatus(status, None, status in ("abandoned", "completed")) if status else None
    with pytest.raises(ValueRefused):
        stand.store.request(Addition(saga, 2, [event], None, new))


def test_a_step_that_is_skipped_may_complete_the_saga(stand: Stand) -> None:
    saga = stand.start()
    skip = StepSkipped("ann", None, "main", "a", False, {"by": "hand"})
    assert stand.store.request(Addition(saga, 2, [skip], changes(removed=["main"]), COMPLETED)) is not None
    [entry] = stand.store.entries(saga, 1)
    assert (entry.lane, entry.step, entry.data["result"]) == ("main", "a", {"by": "hand"})
    assert stand.rows(saga) == []


# --- reading ----------------------------------------------------------------------------------------------------------


def test_entries_come_from_one_place_on_up_to_another(stand: Stand) -> None:
    saga = stand.start()
    stand.append(saga, started(), succeeded(), started("b"))
    seqs = [entry.seq for entry in stand.store.entries(saga, 1, 3)]
    assert seqs == [2, 3]
    assert [entry.seq for entry in stand.store.entries(saga, 3)] == [4]
    assert stand.store.entries(saga, 4) == []
    assert stand.store.entries(saga, 0, 0) == []


def test_a_log_without_a_first_entry_is_damaged(stand: Stand) -> None:
    saga = uuid4()
    with pytest.raises(CorruptLog, match=f"saga {saga}, entry 1 is missing"):
        stand.store.entries(saga)
    assert stand.store.entries(saga, 1) == []


def test_a_reader_goes_on_from_the_entry_that_it_knows_if_the_log_has_it(stand: Stand) -> None:
    saga = stand.start()
    stand.append(saga, started(), succeeded())
    at = stand.at(saga, 2)

    def read(seq: int, when: Any) -> list[int]:
        return [entry.seq for entry in stand.store.entries_from(saga, seq, when)]

    assert read(2, at) == read(2, None) == [2, 3]
    assert read(2, at - timedelta(seconds=1)) == read(7, None) == read(0, None) == [1, 2, 3]
    assert stand.store.entries_from(uuid4(), 2, None) == []


def test_ends_tell_the_log_of_those_that_ended(stand: Stand) -> None:
    going, over, stuck = stand.start(), stand.start(), stand.start()
    stand.append(over, started(), status=COMPLETED)
    stand.append(stuck, started(), status=NewStatus("stuck", "x", False))
    ends = stand.store.ends([going, over, stuck, uuid4()], [going, over])
    assert {saga: (end.status, end.ended, len(end.rows)) for saga, end in ends.items()} == {
        going: ("running", False, 0), over: ("completed", True, 2), stuck: ("stuck", True, 0),
    }  # fmt: skip
    assert ends[over].fingerprint == LINE.fingerprint
    assert ends[over].rows[0][:2] == (1, "saga_started")


def test_what_there_is_not_is_not_told_of(stand: Stand) -> None:
    assert stand.store.header(uuid4()) is None
    assert stand.store.statuses([uuid4()]) == {}
    assert stand.store.definition("unknown") is None
