"""What a relay does to lanes: it sends what is due or lost, ends what is overdue, frees what nobody runs any more."""

from __future__ import annotations

import pytest

from saga.core.due import Due
from saga.core.events import AttemptStarted, AttemptTimedOut, Paused
from saga.core.outline import DEADLINE
from saga.core.ref import AttemptRef, Phase
from saga.core.rows import Dispatch
from saga.store.values import NotMyTurn, Ping, Task

from .stand import FORKED, LINE, Stand, changes, opening_of, place, started, succeeded

# --- whose turn it is -------------------------------------------------------------------------------------------------


def test_only_who_is_enrolled_and_whose_turn_it_is_does_anything(stand: Stand) -> None:
    rounds = stand.store.rounds(lambda _: None, 10)
    turns = [lambda: rounds.do(Task.SEND_DUE), lambda: rounds.ping("", "", 5), rounds.absent, lambda: rounds.bury(1)]
    for turn in turns:
        with pytest.raises(NotMyTurn):
            turn()
    assert rounds.enrol()
    assert not rounds.enrol()
    with stand.other_relay():
        for turn in turns:
            with pytest.raises(NotMyTurn):
                turn()
    for turn in turns:
        turn()


def test_a_relay_sees_to_its_realm_and_to_what_is_nobodys(stand: Stand) -> None:
    assert stand.relay().rounds.realms == ["", "conformance"]
    for realm in ("", "another"):
        store = stand.beside(realm)
        store.register(LINE, 1.0)
        store.open([opening_of(LINE, sent=False)], 1.0)
    assert stand.relay().do(Task.SEND_DUE) == ["main"]
    assert stand.relay(store=stand.beside("another")).do(Task.SEND_DUE) == ["main"]


# --- what is due ------------------------------------------------------------------------------------------------------


def test_what_is_due_and_was_not_sent_is_sent_once(stand: Stand) -> None:
    stand.start()
    at_once, later = stand.start(sent=False), stand.start(delay=100, priority=3)
    relay = stand.relay()
    assert relay.do(Task.SEND_DUE) == ["main"]
    assert relay.sent == [Dispatch(at_once, "main", "celery")]
    assert relay.do(Task.SEND_DUE) == []
    stand.pass_time(150)
    relay.do(Task.SEND_DUE)
    assert relay.sent == [Dispatch(later, "main", "celery", 3)]
    assert stand.row(later).dispatches == 1


def test_what_is_sent_is_due_at_once_from_then_on(stand: Stand) -> None:
    saga = stand.start(delay=100)
    stand.pass_time(150)
    stand.relay().do(Task.SEND_DUE)
    assert stand.row(saga).due is None


def test_no_time_is_wrong_while_the_clock_only_goes_on(stand: Stand) -> None:
    rounds = stand.relay().rounds
    rounds.absent()
    assert rounds.set_times_right(0.1) == (False, False)


def test_a_deadline_that_has_come_is_sent(stand: Stand) -> None:
    stand.start(deadline=100)
    stand.pass_time(150)
    assert stand.relay().do(Task.SEND_DUE) == [DEADLINE]


def test_what_waits_is_sent_a_batch_at_a_time(stand: Stand) -> None:
    for _ in range(5):
        stand.start(sent=False)
    relay = stand.relay(batch=2)
    assert [len(relay.do(Task.SEND_DUE)) for _ in range(4)] == [2, 2, 1, 0]


def test_what_is_due_by_the_clock_does_not_wait_for_what_is_due_at_once(stand: Stand) -> None:
    for delay in (0, 0, 0, 10):
        stand.start(sent=False, delay=delay)
    stand.pass_time(50)
    relay = stand.relay(batch=1)
    assert [len(relay.do(Task.SEND_DUE)) for _ in range(4)] == [2, 1, 1, 0]


def test_a_claimed_lane_is_not_sent(stand: Stand) -> None:
    saga = stand.start(sent=False)
    stand.claimed(saga)
    assert stand.relay().do(Task.SEND_DUE) == []


