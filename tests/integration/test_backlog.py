"""However much waits, each statement of the relay reads no more than it may do something about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from saga.core.events import Paused
from saga.core.ref import Parent
from saga.store.postgres import due, fleet, tally
from saga.store.postgres.database import Link, Row
from saga.store.values import Addition, NewStatus
from tests.integration.conftest import Bench
from tests.integration.test_relay import relay

MANY = 20_000
BATCH = 10

STATES = {
    "unsent and due": "sent = NULL",
    "unsent and due at a time": "sent = NULL, due_at = now() - interval '1 min'",
    "due later": "sent = NULL, due_at = now() + interval '1 day'",
    "sent and unclaimed": "sent = now() - interval '1 h'",
    "sent, in their grace": "sent = now() - interval '1 s', dispatches = 12",
    "lost": "sent = now() - interval '1 day', dispatches = 1",
    "claimed": "sent = NULL, worker = 7, token = gen_random_uuid(), due_at = now() + interval '1 day'",
    "of another realm": "realm = 'another', sent = NULL",
}


def fill(bench: Bench, state: str) -> None:
    """Many lanes, all in the same state."""
    bench.start()
    bench.sql(
        "INSERT INTO saga.work (saga_id, lane, step, attempt, undo, fingerprint, queue, due_at, sent, dispatches, realm) "
        "SELECT gen_random_uuid(), lane, step, attempt, undo, fingerprint, queue, due_at, sent, dispatches, realm "
        f"FROM saga.work, generate_series(1, {MANY})"
    )
    bench.sql(f"UPDATE saga.work SET {STATES[state]}")
    bench.sql("VACUUM ANALYZE saga.work")
    if state == "lost":
        bench.sql("INSERT INTO saga.probe VALUES ('integration', 'celery', now(), now(), 0)")


def rows_read(plan: dict[str, Any]) -> int:
    """The rows of tables and indexes that the nodes of a plan looked at."""
    own = 0
    if "Relation Name" in plan and plan["Node Type"] != "ModifyTable":
        own = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
    return round(own * plan["Actual Loops"]) + sum(map(rows_read, plan.get("Plans", [])))


@contextmanager
def reading() -> Iterator[dict[str, int]]:
    """How many rows each statement on the work read meanwhile."""
    seen: dict[str, int] = {}
    run = Link.run

    def explained(self: Link, statement: str, params: Any) -> list[Row]:
        if "{s}.work" not in statement or not isinstance(self.connection, psycopg.Connection):
            return run(self, statement, params)
        with self.connection.transaction(force_rollback=True):
            plan = run(self, f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", params)[0][0][0]["Plan"]
        seen[statement] = max(seen.get(statement, 0), rows_read(plan))
        return run(self, statement, params)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(due.Link, "run", explained)
        yield seen


@pytest.mark.parametrize("state", STATES)
def test_a_look_reads_no_more_than_it_does_something_about(bench: Bench, state: str) -> None:
    fill(bench, state)
    one, _ = relay(bench)
    one._chores.batch = BATCH
    one._chores.enrol()
    with reading() as seen:
        one._round()
    assert len(seen) >= 5
    assert {statement: count for statement, count in seen.items() if count > 20 * BATCH} == {}


def fill_steps(bench: Bench, state: str) -> None:
    """Lanes as many, as they are when the clock has stepped, with logs of their own."""
    fill(bench, "due later")
    bench.sql(
        "INSERT INTO saga.log (saga_id, seq, kind, data, at, format) "
        "SELECT saga_id, 1, 'saga_started', '{}', now() + interval '30 min', 1 FROM saga.work ON CONFLICT DO NOTHING"
    )
    bench.sql(f"UPDATE saga.work AS w SET {state} FROM (SELECT saga_id, row_number() OVER () AS n FROM saga.work) AS o "
              "WHERE o.saga_id = w.saga_id")  # fmt: skip
    bench.sql("VACUUM ANALYZE saga.work, saga.log")


@pytest.mark.parametrize(
    ("state", "seen"),
    [
        ("due_at = now() + interval '1 day' + n * interval '1 s'", "behind = 3600"),
        ("due_at = now() + interval '1 day' + n * interval '1 s', shifted_by = 3600, shifted = now()", "ahead = 3700"),
        (f"worker = n % {MANY} + 1, token = gen_random_uuid(), due_at = now() + interval '1 h'", "behind = 3600"),
    ],
)
def test_what_a_step_of_the_clock_made_wrong_is_set_right_in_slices(bench: Bench, state: str, seen: str) -> None:
    fill_steps(bench, state)
    one, _ = relay(bench)
    one._chores.batch = BATCH
    one._chores.enrol()
    bench.sql(f"UPDATE saga.relay SET looked_at = now(), {seen}")
    one._chores.absent()
    with reading() as read:
        one._chores.set_times_right(0)
    assert len(read) >= 1
    # Each of a slice is read, found again, its log is read, and it is written.
    assert {statement: count for statement, count in read.items() if count > 20 * BATCH} == {}


def test_signals_are_taken_in_without_reading_what_else_waits(bench: Bench) -> None:
    fill(bench, "due later")
    bench.sql(
        "INSERT INTO saga.signal (saga_id, name, key, role, realm, posted_at, due_at) "
        "SELECT saga_id, 'approval', 'k', 'ann', 'integration', now(), now() - interval '1 s' FROM saga.work"
    )
    bench.sql("INSERT INTO saga.log SELECT saga_id, 1, 'saga_started', NULL, NULL, NULL, '{}', NULL, now(), 3 FROM saga.work "
              "ON CONFLICT DO NOTHING")  # fmt: skip
    bench.sql("UPDATE saga.work SET attempt = NULL")
    bench.sql("VACUUM ANALYZE saga.work, saga.log, saga.signal")
    one, sent = relay(bench)
    one._chores.batch = BATCH
    one._chores.enrol()
    with reading() as seen:
        assert one._chores.take_in() == BATCH
    assert len(sent) == BATCH
    assert {statement: count for statement, count in seen.items() if count > 20 * BATCH} == {}


def test_a_parent_is_told_without_reading_what_else_waits(bench: Bench) -> None:
    fill(bench, "due later")
    bench.sql("UPDATE saga.work SET attempt = NULL")
    bench.sql("VACUUM ANALYZE saga.work, saga.log")
    child, store = bench.start(), bench.orchestrator.store
    [(parent,)] = bench.sql("SELECT saga_id FROM saga.work WHERE due_at > now() LIMIT 1")
    status = NewStatus("stuck", "no", False, Parent(parent, "main", "a"))
    with reading() as seen:
        [stored] = store.append([Addition(child.id, 2, [Paused()], status=status)], None).values()
    assert [message.saga_id for message in stored.woken] == [parent]
    assert max(seen.values()) < BATCH


def test_more_queues_than_a_look_goes_through_all_get_their_ping(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saga.relay._LOTS", 3)
    one, sent = relay(bench)
    for number in range(8):
        bench.start()
        bench.sql("UPDATE saga.work SET queue = %s WHERE queue = 'celery'", f"queue-{number}")
    bench.sql("UPDATE saga.work SET sent = sent - interval '1 min'")
    for _ in range(4):
        one.tick()
    assert {message.queue for message in sent} == {f"queue-{number}" for number in range(8)}


@pytest.mark.parametrize("state", STATES)
def test_what_waits_is_told_without_reading_all_of_it(bench: Bench, state: str) -> None:
    fill(bench, state)
    with reading() as seen, bench.orchestrator.database.link() as link:
        fleet.has_work(link, "integration")
        found = fleet.read_waiting(link, 0.0, most=1000)
    assert len(seen) == 2
    assert {statement: count for statement, count in seen.items() if count > 4000} == {}
    waits = state not in ("due later", "claimed")
    assert [(each.saga, each.lanes, each.amount) for each in found if waits] == [
        ("sequence", 1000, "1,000 or more")
    ] * waits


def test_of_each_queue_it_is_told_what_waits_and_what_is_parked_beside_many_others(bench: Bench) -> None:
    fill(bench, "unsent and due")
    handles = [bench.start() for _ in range(3)]
    for handle, change in zip(handles, ("queue = 'rare', sent = now()", "queue = 'later', sent = NULL",
                                        "problem = 'it is damaged', sent = NULL"), strict=True):  # fmt: skip
        due_at = "now() + interval '4 min'" if "problem" in change else "now() - interval '1 min'"
        bench.sql(f"UPDATE saga.work SET {change}, due_at = {due_at} WHERE saga_id = %s", handle.id)
    with bench.orchestrator.database.link() as link:
        found = fleet.read_waiting(link, 0.0, most=1000)
    assert {(each.queue, each.problem, each.amount) for each in found} == {
        ("celery", None, "1,000 or more"), ("rare", None, "1"), ("later", None, "1"), ("celery", "it is damaged", "1"),
    }  # fmt: skip


def test_the_sagas_that_run_are_estimated_where_there_are_many(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(20):
        bench.start()
    bench.sql("ANALYZE saga.work")
    with bench.orchestrator.database.link() as link:
        assert tally.count_by_status(link) == ({"running": 20, "completed": 0}, frozenset())
        monkeypatch.setattr("saga.store.postgres.tally._LANES", 10)
        assert tally.count_by_status(link) == ({"running": 20, "completed": 0}, {"running"})
