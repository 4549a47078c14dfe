"""What the processes of a pool show of their attempts."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from celery import Celery

from saga.core.ref import AttemptRef
from saga.telemetry import board as module
from saga.telemetry.board import Board, mark_of
from saga.telemetry.facts.attempts import AttemptBegan, AttemptLeft, AttemptName
from saga.telemetry.stream import emit

SAGA = UUID(int=7)
ME = {os.getpid()}


@contextmanager
def process(monkeypatch: pytest.MonkeyPatch, place: int, work: Callable[[], None]) -> Iterator[int]:
    """Work in a process forked for a place in the pool; it lives as long as the block, and is a zombie no more then."""
    done, told = os.pipe()
    if (pid := os.fork()) == 0:
        code = 1
        try:
            monkeypatch.setattr(module, "current_process", lambda: SimpleNamespace(index=place))
            work()
            os.write(told, b"1")
            code = 0
            while True:
                time.sleep(60)
        finally:
            os._exit(code)
    os.close(told)
    try:
        assert os.read(done, 1) == b"1", "the process failed"
        yield pid
    finally:
        os.close(done)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def begin(board: Board, task: str = "shop.pay", carrier: str | None = "m1") -> int | None:
    return board.begin(task, uuid4(), SAGA, 1, carrier)


def test_an_attempt_is_shown_while_it_is_under_way():
    board, task_id = Board(1, 2), uuid4()
    before = time.time()
    slot = board.begin("shop.pay", task_id, SAGA, 3, "m1")
    (shown,) = board.under_way(ME)
    assert (shown.task, shown.task_id, shown.saga_id, shown.attempt) == ("shop.pay", task_id, SAGA, 3)
    assert (shown.pid, shown.carrier) == (os.getpid(), mark_of("m1"))
    assert before <= shown.began <= time.time()
    board.end(slot)
    assert board.under_way(ME) == []
    assert board.counts() == {"shop.pay": 1}


def test_slots_are_used_again_without_end():
    board = Board(1, 2)
    board._serial = module._SERIALS - 3
    for _ in range(10):
        first, second = begin(board), begin(board, "shop.ship")
        assert sorted(shown.task for shown in board.under_way(ME)) == ["shop.pay", "shop.ship"]
        board.end(first)
        board.end(second)
    assert board.under_way(ME) == []
    assert board.counts() == {"shop.pay": 10, "shop.ship": 10}


def test_what_finds_no_slot_is_counted_and_not_shown():
    board = Board(1, 1)
    first, second = begin(board), begin(board, "shop.ship")
    assert second is None
    board.end(second)
    assert [shown.task for shown in board.under_way(ME)] == ["shop.pay"]
    board.end(first)
    assert begin(board, "shop.ship") is not None
    assert board.counts() == {"shop.pay": 1, "shop.ship": 2}


def test_a_task_that_finds_no_cell_is_neither_counted_nor_shown():
    board = Board(1, 4, tasks=2)
    assert begin(board, "a") is not None
    assert begin(board, "b") is not None
    assert begin(board, "c") is None
    assert begin(board, "c") is None
    assert begin(board, "a") is not None
    assert board.counts() == {"a": 2, "b": 1}
    assert len(board.under_way(ME)) == 3


@pytest.mark.parametrize(
    ("task", "shown"),
    [
        ("shop.päy.支払い", "shop.päy.支払い"),
        ("x" * 1000, "x" * 247),
        ("支" * 1000, "支" * 82),  # no half of a character
        ("shop.\udcff", "shop.?"),
        ("", "?"),
    ],
)
def test_a_long_or_odd_name_is_shown_as_far_as_it_can_be(task: str, shown: str):
    board = Board(1, 2)
    begin(board, task)
    begin(board, task)
    assert [each.task for each in board.under_way(ME)] == [shown, shown]
    assert board.counts() == {shown: 2}


def test_processes_count_together_and_show_each_its_own(monkeypatch: pytest.MonkeyPatch):
    board = Board(2, 1)

    def work() -> None:
        begin(board, "shop.ship")
        board.end(begin(board, "shop.pay"))

    def work_too() -> None:
        board.end(begin(board, "shop.pay"))
        begin(board, "shop.pay")

    with process(monkeypatch, 0, work) as one, process(monkeypatch, 1, work_too) as two:
        shown = {each.pid: each.task for each in board.under_way({one, two})}
        assert shown == {one: "shop.ship", two: "shop.pay"}
        assert board.counts() == {"shop.pay": 3, "shop.ship": 1}


def test_a_dead_process_is_passed_over_and_its_successor_counts_on(monkeypatch: pytest.MonkeyPatch):
    board = Board(1, 1)
    with process(monkeypatch, 0, lambda: begin(board)) as first:
        assert [each.pid for each in board.under_way({first})] == [first]
    assert board.under_way({0, os.getpid()}) == []
    with process(monkeypatch, 0, lambda: begin(board)) as second:
        assert [each.pid for each in board.under_way({first, second})] == [second]
    assert board.counts() == {"shop.pay": 2}


def test_a_process_beyond_the_last_place_shows_nothing_and_disturbs_nobody(monkeypatch: pytest.MonkeyPatch):
    board = Board(1, 1)
    with process(monkeypatch, 0, lambda: begin(board)) as one, process(monkeypatch, 1, lambda: begin(board)) as two:
        assert [each.pid for each in board.under_way({one, two})] == [one]
    assert board.counts() == {"shop.pay": 1}


def test_a_process_that_a_step_forks_does_not_end_its_attempt(monkeypatch: pytest.MonkeyPatch):
    board = Board(1, 1)
    slot = begin(board)
    with process(monkeypatch, 0, lambda: board.end(slot)):
        assert len(board.under_way(ME)) == 1


def test_what_ends_while_it_is_read_is_passed_over(monkeypatch: pytest.MonkeyPatch):
    board = Board(1, 1)
    slot = begin(board)
    mark = board._marks[0]
    board.end(slot)
    begin(board)
    assert board._read(0, mark) is None


def test_no_count_is_lost_between_threads():
    board = Board(1, 4)

    def work() -> None:
        for _ in range(500):
            board.end(begin(board))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert board.counts() == {"shop.pay": 4000}
    assert board.under_way(ME) == []
    assert len(board._free) == 4


def test_what_begins_and_what_is_left_is_shown_on_the_board_of_its_app():
    app, other = (Celery(name, set_as_current=False) for name in ("shop", "other"))
    board = Board(1, 2)
    board.hang_up(app)
    name = AttemptName("shop", SAGA, AttemptRef("main", "pay", 2))
    began = [AttemptBegan(name, "shop.pay", uuid4(), SimpleNamespace(id="m1"), of) for of in (app, other)]
    for fact in began:
        emit(fact)
    (shown,) = board.under_way(ME)
    assert (shown.task_id, shown.saga_id, shown.attempt, shown.carrier) == (began[0].task_id, SAGA, 2, mark_of("m1"))
    for fact in began:
        emit(AttemptLeft(fact))
    assert board.under_way(ME) == []
    assert board._slots == {}