def test_a_message_is_sent_once_its_row_can_be_claimed(stand: Stand) -> None:
    saga = stand.start(sent=False)
    won: list[bool] = []
    rounds = stand.store.rounds(lambda messages: won.extend(stand.claim(saga)["main"].won for _ in messages), 10)
    rounds.enrol()
    rounds.absent()
    assert rounds.do(Task.SEND_DUE) == 1
    assert won == [True]


# --- what was lost on its way -----------------------------------------------------------------------------------------


def test_what_was_sent_before_a_ping_that_came_through_is_lost(stand: Stand) -> None:
    saga, relay = stand.start(), stand.relay()
    stand.pass_time(100)
    [ping] = relay.ping()
    assert (ping.queue, ping.priority, ping.realm) == ("celery", None, "conformance")
    assert relay.do(Task.SEND_LOST) == []
    stand.see_ping(ping)
    assert relay.do(Task.SEND_LOST) == ["main"]
    assert stand.row(saga).dispatches == 2
    assert relay.do(Task.SEND_LOST) == []


def test_a_ping_proves_nothing_of_what_was_sent_after_it(stand: Stand) -> None:
    saga, relay = stand.start(), stand.relay()
    stand.pass_time(100)
    [ping] = relay.ping()
    stand.store.offer_on([(saga, "main")], alone=True)
    stand.see_ping(ping)
    stand.pass_time(100)
    assert relay.do(Task.SEND_LOST) == []


def test_no_ping_is_sent_while_one_is_on_its_way_that_is_not_overdue(stand: Stand) -> None:
    stand.start()
    relay = stand.relay()
    assert relay.ping() == []
    stand.pass_time(100)
    assert len(relay.ping()) == 1
    assert relay.ping() == []
    waits = []
    for _ in range(5):
        stand.pass_time(30)
        waits.append(len(relay.ping()))
    assert waits == [1, 1, 1, 1, 1]
    stand.pass_time(30)
    assert relay.ping() == []  # it waits for longer each time: 32 s by now
    stand.pass_time(30)
    assert len(relay.ping()) == 1


def test_a_ping_that_was_replaced_still_tells_of_what_was_sent_before_it(stand: Stand) -> None:
    stand.start()
    relay = stand.relay()
    stand.pass_time(100)
    [first] = relay.ping()
    shift = stand.now()
    stand.pass_time(30)
    moved = int((stand.now() - shift).total_seconds() - 30)  # 0 where the time itself has passed
    assert len(relay.ping()) == 1
    stand.see_ping(Ping(first.queue, first.number + moved * 1_000_000, first.priority, first.realm))
    assert relay.do(Task.SEND_LOST) == ["main"]


@pytest.mark.parametrize("number", [2**53, 4_000_000_000_000_000])
def test_a_forged_ping_from_the_future_proves_nothing(stand: Stand, number: int) -> None:
    stand.start()
    relay = stand.relay()
    stand.pass_time(100)
    [ping] = relay.ping()
    stand.see_ping(Ping(ping.queue, number, None, ping.realm))
    assert relay.do(Task.SEND_LOST) == []
    assert relay.ping() == []


def test_a_forged_ping_takes_nothing_back_and_one_of_another_queue_says_nothing(stand: Stand) -> None:
    stand.start()
    relay = stand.relay()
    stand.pass_time(100)
    [ping] = relay.ping()
    stand.see_ping(Ping("a queue of nobody", ping.number, None, ping.realm))
    assert relay.do(Task.SEND_LOST) == []
    stand.see_ping(ping)
    stand.see_ping(Ping(ping.queue, 1, None, ping.realm))
    assert relay.do(Task.SEND_LOST) == ["main"]


def test_a_ping_has_the_lowest_priority_of_what_it_follows(stand: Stand) -> None:
    for queue, priorities in {"both": (None, 5), "ranked": (7, 3), "plain": (None,)}.items():
        for priority in priorities:
            stand.start(queue=queue, priority=priority)
    stand.pass_time(100)
    found = {ping.queue: ping.priority for ping in stand.relay().ping()}
    assert found == {"both": 0, "ranked": 3, "plain": None}


