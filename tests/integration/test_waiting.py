"""Waiting for the end of sagas: one thread, one connection, one statement that brings what it waits for."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from saga.client.handle import Handle
from saga.core.outcome import Success
from saga.errors import CorruptLog
from saga.store.postgres.database import Link
from tests.integration.conftest import Bench, always


def statements_of(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """From now on, the thread and the text of every statement."""
    found: list[tuple[str, str]] = []
    real = Link.run

    def noted(self: Link, statement: str, params: Any) -> Any:
        found.append((threading.current_thread().name, statement))
        return real(self, statement, params)

    monkeypatch.setattr(Link, "run", noted)
    return found


def test_a_result_is_one_statement_once_the_saga_has_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    handle, worker = bench.start(), bench.worker()
    bench.finish(worker, bench.claimed(handle, worker=worker))
    statements = statements_of(monkeypatch)
    assert handle.result(timeout=10) == {"a": "a", "b": "b", "c": "c", "d": "d"}
    assert [name for name, _ in statements] == ["saga-waiter"]


def test_who_waits_for_the_end_only_gets_no_log(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    handle, worker = bench.start(), bench.worker()
    bench.finish(worker, bench.claimed(handle, worker=worker))
    ends: list[Any] = []
    real = handle._waiter.wait

    def kept(*args: Any, **options: Any) -> Any:
        ends.append(real(*args, **options))
        return ends[-1]

    monkeypatch.setattr(handle._waiter, "wait", kept)
    assert handle.wait(timeout=10) == "completed"
    assert ends[0].rows == []


def test_a_thousand_threads_that_wait_use_few_connections(bench: Bench) -> None:
    handles = bench.orchestrator.start_many("sequence", [{}] * 1000)
    most = 2 * bench.orchestrator.settings.pool_size
    count = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'pgsaga%'"
    )
    with ThreadPoolExecutor(1000) as threads:
        results = [threads.submit(handle.result, 60) for handle in handles]
        waiting = bench.orchestrator._waiter._waits
        bench.until(lambda: len(waiting) == 1000, "a thousand that wait")
        assert bench.sql(count)[0][0] <= most
        worker = bench.worker()
        for handle in handles[:20]:
            bench.finish(worker, bench.claimed(handle, worker=worker))
        assert all(future.result()["d"] == "d" for future in results[:20])
        bench.sql("UPDATE saga.instance SET status = 'stuck' WHERE finished_at IS NULL")
        assert sum(future.exception() is not None for future in results) == 980
        assert bench.sql(count)[0][0] <= most


def test_a_pool_gives_no_more_connections_than_it_says(bench: Bench) -> None:
    database = bench.orchestrator.database
    most = 2 * bench.orchestrator.settings.pool_size
    most_at_a_time, now, lock = [0], [0], threading.Lock()

    def use(_: int) -> None:
        with database.link() as link:
            with lock:
                now[0] += 1
                most_at_a_time[0] = max(most_at_a_time[0], now[0])
            link.run("SELECT pg_sleep(0.002)", {})
            with lock:
                now[0] -= 1

    with ThreadPoolExecutor(100) as threads:
        list(threads.map(use, range(500)))
    assert most_at_a_time[0] <= most


def test_one_log_that_cannot_be_read_holds_up_nobody_else(bench: Bench) -> None:
    good, bad, worker = bench.start(), bench.start(), bench.worker()
    for handle in (good, bad):
        bench.finish(worker, bench.claimed(handle, worker=worker))
    number = "1" * 5000
    bench.sql("UPDATE saga.log SET data = %s::jsonb WHERE saga_id = %s AND seq = 3", f'{{"result": {number}}}', bad.id)
    with ThreadPoolExecutor(2) as threads:
        results = [threads.submit(handle.result, 20) for handle in (good, bad)]
        assert results[0].result()["a"] == "a"
        with pytest.raises(CorruptLog):
            results[1].result()


def test_a_new_wait_is_looked_at_at_once_though_others_wait_for_long(bench: Bench) -> None:
    old, new, worker = bench.start(), bench.start(), bench.worker()
    bench.finish(worker, bench.claimed(new, worker=worker))
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(old.wait, 30)
        bench.until(lambda: _slowest_pause(old) >= 0.1, "a wait that is looked at rarely")
        began = time.monotonic()
        looked = [_time_of(new) for _ in range(5)]
        assert min(looked) < 0.05
        assert time.monotonic() - began < 5
        bench.finish(worker, bench.claimed(old, worker=worker))
        assert waiting.result() == "completed"


def _slowest_pause(handle: Handle) -> float:
    return max((wait.pause for wait in set(handle._waiter._waits)), default=0.0)


def _time_of(handle: Handle) -> float:
    began = time.monotonic()
    handle.result(timeout=10)
    return time.monotonic() - began


def test_a_running_saga_costs_its_waiter_no_look_at_its_log(bench: Bench) -> None:
    handle, worker = bench.start(), bench.worker()
    run = worker.record(bench.claimed(handle, worker=worker), Success("a"), always)
    assert run is not None
    with psycopg.connect(bench.url) as connection:
        plan = connection.execute(
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, FORMAT JSON) SELECT 1 FROM saga.instance AS i"
            " LEFT JOIN saga.log AS l ON l.saga_id = CASE WHEN i.status = ANY(%s) THEN i.id END WHERE i.id = ANY(%s)",
            [["completed"], [handle.id]],
        ).fetchone()
    assert plan is not None
    inner = plan[0][0]["Plan"]["Plans"][1]
    assert inner["Actual Rows"] == 0
