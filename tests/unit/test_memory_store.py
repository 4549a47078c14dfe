"""What is the memory store's own: a time that only a test moves, and a server that a test restarts."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import pytest

from saga.errors import DatabaseNotReady, InputError
from saga.store.memory.clock import START, VirtualClock
from saga.store.values import Addition, Busy, Refused, Task, TransactionEnded
from tests.conformance.memory import MemoryStand
from tests.conformance.stand import LINE, opening_of, started


@pytest.fixture
def stand():
    return MemoryStand()


def test_the_time_moves_only_when_somebody_sleeps():
    clock = VirtualClock()
    assert (clock.now, clock.monotonic()) == (START, 0.0)
    clock.sleep(1.5)
    clock.sleep(0)
    clock.sleep(-5)
    assert (clock.now, clock.monotonic()) == (START + timedelta(seconds=1.5), 1.5)


def test_a_store_in_memory_loads_neither_a_database_nor_celery():
    program = "import sys, saga.store.memory.store; print(*{name.partition('.')[0] for name in sys.modules})"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"psycopg", "sqlalchemy", "celery", "kombu"}.isdisjoint(found.stdout.split())


def test_what_comes_due_long_after_a_look_began_waits_for_the_next(stand):
    """As in Postgres, where a clock that steps forth ends nothing by itself."""
    stand.start(delay=50)
    stand.claimed(stand.start())
    rounds = stand.relay().rounds
    rounds.absent()
    stand.pass_time(400)
    assert (rounds.do(Task.SEND_DUE), rounds.do(Task.TIME_OUT)) == (0, 0)
    rounds.absent()
    assert (rounds.do(Task.SEND_DUE), rounds.do(Task.TIME_OUT)) == (1, 1)


def test_a_restart_keeps_what_is_committed_and_loses_what_is_open(stand):
    saga = stand.start()
    stand.pass_time(60)
    with stand.store.transaction(10) as within:
        joined = within.settled()
        joined.append([Addition(saga, 2, [started()])], 1)
        stand.store.restart()
        with pytest.raises(Refused):
            joined.append([Addition(saga, 2, [started()])], 1)
        with pytest.raises(Refused):
            within.commit()
    assert stand.kinds(saga) == ["saga_started"]
    assert stand.store.breaks() == 1
    stand.pass_time(7)
    assert stand.relay().rounds.absent()[1] == 7


def test_a_step_that_ends_its_transaction_is_found_out(stand):
    with stand.store.transaction(10) as within:
        within.end()
        with pytest.raises(TransactionEnded):
            within.settled()
    assert within.ended


def test_a_transaction_that_idles_for_longer_than_it_may_is_lost(stand):
    saga = stand.start()
    with stand.store.transaction(10) as within:
        stand.pass_time(11)
        with pytest.raises(DatabaseNotReady, match="idle"):
            within.settled()
    assert stand.append(saga, started())


def test_a_transaction_in_which_a_verb_has_failed_takes_nothing_more(stand):
    saga = stand.start()
    with stand.store.transaction(10) as within:
        joined = within.settled()
        with pytest.raises(Refused):
            joined.append([Addition(saga, 2, [started(attempt=0)])], 1)
        with pytest.raises(Refused):
            joined.append([Addition(saga, 2, [started()])], 1)
    assert stand.kinds(saga) == ["saga_started"]


def test_who_would_wait_for_a_transaction_of_its_own_thread_is_told_so_at_once(stand):
    """Nobody could ever end it."""
    saga = stand.start()
    with stand.store.transaction(10) as within:
        within.settled().append([Addition(saga, 2, [started()])], 1)
        with pytest.raises(Busy):
            stand.append(saga, started())
        assert stand.store.statuses([saga]) == {saga: "running"}


def test_a_wait_for_a_key_passes_in_the_time_of_the_store(stand):
    stand.start()
    with stand.connect() as connection:
        stand.store.joined(connection).open([opening_of(LINE, key="k")], 1.0)
        before = stand.store.clock.monotonic()
        with pytest.raises(Busy):
            stand.store.open([opening_of(LINE, key="k")], 5.0)
    assert stand.store.clock.monotonic() - before == 5


def test_a_connection_without_a_transaction_commits_each_statement_and_so_cannot_be_joined(stand):
    connection = stand.store.connect()
    with pytest.raises(InputError, match="begin"):
        stand.store.joined(connection)