def test_queues_are_pinged_a_page_at_a_time(stand: Stand) -> None:
    for queue in "abc":
        stand.start(queue=queue)
    stand.pass_time(100)
    relay = stand.relay()
    after, seen = "", []
    for _ in range(3):
        relay.sent.clear()
        after = relay.rounds.ping("conformance", after, 2)
        seen.append(([ping.queue for ping in relay.sent], after))
    assert [(sorted(queues), after) for queues, after in seen] == [(["a", "b"], "b"), (["c"], ""), ([], "b")]


def test_each_further_sending_waits_twice_as_long(stand: Stand) -> None:
    stand.start()
    relay = stand.relay()
    stand.pass_time(100)
    sent = []
    for _ in range(9):
        for ping in relay.ping():
            stand.see_ping(ping)
        sent.append(len(relay.do(Task.SEND_LOST)))
        stand.pass_time(20)
    assert sent == [1, 1, 1, 1, 1, 1, 0, 1, 0]  # after 0.5, 1, 2, 4, 8, 16 s; then after 32 s; then it waits for 64 s


# --- what is overdue --------------------------------------------------------------------------------------------------


def test_an_attempt_past_its_deadline_is_ended_and_offered(stand: Stand) -> None:
    saga, relay = stand.start(), stand.relay()
    stand.claimed(saga, worker=7)
    assert relay.do(Task.TIME_OUT) == []
    stand.pass_time(400)
    assert relay.do(Task.TIME_OUT) == ["main"]
    entry = stand.store.entries(saga)[-1]
    assert (entry.kind, entry.step, entry.attempt, entry.worker, entry.data) == ("attempt_timed_out", "a", 1, 7, {})
    row = stand.row(saga)
    assert (row.worker, row.token, row.attempt, row.due, row.dispatches) == (None, None, None, None, 1)
    assert relay.do(Task.TIME_OUT) == []


def test_an_attempt_in_time_is_looked_at_again_at_its_deadline(stand: Stand) -> None:
    saga, relay = stand.start(), stand.relay()
    token = stand.claimed(saga)
    kept = place(step="a", owned=True, watch=100.0)
    stand.append(saga, Paused(), changes=changes(token, moved=[kept]))
    stand.pass_time(150)
    assert relay.do(Task.TIME_OUT) == []
    assert relay.rounds.do(Task.WATCH_ON) == 1
    assert relay.sent == []
    assert stand.row(saga).due == pytest.approx(100, abs=5)
    stand.pass_time(110)
    assert relay.rounds.do(Task.WATCH_ON) == 1
    assert stand.row(saga).due == pytest.approx(40, abs=5)
    stand.pass_time(50)
    assert relay.do(Task.TIME_OUT) == ["main"]


def test_the_attempt_that_counts_is_the_last_one_of_the_lane(stand: Stand) -> None:
    saga, relay = stand.start(), stand.relay()
    stand.claimed(saga)
    stand.pass_time(200)
    undo = AttemptStarted("main", "a", 1, Phase.COMPENSATION, timeout=300.0)
    stand.append(saga, succeeded(), started("b"), undo)
    stand.pass_time(200)
    assert relay.do(Task.TIME_OUT) == []
    stand.pass_time(200)
    assert relay.do(Task.TIME_OUT) == ["main"]
    entry = stand.store.entries(saga)[-1]
    assert (entry.step, entry.data) == ("a", {"undo": True})
    row = stand.row(saga)
    assert (row.step, row.phase, row.attempt) == ("a", "compensation", None)


@pytest.mark.parametrize("phase", Phase)
def test_an_attempt_of_any_phase_is_ended_as_one_of_it(stand: Stand, phase: Phase) -> None:
    saga, relay = stand.start(), stand.relay()
    stand.append(saga, Paused(), changes=changes(moved=[place(step="a[3]", attempt=2, phase=phase)]))
    stand.claimed(saga)
    stand.pass_time(400)
    assert relay.do(Task.TIME_OUT) == ["main"]
    entry = stand.store.entries(saga)[-1]
    assert isinstance(entry.event, AttemptTimedOut)
    assert entry.event.ref == AttemptRef("main", "a[3]", 2, phase)
    row = stand.row(saga)
    assert (row.step, row.phase, row.attempt) == ("a[3]", phase, None)


