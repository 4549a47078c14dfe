"""The database's clock steps back by an hour: everything written before is then an hour in the future."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest

from saga import Handle, Retry, Saga
from saga.cli.lanes import read_lanes
from saga.core.outcome import Failure, Success
from saga.crashpoints import Struck
from saga.ops.doctor.clock import examine_clock
from saga.relay import Relay
from saga.store.postgres import clock, due, work
from saga.store.postgres.chores import Chores
from saga.store.values import Ping
from tests.integration.conftest import FORKED, Bench, always, never, step
from tests.integration.test_relay import hold_lock, lanes, relay


def step_back(bench: Bench, seconds: float = 3600, *, looked: bool = True) -> None:
    """Have every time in the tables be of so much later.

    Args:
        looked: also that of the relay's last look.
    """
    by = f"+ interval '{seconds} s'"
    bench.sql(f"UPDATE saga.log SET at = at {by}")
    bench.sql(f"UPDATE saga.work SET due_at = due_at {by}, sent = sent {by}, shifted = shifted {by}")
    bench.sql(f"UPDATE saga.probe SET sent_at = sent_at {by}, through = through {by}")
    bench.sql(f"UPDATE saga.relay SET past_due = past_due {by}")
    if looked:
        bench.sql(f"UPDATE saga.relay SET looked_at = looked_at {by}")


def started(bench: Bench) -> Handle:
    return bench.start()


def branched(bench: Bench) -> Handle:
    handle, worker = bench.start(FORKED), bench.worker()
    worker.record(bench.claimed(handle, worker=worker), Success(None), always)
    return handle


@pytest.mark.parametrize("make", [started, branched])
def test_what_is_due_at_once_is_sent_and_claimed_at_once(bench: Bench, make: object) -> None:
    one, sent = relay(bench)
    handle = make(bench)  # type: ignore[operator]
    bench.sql("UPDATE saga.work SET sent = NULL")
    step_back(bench)
    one.tick()
    assert len(lanes(sent)) == len(bench.sql("SELECT * FROM saga.work"))
    assert bench.claimed(handle, lanes(sent)[0]).number == 1


def test_a_worker_that_is_gone_is_found_gone_on_a_server_that_started_in_the_future(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, sent = relay(bench, grace=3600)
    handle = bench.start()
    bench.claimed(handle)
    run = due.Link.run
    started_at = "pg_postmaster_start_time()"

    def later(self: due.Link, statement: str, params: object) -> object:
        return run(self, statement.replace(started_at, "(clock_timestamp() + interval '1 h')"), params)  # type: ignore[arg-type]

    monkeypatch.setattr(due.Link, "run", later)
    bench.until(lambda: one.tick() and lanes(sent), "the worker to be found gone")
    assert handle.log()[-1].kind == "attempt_lost"


def test_what_was_sent_before_is_sent_again(bench: Bench) -> None:
    one, sent = relay(bench)
    bench.start()
    one.tick()
    bench.sql("UPDATE saga.work SET sent = sent - interval '10 s'")
    one.tick()
    assert [message for message in sent if isinstance(message, Ping)]
    step_back(bench)
    one.tick()
    assert lanes(sent) == ["main"]
    assert bench.sql("SELECT sent <= clock_timestamp() FROM saga.work") == [(True,)]


def test_a_ping_sent_before_proves_nothing_of_what_is_sent_after(bench: Bench) -> None:
    one, sent = relay(bench)
    bench.start()
    bench.sql("UPDATE saga.work SET sent = sent - interval '10 s'")
    one.tick()
    bench.sql("UPDATE saga.probe SET through = sent_at")
    step_back(bench)
    bench.sql("UPDATE saga.work SET sent = clock_timestamp() - interval '10 s'")
    sent.clear()
    one.tick()
    assert lanes(sent) == []
    [ping] = sent
    assert isinstance(ping, Ping)
    bench.orchestrator._see_ping(ping.queue, ping.number, ping.realm)
    one.tick()
    assert lanes(sent) == ["main"]


def test_what_is_due_at_once_is_shown_with_the_time_it_became_so(bench: Bench) -> None:
    handle = bench.start()
    [lane] = read_lanes(bench.orchestrator.database, handle.id)
    assert abs((lane.due_at - handle.header.started_at).total_seconds()) < 1


@pytest.mark.parametrize("due_at", ["infinity", "-infinity", "20000-01-01"])
def test_a_due_time_that_python_cannot_hold_is_shown_as_the_nearest_one(bench: Bench, due_at: str) -> None:
    handle = bench.start()
    bench.sql(f"UPDATE saga.work SET due_at = '{due_at}'")
    [lane] = read_lanes(bench.orchestrator.database, handle.id)
    assert lane.due_at.year in (100, 101, 9999)


# --- what waits for a time, and what runs -----------------------------------------------------------------------------

HOUR = 3600.0
SLOW = Saga("slow", step("a", retry=Retry(wait=lambda _: 300.0)))


def running(bench: Bench) -> Handle:
    """An attempt with a timeout."""
    handle = bench.start()
    bench.claimed(handle)
    hold_lock(bench, 1)
    return handle


def retried(bench: Bench) -> Handle:
    bench.orchestrator.register(SLOW)
    handle, worker = bench.start(SLOW), bench.worker()
    worker.record(bench.claimed(handle, worker=worker), Failure(RuntimeError("no")), never)
    return handle


def delayed(bench: Bench) -> Handle:
    return bench.start(delay=300)


def limited(bench: Bench) -> Handle:
    """A saga with a deadline, long before its first step."""
    return bench.start(delay=9000, deadline=300)


def timed_out(bench: Bench, handle: Handle) -> bool:
    return handle.log()[-1].kind == "attempt_timed_out"


def offered(bench: Bench, handle: Handle) -> bool:
    return bool(bench.sql("SELECT 1 FROM saga.work WHERE saga_id = %s AND sent IS NOT NULL", handle.id))


TIMED = [(running, timed_out), (retried, offered), (delayed, offered), (limited, offered)]
"""What comes after 300 s, each with how one sees that it has come."""
timed = pytest.mark.parametrize(("make", "has_come"), TIMED, ids=[make.__name__ for make, _ in TIMED])
Make = Callable[[Bench], Handle]
HasCome = Callable[[Bench, Handle], bool]


def elapse(bench: Bench, seconds: float, relay: Relay) -> None:
    """Let time pass while a relay looks."""
    step_back(bench, -seconds, looked=False)
    relay.tick()


@timed
def test_what_has_its_time_comes_at_it_though_the_clock_steps_back(bench: Bench, make: Make, has_come: HasCome) -> None:
    one, _ = relay(bench)
    handle = make(bench)
    one.tick()
    elapse(bench, 100, one)
    step_back(bench)
    one.tick()
    elapse(bench, 190, one)
    assert not has_come(bench, handle)
    elapse(bench, 9 + clock.STEP, one)
    assert has_come(bench, handle)


@timed
def test_nothing_comes_early_after_a_step_back_and_forth(bench: Bench, make: Make, has_come: HasCome) -> None:
    one, _ = relay(bench)
    handle = make(bench)
    one.tick()
    for _ in range(2):
        step_back(bench)
        one.tick()
        step_back(bench, -HOUR)
        one.tick()
    assert bench.sql("SELECT 1 FROM saga.work WHERE shifted_by IS NOT NULL") == []
    elapse(bench, 290, one)
    assert not has_come(bench, handle)
    elapse(bench, 20, one)
    assert has_come(bench, handle)


def test_nothing_comes_early_for_a_clock_that_was_ahead_for_a_while(bench: Bench) -> None:
    one, _ = relay(bench)
    handle = bench.start(delay=2 * HOUR)
    one.tick()
    step_back(bench, -HOUR)
    one.tick()
    step_back(bench)
    one.tick()
    elapse(bench, 2 * HOUR - 10, one)
    assert not offered(bench, handle)
    elapse(bench, 20, one)
    assert offered(bench, handle)


def test_steps_back_one_after_the_other_add_up(bench: Bench) -> None:
    one, _ = relay(bench)
    handles = [(make(bench), has_come) for make, has_come in TIMED]
    one.tick()
    for _ in range(3):
        step_back(bench)
        one.tick()
    elapse(bench, 290, one)
    assert [has_come(bench, handle) for handle, has_come in handles] == [False] * len(TIMED)
    elapse(bench, 9 + clock.STEP, one)
    assert [has_come(bench, handle) for handle, has_come in handles] == [True] * len(TIMED)


def in_slices(bench: Bench) -> Relay:
    """A relay that moves one lane at a time, and a worker's at a time."""
    one, _ = relay(bench)
    one._chores.batch = 1
    return one


