"""A schedule starts a saga for each time that comes, and says when next in the same transaction."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from saga.store.values import Busy, Refused, Schedule, ValueRefused

from .stand import FORKED, LINE, Stand, opening_of

HOUR = timedelta(hours=1)


def hourly(next_tick: datetime | None, name: str = "report", **said: object) -> Schedule:
    schedule = Schedule(name, "line", {"b": 1, "aa": [None, 2.0]}, f"{name} of mine", {"every": 3600}, "one", next_tick)
    return replace(schedule, **said)  # type: ignore[arg-type]


def put(stand: Stand, seconds: float, **said: object) -> Schedule:
    """A schedule that is due in so many seconds, as the store has it."""
    stand.store.register(LINE, 1.0)
    stand.store.put_schedule(hourly(stand.now() + timedelta(seconds=seconds), **said))  # type: ignore[arg-type]
    [found] = [each for each in stand.store.schedules() if each.name == said.get("name", "report")]
    return found


def test_a_schedule_is_kept_as_it_is_put(stand: Stand) -> None:
    found = put(stand, 100)
    assert found == hourly(found.next_tick, realm="conformance")
    assert found.next_tick is not None
    never = hourly(None, "never", input=None)
    stand.store.put_schedule(never)
    assert stand.store.schedules() == [replace(never, realm="conformance"), found]
    assert stand.beside("another").schedules() == []


def test_a_schedule_that_is_put_again_goes_on_where_it_is(stand: Stand) -> None:
    before = put(stand, 100)
    stand.store.pause_schedule("report")
    stand.store.put_schedule(hourly(stand.now() + HOUR, input=5, missed="all"))
    [found] = stand.store.schedules()
    assert found == replace(before, input=5, missed="all", paused=True)
    other = stand.now() + HOUR
    stand.store.put_schedule(hourly(other, spec={"every": 60}))
    [found] = stand.store.schedules()
    assert (found.next_tick, found.spec, found.paused) == (other, {"every": 60}, True)


def test_what_is_due_comes_in_order_with_the_time(stand: Stand) -> None:
    put(stand, 100, name="later")
    put(stand, -100, name="first")
    put(stand, -50, name="second")
    put(stand, -200, name="paused")
    stand.store.pause_schedule("paused")
    stand.store.put_schedule(hourly(None, "never"))
    ticks = stand.store.due_schedules(10)
    assert [schedule.name for schedule in ticks.due] == ["first", "second"]
    assert abs(ticks.now - stand.now()) < timedelta(seconds=5)
    assert [schedule.name for schedule in stand.store.due_schedules(1).due] == ["first"]
    assert stand.beside("another").due_schedules(10).due == []
    stand.pass_time(200)
    assert len(stand.store.due_schedules(10).due) == 3


def test_nothing_due_still_says_the_time(stand: Stand) -> None:
    ticks = stand.store.due_schedules(10)
    assert ticks.due == []
    assert abs(ticks.now - stand.now()) < timedelta(seconds=5)


def test_a_saga_is_started_and_the_next_time_said_at_once(stand: Stand) -> None:
    put(stand, -100)
    [schedule] = stand.store.due_schedules(10).due
    assert schedule.next_tick is not None
    later = schedule.next_tick + HOUR
    openings = [opening_of(LINE, key=f"report/{number}") for number in range(2)]
    assert stand.store.advance_schedule(schedule, later, openings, 1.0) == {opening.id for opening in openings}
    [found] = stand.store.schedules()
    assert (found.next_tick, found.last_tick) == (later, schedule.next_tick)
    for opening in openings:
        assert stand.kinds(opening.id) == ["saga_started"]
        assert stand.row(opening.id).realm == "conformance"
        assert stand.claim(opening.id)["main"].won


def test_of_two_that_see_the_same_time_come_one_starts_a_saga(stand: Stand) -> None:
    put(stand, -100)
    [schedule] = stand.store.due_schedules(10).due
    later = stand.now() + HOUR
    assert stand.store.advance_schedule(schedule, later, [opening_of(LINE)], 1.0)
    late = opening_of(LINE)
    assert stand.store.advance_schedule(schedule, later, [late], 1.0) is None
    assert stand.store.header(late.id) is None


def test_a_saga_whose_key_is_taken_is_not_started_again(stand: Stand) -> None:
    put(stand, -100)
    stand.start(key="report/1")
    [schedule] = stand.store.due_schedules(10).due
    later = stand.now() + HOUR
    assert stand.store.advance_schedule(schedule, later, [opening_of(LINE, key="report/1")], 1.0) == set()
    assert stand.store.due_schedules(10).due == []


def test_times_may_be_passed_over(stand: Stand) -> None:
    put(stand, -100)
    [schedule] = stand.store.due_schedules(10).due
    assert stand.store.advance_schedule(schedule, None, [], 1.0) == set()
    [found] = stand.store.schedules()
    assert (found.next_tick, found.last_tick) == (None, schedule.next_tick)
    assert stand.store.advance_schedule(found, stand.now(), [], 1.0) is None


def test_what_cannot_be_started_leaves_the_schedule_where_it_is(stand: Stand) -> None:
    put(stand, -100)
    [schedule] = stand.store.due_schedules(10).due
    with pytest.raises(ValueRefused):
        stand.store.advance_schedule(schedule, stand.now() + HOUR, [opening_of(FORKED)], 1.0)
    assert stand.store.due_schedules(10).due == [schedule]
    with stand.connect() as connection:
        stand.store.joined(connection).open([opening_of(LINE, key="report/1")], 1.0)
        with pytest.raises(Busy):
            stand.store.advance_schedule(schedule, stand.now() + HOUR, [opening_of(LINE, key="report/1")], 0.1)
    assert stand.store.due_schedules(10).due == [schedule]


def test_a_schedule_that_is_paused_starts_nothing_until_it_is_resumed(stand: Stand) -> None:
    put(stand, -100)
    [schedule] = stand.store.due_schedules(10).due
    assert stand.store.pause_schedule("report")
    assert stand.store.advance_schedule(schedule, stand.now() + HOUR, [opening_of(LINE)], 1.0) is None
    assert stand.store.resume_schedule("report")
    assert stand.store.due_schedules(10).due == [schedule]
    later = stand.now() + HOUR
    assert stand.store.resume_schedule("report", later)
    [found] = stand.store.schedules()
    assert (found.next_tick, found.paused) == (later, False)
    assert stand.store.due_schedules(10).due == []


def test_a_schedule_that_is_removed_is_gone(stand: Stand) -> None:
    put(stand, -100)
    [schedule] = stand.store.due_schedules(10).due
    assert stand.store.remove_schedule("report")
    assert stand.store.schedules() == []
    assert stand.store.advance_schedule(schedule, None, [], 1.0) is None
    gone = [stand.store.remove_schedule, stand.store.pause_schedule, stand.store.resume_schedule]
    assert [verb("report") for verb in gone] == [False, False, False]


@pytest.mark.parametrize("name", ["", "n" * 501])
def test_a_schedule_has_a_name_of_a_length(stand: Stand, name: str) -> None:
    with pytest.raises(Refused):
        stand.store.put_schedule(hourly(None, name))
