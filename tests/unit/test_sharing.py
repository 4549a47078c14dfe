"""Which lanes share a message, which of a message share a claim, and how many a worker keeps to itself."""

from __future__ import annotations

import os
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from saga.broker.publisher import batches
from saga.core.rows import Dispatch
from saga.errors import DatabaseNotReady
from saga.worker.executor import Executor
from saga.worker.pace import Averages, Pace
from saga.worker.rest import Rest


class Everything:
    """A store that has every lane."""

    def offer_on(self, lanes: list[tuple[UUID, str]], *, alone: bool) -> list[Dispatch]:
        return [Dispatch(saga_id, lane, "celery", None, alone) for saga_id, lane in lanes]


class NoStore:
    """One that does not answer."""

    def offer_on(self, *_: Any, **__: Any) -> list[Dispatch]:
        raise DatabaseNotReady("away")


def lane(saga: int, name: str = "main", **options: Any) -> Dispatch:
    return Dispatch(UUID(int=saga), name, options.pop("queue", "celery"), **options)


def test_lanes_of_one_queue_and_priority_share_a_message():
    first, second, other, urgent = lane(1), lane(2), lane(3, queue="other"), lane(4, priority=9)
    branch = lane(1, "main/b")
    assert batches([first, other, second, urgent, branch]) == [[first, second, branch], [other], [urgent]]


def test_a_message_holds_sixteen_lanes():
    assert [len(batch) for batch in batches([lane(number) for number in range(40)])] == [16, 16, 8]


def test_what_is_to_be_alone_shares_no_message():
    first, alone, second = lane(1), lane(2, alone=True), lane(3)
    assert batches([first, alone, second]) == [[first, second], [alone]]


@pytest.mark.parametrize(
    ("attempt", "kept"),
    [(None, 0), (10.0, 0), (0.02, 1), (0.005, 9), (0.0001, 15)],
    ids=["unknown", "slow", "middling", "brisk", "quick"],
)
def test_a_worker_keeps_what_takes_a_moment_and_offers_the_rest(attempt: float | None, kept: int):
    published: list[Dispatch] = []
    executor = object.__new__(Executor)
    executor._store = Everything()
    executor._pace = Pace(timedelta(milliseconds=3).total_seconds())
    executor._engine = SimpleNamespace(publish=published.extend)
    if attempt is not None:
        executor._pace.note("two steps", attempt)
    run: Any = SimpleNamespace(
        saga=SimpleNamespace(name="two steps", actions={"a": 1, "b": 2}), claim=SimpleNamespace(queue="celery")
    )
    rest = Rest((UUID(int=number), "main") for number in range(15))
    executor._share_out(rest, run, 0.1)
    assert len(rest) == kept
    assert len(published) == 15 - kept
    assert {message.alone for message in published} <= {not kept}


def test_lanes_that_nobody_can_look_up_are_left_to_the_relay():
    published: list[Dispatch] = []
    executor = object.__new__(Executor)
    executor._store = NoStore()
    executor._engine = SimpleNamespace(publish=published.extend)
    executor._offer([(UUID(int=1), "main")], alone=True)
    assert published == []


def test_a_pace_follows_what_it_sees():
    pace = Pace(0.003)
    assert (pace.expected("x"), pace.is_quick("x"), list(pace.quick())) == (None, False, [])
    pace.note("x", 0.001)
    assert (pace.expected("x"), pace.is_quick("x"), list(pace.quick())) == (0.001, True, ["x"])
    pace.note("x", 1.0)
    assert not pace.is_quick("x")
    for _ in range(50):
        pace.note("x", 0.001)
    assert pace.is_quick("x")


def test_a_process_that_is_forked_later_knows_the_pace_and_tells_its_own():
    averages = Averages()
    Pace(0.003, averages).note("known", 0.001)
    child = os.fork()
    if not child:
        pace = Pace(0.003, averages, ["known", "new"])
        known = list(pace.quick()) == ["known"]
        pace.note("new", 0.002)
        os._exit(not known)
    assert os.waitpid(child, 0)[1] == 0
    assert list(Pace(0.003, averages, ["known", "new"]).quick()) == ["known", "new"]


def test_more_sagas_than_there_is_room_for_do_no_harm():
    averages = Averages()
    for number in range(3000):
        averages.put(f"saga {number}", number)
        assert averages.get(f"saga {number}") == number


def test_no_saga_is_quick_where_sharing_is_turned_off():
    pace = Pace(0)
    pace.note("x", 0.0)
    assert not pace.is_quick("x")


def test_what_is_quick_goes_by_how_long_it_takes_to_record_an_end():
    pace = Pace(None)
    pace.note("of 5 ms", 0.005)
    assert not pace.is_quick("of 5 ms"), "before anything is known"
    for _ in range(50):
        pace.note_recording(0.001)
    assert not pace.is_quick("of 5 ms"), "one by one costs little, and nobody waits"
    for _ in range(50):
        pace.note_recording(0.004)
    assert pace.is_quick("of 5 ms"), "recording it costs nearly as much as it"
    pace.note("of 20 ms", 0.02)
    for _ in range(50):
        pace.note_recording(1.0)
    assert not pace.is_quick("of 20 ms"), "the others would wait for long, however slow the disk"


def test_a_limit_that_is_set_holds_whatever_recording_takes():
    pace = Pace(0.002)
    pace.note_recording(0.1)
    assert pace.limit == 0.002
    assert Pace(0.0).limit == 0.0


def test_the_time_of_recording_is_nobodys_saga():
    pace = Pace(None)
    pace.note_recording(0.001)
    assert list(pace.quick()) == []