def left(bench: Bench) -> list[tuple[str, int]]:
    """How long each lane still waits, to ten seconds; of a claimed one, by how much its timeout comes sooner."""
    return sorted(
        bench.sql(
            "SELECT CASE WHEN worker IS NULL THEN 'waits' ELSE 'runs' END, round(CASE WHEN worker IS NULL "
            "THEN extract(epoch FROM due_at - clock_timestamp()) ELSE shifted_by END / 10)::integer * 10 FROM saga.work"
        )
    )


def some(bench: Bench) -> None:
    for number in (1, 2, 3):
        bench.start(delay=300)
        bench.claimed(bench.start(), worker=bench.worker(number))
        hold_lock(bench, number)


AFTERWARDS = [("runs", 3600)] * 3 + [("waits", 300)] * 3


def test_of_several_relays_one_moves_the_times(bench: Bench) -> None:
    relays = [in_slices(bench) for _ in range(3)]
    some(bench)
    relays[0].tick()
    step_back(bench)
    for _ in range(4):
        for one in relays:
            one.tick()
    assert left(bench) == AFTERWARDS


@pytest.mark.parametrize("before", range(1, 7))
def test_a_relay_that_dies_in_the_middle_leaves_the_rest_to_the_next(
    bench: Bench, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = in_slices(bench)
    some(bench)
    one.tick()
    step_back(bench)
    reached = 0

    def strike(point: str, connection: object = None) -> None:
        nonlocal reached
        reached += point == "clock.before_commit"
        if reached == before:
            raise Struck(point)

    with monkeypatch.context() as patch:
        patch.setattr("saga.store.postgres.chores.reach", strike)
        with pytest.raises(Struck):
            one.tick()
    in_slices(bench).tick()
    assert left(bench) == AFTERWARDS


def test_a_step_forth_in_the_middle_leaves_all_times_as_they_were(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = in_slices(bench)
    some(bench)
    one.tick()
    step_back(bench)
    monkeypatch.setattr("saga.relay._ON_TIMES", 0.0)
    one._round()
    one._round()
    step_back(bench, -HOUR)
    for _ in range(9):
        one.tick()
    assert left(bench) == [("runs", None)] * 3 + [("waits", 300)] * 3
    assert bench.sql("SELECT behind, ahead FROM saga.relay") == [(None, None)]


def test_what_was_due_at_a_time_and_is_sent_is_claimed_after_a_step_back(bench: Bench) -> None:
    one, sent = relay(bench)
    handle = bench.start(delay=300)
    one.tick()
    elapse(bench, 310, one)
    assert lanes(sent) == ["main"]
    step_back(bench)
    assert bench.claimed(handle).number == 1


def test_what_is_parked_is_offered_no_later_for_a_step_back(bench: Bench) -> None:
    one, sent = relay(bench)
    handle = bench.start()
    with bench.orchestrator.database.link() as link:
        work.park(link, handle.id, "main", "nobody knows it")
    one.tick()
    step_back(bench)
    elapse(bench, 5, one)
    assert lanes(sent) == ["main"]


def test_an_attempt_that_starts_after_the_step_has_its_whole_timeout(bench: Bench) -> None:
    one, _ = relay(bench)
    handle, worker = bench.start(), bench.worker()
    run = bench.claimed(handle, worker=worker)
    hold_lock(bench, 1)
    one.tick()
    step_back(bench)
    one.tick()
    assert worker.record(run, Success(1), always) is not None
    elapse(bench, 290, one)
    assert not timed_out(bench, handle)
    elapse(bench, 20, one)
    assert timed_out(bench, handle)


def test_a_step_forth_within_a_look_ends_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = relay(bench)
    handle = running(bench)
    one.tick()
    chores, absent = one._chores, one._chores.absent
    assert isinstance(chores, Chores)

    def then_step() -> tuple[list[int], float]:
        found = absent()
        step_back(bench, -HOUR)
        chores._seen = replace(chores._seen, now=chores._seen.now - HOUR)
        return found

    monkeypatch.setattr(chores, "absent", then_step)
    one._round()
    assert not timed_out(bench, handle)


def test_what_cannot_be_moved_holds_up_nothing_else(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    one, sent = relay(bench)
    bench.start(delay=300)
    one.tick()
    step_back(bench)
    bench.start()
    bench.sql("UPDATE saga.work SET sent = NULL")

    def fail(*_: object) -> bool:
        raise psycopg.DataError("it cannot be read")

    monkeypatch.setattr(clock, "move_waiting", fail)
    one.tick()
    assert lanes(sent) == ["main"]
    for _ in range(3):
        one.tick()
    assert bench.sql("SELECT behind FROM saga.relay") == [(None,)]


def test_the_doctor_warns_of_a_clock_that_is_behind_what_the_log_has_seen(bench: Bench) -> None:
    running(bench)
    database = bench.orchestrator.database
    assert list(examine_clock(database)) == []
    step_back(bench)
    [finding] = examine_clock(database)
    assert finding.level == "warning"
    assert re.search(r"newest entry is of 3,\d\d\d s from now", finding.what)


def test_a_damaged_log_says_nothing_of_the_clock(bench: Bench) -> None:
    bench.start()
    bench.sql("UPDATE saga.log SET at = 'infinity'")
    assert list(examine_clock(bench.orchestrator.database)) == []