@pytest.mark.parametrize(("timeout", "ends"), [(None, 350), (-5.0, 10), (1e300, None)])
def test_an_odd_timeout_stops_nothing(stand: Stand, timeout: float | None, ends: float | None) -> None:
    saga, relay = stand.start(), stand.relay()
    token = stand.claimed(saga)
    events = (succeeded(), AttemptStarted("main", "b", 1, timeout=timeout))  # type: ignore[arg-type]
    stand.append(saga, *events, changes=changes(token, moved=[place(owned=True, watch=0.0)]))
    stand.pass_time(ends or 1e6)
    assert len(relay.do(Task.TIME_OUT)) == (0 if ends is None else 1)


# --- who is gone ------------------------------------------------------------------------------------------------------


def test_workers_that_hold_lanes_and_do_not_live_are_absent(stand: Stand) -> None:
    sagas = [stand.start() for _ in range(3)]
    stand.live(1, 2, 9)
    for worker, saga in enumerate(sagas, 1):
        stand.claimed(saga, worker=worker)
    rounds = stand.relay().rounds
    assert rounds.absent()[0] == [3]
    stand.die(1)
    assert sorted(rounds.absent()[0]) == [1, 3]
    assert stand.relay(store=stand.beside("another")).rounds.absent()[0] == []


def test_the_attempts_of_a_lost_worker_are_given_back(stand: Stand) -> None:
    first, second, other = stand.start(), stand.start(), stand.start()
    for saga, worker in ((first, 3), (second, 3), (other, 4)):
        stand.claimed(saga, worker=worker)
    relay = stand.relay()
    relay.do(Task.LOSE, workers=[3, 8])
    assert sorted(message.saga_id for message in relay.sent) == sorted([first, second])
    entry = stand.store.entries(first)[-1]
    assert (entry.kind, entry.step, entry.attempt, entry.worker, entry.data) == ("attempt_lost", "a", 1, 3, {})
    assert [stand.row(saga).worker for saga in (first, second, other)] == [None, None, 4]
    assert relay.do(Task.LOSE, workers=[3]) == []


def test_of_a_saga_one_attempt_is_ended_at_a_time(stand: Stand) -> None:
    saga = stand.start(FORKED)
    for lane in ("main/b", "main/c"):
        stand.claimed(saga, lane, worker=3)
    relay = stand.relay()
    assert [len(relay.do(Task.LOSE, workers=[3])) for _ in range(3)] == [1, 1, 0]
    assert sorted(stand.kinds(saga)) == ["attempt_lost"] * 2 + ["saga_started"] + ["step_started"] * 2


def test_a_lane_whose_log_has_no_attempt_open_is_let_be(stand: Stand) -> None:
    saga = stand.start()
    token = stand.claimed(saga)
    stand.append(saga, Paused(), changes=changes(token, added=[place("side", owned=True)]))
    relay = stand.relay()
    assert relay.do(Task.LOSE, workers=[1]) == ["main"]
    assert [row.worker for row in stand.rows(saga)] == [None, 1]


def test_a_held_lane_keeps_its_due_time(stand: Stand) -> None:
    saga = stand.start()
    due = place(due=Due(None, 100.0))
    stand.append(saga, Paused(), changes=changes(moved=[due]))
    assert stand.row(saga).due == pytest.approx(100, abs=5)
    assert stand.relay().do(Task.SEND_DUE) == []


def test_what_is_known_of_dead_workers_is_taken_out(stand: Stand) -> None:
    for worker in (1, 2, 3):
        stand.enrol(worker, [], [])
    stand.die(1)
    stand.die(3)
    rounds = stand.relay().rounds
    rounds.bury(1)
    assert stand.members() == {2, 3}
    rounds.bury(10)
    assert stand.members() == {2}


def test_a_store_that_was_started_just_now_is_young(stand: Stand) -> None:
    assert stand.relay().rounds.absent()[1] >= 0
