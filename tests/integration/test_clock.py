"""The database's clock steps back by an hour: everything written before is then an hour in the future."""

from __future__ import annotations

import pytest

from saga import Handle
from saga.cli.lanes import read_lanes
from saga.core.outcome import Success
from saga.store.port import Ping
from saga.store.postgres import due
from tests.integration.conftest import FORKED, Bench, always
from tests.integration.test_relay import lanes, relay


def step_back(bench: Bench) -> None:
    """Have every time in the tables be of an hour later."""
    bench.sql("UPDATE saga.log SET at = at + interval '1 h'")
    bench.sql("UPDATE saga.work SET due_at = due_at + interval '1 h', sent = sent + interval '1 h'")
    bench.sql("UPDATE saga.probe SET sent_at = sent_at + interval '1 h', through = through + interval '1 h'")
    bench.sql("UPDATE saga.relay SET looked_at = looked_at + interval '1 h'")


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
    assert bench.claimed(handle, lanes(sent)[0]).attempt == 1


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
