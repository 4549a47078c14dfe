"""A claim gives a free and due lane to one worker, and appends the start of its attempt."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from saga.core.due import Due
from saga.core.events import Paused
from saga.core.outline import DEADLINE
from saga.core.ref import Phase
from saga.core.text import dumps
from saga.store.values import Task, Wish, entries_of

from .stand import FORKED, LIMITS, LINE, Stand, changes, limits_of, opening_of, place


def test_a_claim_appends_the_start_and_owns_the_row(stand: Stand) -> None:
    saga = stand.start(priority=4)
    token = uuid4()
    offers = stand.store.claim([Wish(saga, "main", token)], 7, LIMITS)
    [(lane, offer)] = offers.items()
    assert lane == (saga, "main")
    assert (offer.fingerprint, offer.attempt, offer.queue, offer.open, offer.won) == (
        LINE.fingerprint,
        1,
        "celery",
        True,
        True,
    )
    first, second = entries_of(saga, offer.entries)
    assert [first, second] == stand.store.entries(saga)
    assert (second.kind, second.worker, second.data, second.lane, second.step, second.attempt) == (
        "step_started", 7, {"timeout": 300.0}, "main", "a", 1,
    )  # fmt: skip
    row = stand.row(saga)
    assert (row.worker, row.token, row.watch, row.step, row.priority, row.realm) == (
        7,
        token,
        300.0,
        "a",
        4,
        "conformance",
    )
    assert row.due == pytest.approx(300, abs=5)


def test_a_lane_that_is_claimed_or_not_due_is_not_claimed(stand: Stand) -> None:
    saga, later = stand.start(), stand.start(delay=100)
    stand.claimed(saga)
    for which in (saga, later):
        offer = stand.claim(which, worker=2)["main"]
        assert (offer.open, offer.won, offer.entries) == (False, False, [])
    stand.pass_time(150)
    assert stand.claim(later, worker=2)["main"].won
    assert not stand.claim(saga, worker=2)["main"].open


def test_nothing_is_said_of_what_there_is_not(stand: Stand) -> None:
    saga = stand.start()
    assert stand.claim(saga, "nowhere") == stand.claim(uuid4()) == {}


def test_a_saga_whose_definition_is_not_known_is_open_and_not_taken(stand: Stand) -> None:
    saga = stand.start()
    offers = stand.store.claim([Wish(saga, "main", uuid4())], 1, limits_of(FORKED))
    offer = offers[saga, "main"]
    assert (offer.open, offer.won, offer.entries) == (True, False, [])
    assert stand.kinds(saga) == ["saga_started"]


def test_only_what_is_not_known_of_the_log_is_read(stand: Stand) -> None:
    def claimed(known: int, *, right: bool) -> list[int]:
        saga = stand.start()
        stand.append(saga, Paused())
        at = stand.at(saga, known) if 0 < known < 3 else stand.now()
        wish = Wish(saga, "main", uuid4(), known, at if right else at - timedelta(seconds=1))
        return [row[0] for row in stand.store.claim([wish], 1, LIMITS)[saga, "main"].entries]

    assert claimed(2, right=True) == [3]
    assert claimed(1, right=True) == [2, 3]
    assert claimed(2, right=False) == claimed(9, right=True) == [1, 2, 3]


def test_lanes_of_one_saga_are_started_one_after_the_other(stand: Stand) -> None:
    saga = stand.start(FORKED)
    offers = stand.claim(saga, "main/c", "main/b")
    assert [offers[lane].won for lane in ("main/b", "main/c")] == [True, True]
    entries = stand.store.entries(saga)
    assert [(entry.seq, entry.lane) for entry in entries[1:]] == [(2, "main/b"), (3, "main/c")]
    for offer in offers.values():
        assert entries_of(saga, offer.entries) == entries
    assert [row.worker for row in stand.rows(saga)] == [1, 1]


def test_of_the_lanes_of_one_saga_those_that_are_ready_are_taken(stand: Stand) -> None:
    saga = stand.start(FORKED)
    stand.claimed(saga, "main/b", worker=5)
    offers = stand.claim(saga, "main/b", "main/c", "main/x")
    assert {lane: offer.won for lane, offer in offers.items()} == {"main/b": False, "main/c": True}
    assert [row.worker for row in stand.rows(saga)] == [5, 1]


def test_lanes_of_several_sagas_are_taken_at_once(stand: Stand) -> None:
    sagas = [stand.start() for _ in range(3)]
    stand.claimed(sagas[1], worker=5)
    offers = stand.store.claim([Wish(saga, "main", uuid4()) for saga in sagas], 1, LIMITS)
    assert [offers[saga, "main"].won for saga in sagas] == [True, False, True]
    assert [len(offers[saga, "main"].entries) for saga in sagas] == [2, 0, 2]


def test_the_undo_of_a_step_is_started_as_one(stand: Stand) -> None:
    saga = stand.start()
    stand.append(saga, Paused(), changes=changes(moved=[place(step="a", attempt=2, phase=Phase.COMPENSATION)]))
    assert stand.claim(saga)["main"].won
    [entry] = stand.store.entries(saga, 2)
    assert (entry.kind, entry.step, entry.attempt) == ("compensation_started", "a", 2)


@pytest.mark.parametrize("phase", Phase)
def test_what_a_start_says_is_what_the_claim_has_of_its_phase_and_name(stand: Stand, phase: Phase) -> None:
    saga = stand.start()
    stand.append(saga, Paused(), changes=changes(moved=[place(step="a[3]#2", phase=phase)]))
    limits = {LINE.fingerprint: {phase: {"a": {"timeout": 30.0}}, "watch": 40.0}}
    assert stand.store.claim([Wish(saga, "main", uuid4())], 1, dumps(limits))[saga, "main"].won
    entry = stand.store.entries(saga)[-1]
    assert (entry.kind, entry.step, entry.data) == (f"{phase}_started", "a[3]#2", {"timeout": 30.0})
    assert stand.row(saga).watch == 40.0


def test_a_start_that_the_claim_has_nothing_of_has_no_timeout(stand: Stand) -> None:
    saga = stand.start()
    limits = {LINE.fingerprint: {"step": {"b": {"timeout": 30.0}}, "watch": 30.0}}
    assert stand.store.claim([Wish(saga, "main", uuid4())], 1, dumps(limits))[saga, "main"].won
    assert stand.store.entries(saga)[-1].data["timeout"] is None


def test_an_undecided_lane_is_not_taken_but_its_log_is_told(stand: Stand) -> None:
    saga = stand.start()
    stand.append(saga, Paused(), changes=changes(moved=[place(attempt=None)]))
    offer = stand.claim(saga)["main"]
    assert (offer.attempt, offer.open, offer.won, len(offer.entries)) == (None, True, False, 2)
    assert stand.row(saga).worker is None


# --- a saga that may be too late --------------------------------------------------------------------------------------


def test_an_action_of_a_saga_past_its_deadline_is_left_to_be_decided_about(stand: Stand) -> None:
    saga = stand.start(deadline=100)
    stand.pass_time(150)
    offer = stand.claim(saga)["main"]
    assert (offer.attempt, offer.open, offer.won, len(offer.entries)) == (None, True, False, 1)
    offer = stand.claim(saga, DEADLINE)[DEADLINE]
    assert (offer.attempt, offer.open, offer.won, len(offer.entries)) == (None, True, False, 1)


def test_an_action_before_the_deadline_and_any_undo_are_taken(stand: Stand) -> None:
    saga, undoing = stand.start(deadline=100), stand.start(deadline=100)
    assert stand.claim(saga)["main"].won
    stand.append(undoing, Paused(), changes=changes(moved=[place(phase=Phase.COMPENSATION)]))
    stand.pass_time(150)
    assert stand.claim(undoing)["main"].won


def test_a_deadline_that_is_parked_may_have_passed(stand: Stand) -> None:
    saga = stand.start(deadline=100)
    stand.pass_time(150)
    stand.store.park(saga, DEADLINE, "nobody knows it")
    assert stand.claim(saga)["main"].attempt is None


# --- realms -----------------------------------------------------------------------------------------------------------


def test_a_lane_of_another_realm_is_not_there(stand: Stand) -> None:
    saga = stand.start()
    assert stand.claim(saga, store=stand.beside("another")) == {}


def test_a_lane_of_nobodys_becomes_that_of_who_claims_it(stand: Stand) -> None:
    nobodys = stand.beside("")
    nobodys.register(LINE, 1.0)
    opening = opening_of(LINE)
    nobodys.open([opening], 1.0)
    assert stand.row(opening.id).realm == ""
    assert stand.claim(opening.id)["main"].won
    assert stand.row(opening.id).realm == "conformance"


# --- lanes that are parked, handed on, offered and given back ---------------------------------------------------------


def test_a_parked_lane_is_offered_again_after_twice_the_time_each_time(stand: Stand) -> None:
    saga, relay = stand.start(), stand.relay()
    for seconds in (1, 2, 4, 8):
        stand.store.park(saga, "main", "nobody knows it")
        row = stand.row(saga)
        assert (row.problem, row.sent) == ("nobody knows it", None)
        assert row.due == pytest.approx(seconds, abs=0.5)
        stand.pass_time(seconds)
        assert relay.do(Task.SEND_DUE) == ["main"]


def test_a_lane_is_parked_for_five_minutes_at_most(stand: Stand) -> None:
    saga, relay = stand.start(), stand.relay()
    for _ in range(12):
        stand.store.park(saga, "main", "nobody knows it")
        stand.pass_time(400)
        relay.do(Task.SEND_DUE)
    stand.store.park(saga, "main", "nobody knows it")
    assert stand.row(saga).due == pytest.approx(300, abs=5)


def test_a_lane_that_is_claimed_or_not_due_is_not_parked(stand: Stand) -> None:
    claimed, later = stand.start(), stand.start(delay=100)
    stand.claimed(claimed)
    for saga in (claimed, later):
        stand.store.park(saga, "main", "nobody knows it")
        assert stand.row(saga).problem is None
    stand.store.park(uuid4(), "main", "nobody knows it")


def test_a_claim_takes_the_problem_away(stand: Stand) -> None:
    saga = stand.start()
    stand.store.park(saga, "main", "nobody knows it")
    stand.pass_time(5)
    stand.claimed(saga)
    assert stand.row(saga).problem is None


def test_a_lane_is_handed_on_to_a_worker_that_lives_and_knows_it(stand: Stand) -> None:
    saga = stand.start()
    stand.enrol(1, [LINE.fingerprint], ["celery"])
    stand.enrol(2, [FORKED.fingerprint], ["celery"])
    stand.enrol(3, [LINE.fingerprint], ["other"])
    assert stand.store.hand_on(saga, "main", 1) == []
    stand.enrol(4, [LINE.fingerprint], ["celery", "other"])
    [message] = stand.store.hand_on(saga, "main", 1)
    assert (message.saga_id, message.lane, message.queue, message.alone) == (saga, "main", "celery", False)
    assert stand.row(saga).dispatches == 2
    stand.die(4)
    assert stand.store.hand_on(saga, "main", 1) == []


def test_a_lane_is_handed_on_eight_times_at_most(stand: Stand) -> None:
    saga = stand.start()
    stand.enrol(4, [LINE.fingerprint], ["celery"])
    assert [len(stand.store.hand_on(saga, "main", 1)) for _ in range(9)] == [1] * 7 + [0] * 2


def test_a_lane_that_is_claimed_or_not_due_is_not_handed_on(stand: Stand) -> None:
    claimed, later = stand.start(), stand.start(delay=100)
    stand.enrol(4, [LINE.fingerprint], ["celery"])
    stand.claimed(claimed)
    assert [stand.store.hand_on(saga, "main", 1) for saga in (claimed, later)] == [[], []]


@pytest.mark.parametrize("alone", [True, False])
def test_free_lanes_are_offered_on_and_that_is_noted(stand: Stand, alone: bool) -> None:
    free, claimed, new = stand.start(), stand.start(), stand.start(sent=False)
    stand.claimed(claimed)
    stand.pass_time(100)
    messages = stand.store.offer_on([(saga, "main") for saga in (free, claimed, new, uuid4())], alone=alone)
    assert sorted((message.saga_id, message.alone) for message in messages) == sorted([(free, alone), (new, alone)])
    assert stand.row(free).sent == pytest.approx(0, abs=5)
    assert stand.row(free).dispatches == 1
    assert stand.row(new).sent is None


def test_all_lanes_of_a_saga_that_are_offered_on_are_noted(stand: Stand) -> None:
    saga = stand.start(FORKED)
    stand.pass_time(100)
    assert len(stand.store.offer_on([(saga, "main/b"), (saga, "main/c")], alone=False)) == 2
    assert [row.sent for row in stand.rows(saga)] == [pytest.approx(0, abs=5)] * 2


def test_what_was_sent_a_moment_ago_is_offered_on_as_it_is(stand: Stand) -> None:
    saga = stand.start(delay=100)
    stand.append(saga, Paused(), changes=changes(moved=[place(due=Due(None, 50.0), sent=True)]))
    before = stand.row(saga).sent
    assert before is not None
    assert len(stand.store.offer_on([(saga, "main")], alone=False)) == 1
    after = stand.row(saga).sent
    assert after is not None
    assert after >= before


def test_a_worker_gives_back_what_it_owns(stand: Stand) -> None:
    saga, other = stand.start(), stand.start()
    token = stand.claimed(saga)
    stand.claimed(other, worker=2)
    assert stand.store.owned(1) == [token]
    assert stand.store.give_back(2, [token]) == []
    [message] = stand.store.give_back(1, [token, uuid4()])
    assert (message.saga_id, message.lane, message.queue) == (saga, "main", "celery")
    assert stand.store.owned(1) == []
    entry = stand.store.entries(saga)[-1]
    assert (entry.kind, entry.step, entry.attempt, entry.worker, entry.data) == ("attempt_interrupted", "a", 1, 1, {})
    row = stand.row(saga)
    assert (row.worker, row.token, row.attempt, row.due, row.dispatches) == (None, None, None, None, 1)
    assert row.sent == pytest.approx(0, abs=5)
    assert stand.store.give_back(1, [token]) == []


def test_of_each_saga_one_lane_is_given_back_at_a_time(stand: Stand) -> None:
    saga = stand.start(FORKED)
    tokens = [stand.claimed(saga, lane) for lane in ("main/b", "main/c")]
    lanes = [[message.lane for message in stand.store.give_back(1, tokens)] for _ in range(3)]
    assert [len(found) for found in lanes] == [1, 1, 0]
    assert {lane for found in lanes for lane in found} == {"main/b", "main/c"}
