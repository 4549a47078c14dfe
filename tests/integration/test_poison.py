"""One row that nothing can be done with: the others are served, and it is parked with its problem."""

from __future__ import annotations

import time

import pytest

from saga.client.handle import Handle
from saga.core.events import Paused
from saga.core.rows import Dispatch
from saga.errors import CorruptLog
from saga.ops import audit
from saga.relay import Relay
from saga.store.postgres import appends
from saga.store.postgres.database import Link
from saga.store.values import Addition
from saga.worker.claimer import Claimer
from tests.integration.conftest import Bench
from tests.integration.test_relay import _release as _release
from tests.integration.test_relay import hold_lock, relay

FREE = ["work_dispatches_bounded", "work_watch_bounded", "work_dispatches_counted"]


def unbound(bench: Bench) -> None:
    """Take the constraints away that keep such rows out."""
    for name in FREE:
        bench.sql(f"ALTER TABLE saga.work DROP CONSTRAINT {name}")


def sent_to(sent: list[object]) -> set[object]:
    return {message.saga_id for message in sent if isinstance(message, Dispatch)}


def overdue(bench: Bench, worker: int) -> Handle:
    """A saga whose attempt, by that worker, is past its deadline."""
    handle = bench.start()
    bench.claimed(handle, worker=bench.worker(worker))
    hold_lock(bench, worker)
    bench.sql("UPDATE saga.log SET data = '{\"timeout\": 0}' WHERE seq = 2 AND saga_id = %s", handle.id)
    bench.sql("UPDATE saga.work SET due_at = now() WHERE saga_id = %s", handle.id)
    return handle


def tick(one: Relay) -> None:
    assert one.tick()
    assert not one._failing


@pytest.mark.parametrize("state", ["unsent", "lost"])
def test_a_count_of_messages_at_its_end_stops_nothing(bench: Bench, state: str) -> None:
    unbound(bench)
    one, sent = relay(bench)
    poisoned, other = bench.start(), bench.start()
    bench.sql("UPDATE saga.work SET dispatches = 2147483647 WHERE saga_id = %s", poisoned.id)
    bench.sql("UPDATE saga.work SET sent = sent - interval '1 day'")
    if state == "lost":
        tick(one)
        bench.sql("UPDATE saga.probe SET through = sent_at")
    else:
        bench.sql("UPDATE saga.work SET sent = NULL")
    tick(one)
    assert sent_to(sent) == {poisoned.id, other.id}
    assert bench.sql("SELECT max(dispatches) FROM saga.work") == [(1_000_001,)]


@pytest.mark.parametrize("watch", ["Infinity", "NaN", "-Infinity", "1e300"])
def test_a_time_to_look_that_is_no_time_stops_nothing(bench: Bench, watch: str) -> None:
    unbound(bench)
    one, sent = relay(bench)
    poisoned = bench.start()
    bench.claimed(poisoned, worker=bench.worker(1))
    hold_lock(bench, 1)
    bench.sql(f"UPDATE saga.work SET watch = '{watch}', due_at = now()")
    late = overdue(bench, 2)
    tick(one)
    assert sent_to(sent) == {late.id}
    assert bench.sql("SELECT due_at > now() FROM saga.work WHERE saga_id = %s", poisoned.id) == [(True,)]


def test_a_log_that_is_full_is_parked_and_the_others_are_served(bench: Bench) -> None:
    one, sent = relay(bench)
    full, late = overdue(bench, 1), overdue(bench, 2)
    bench.sql("UPDATE saga.log SET seq = 2147483647 WHERE seq = 2 AND saga_id = %s", full.id)
    tick(one)
    assert sent_to(sent) == {late.id}
    ((problem, later),) = bench.sql("SELECT problem, due_at > now() FROM saga.work WHERE saga_id = %s", full.id)
    assert "it cannot be ended: integer out of range" in problem
    assert later


def test_a_full_log_of_a_worker_that_is_gone_keeps_nothing_from_being_given_back(bench: Bench) -> None:
    one, sent = relay(bench)
    full, other = bench.start(), bench.start()
    for handle in (full, other):
        bench.claimed(handle)
    bench.sql("UPDATE saga.log SET seq = 2147483647 WHERE seq = 2 AND saga_id = %s", full.id)
    bench.until(lambda: one.tick() and sent_to(sent), "the other's attempt")
    assert sent_to(sent) == {other.id}
    tick(one)
    assert bench.sql("SELECT problem FROM saga.work WHERE saga_id = %s", full.id) != [(None,)]


@pytest.mark.parametrize("error", ["data_exception", "check_violation", "raise_exception"])
def test_whatever_a_row_makes_fail_is_done_row_by_row(bench: Bench, error: str) -> None:
    one, sent = relay(bench)
    handles = [bench.start() for _ in range(3)]
    bench.sql("UPDATE saga.work SET sent = NULL")
    bench.sql(
        f"CREATE FUNCTION saga.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NEW.saga_id = '{handles[1].id}' AND NEW.sent IS NOT NULL THEN RAISE EXCEPTION USING ERRCODE = '{error}', MESSAGE = 'no'; "
        f"END IF; RETURN NEW; END $$"
    )
    bench.sql("CREATE TRIGGER refuse BEFORE UPDATE ON saga.work FOR EACH ROW EXECUTE FUNCTION saga.refuse()")
    tick(one)
    assert sent_to(sent) == {handles[0].id, handles[2].id}
    assert bench.sql("SELECT problem FROM saga.work WHERE saga_id = %s", handles[1].id) == [("it cannot be sent: no",)]
    later = bench.start()
    bench.sql("UPDATE saga.work SET sent = NULL WHERE saga_id = %s", later.id)
    tick(one)
    assert later.id in sent_to(sent)


def test_an_open_transaction_on_a_sagas_next_entry_holds_up_no_other(bench: Bench) -> None:
    one, sent = relay(bench)
    held, late = overdue(bench, 1), overdue(bench, 2)
    with bench.connect() as open_one:
        appends.append(Link(open_one, "saga"), [Addition(held.id, 3, [Paused()])], None)
        tick(one)
        assert sent_to(sent) == {late.id}
        for _ in range(2):
            one._chores._aside = {
                saga_id: (time.monotonic(), strikes) for saga_id, (_, strikes) in one._chores._aside.items()
            }
            bench.sql("UPDATE saga.work SET due_at = now() WHERE saga_id = %s", held.id)
            tick(one)
        ((problem,),) = bench.sql("SELECT problem FROM saga.work WHERE saga_id = %s", held.id)
        assert problem.startswith("it cannot be ended: ")
        open_one.rollback()
    one._chores._aside.clear()
    bench.sql("UPDATE saga.work SET due_at = now() WHERE saga_id = %s", held.id)
    tick(one)
    assert sent_to(sent) == {late.id, held.id}
    assert bench.sql("SELECT problem FROM saga.work WHERE saga_id = %s", held.id) == [(None,)]


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("dispatches = 2147483647", "work_dispatches_bounded"),
        ("watch = 'Infinity'", "work_watch_bounded"),
        ("watch = 'NaN'", "work_watch_bounded"),
        ("watch = -1", "work_watch_bounded"),
    ],
)
def test_postgres_refuses_what_no_arithmetic_can_go_on_with(bench: Bench, change: str, constraint: str) -> None:
    bench.start()
    with pytest.raises(Exception, match=constraint):
        bench.sql(f"UPDATE saga.work SET {change}")


@pytest.mark.parametrize("moment", ["20000-01-01", "infinity", "-infinity", "0044-03-15 BC"])
def test_a_time_that_python_cannot_hold_hides_no_other_saga(bench: Bench, moment: str) -> None:
    odd, other = bench.start(), bench.start()
    bench.sql(f"UPDATE saga.instance SET started_at = '{moment}', updated_at = '{moment}' WHERE id = '{odd.id}'")
    found = bench.orchestrator.find()
    assert {handle.id for handle in found} == {odd.id, other.id}
    assert bench.orchestrator.get(odd.id).status == "running"
    assert {verdict.problem for verdict in audit.check(bench.engine)} == {None}


def test_an_entry_of_a_time_that_python_cannot_hold_is_named_and_hides_no_other(bench: Bench) -> None:
    odd, other = bench.start(), bench.start()
    bench.sql("UPDATE saga.log SET at = '20000-01-01' WHERE saga_id = %s", odd.id)
    with pytest.raises(CorruptLog, match=f"saga {odd.id}, after entry 0: a stored value cannot be read"):
        odd.replay()
    verdicts = {verdict.header.id: verdict.problem for verdict in audit.check(bench.engine)}
    assert verdicts[other.id] is None
    assert "cannot be read" in (verdicts[odd.id] or "")
    worker = bench.worker()
    runs, left = Claimer(worker).claim_together([(odd.id, "main"), (other.id, "main")], ["sequence"])
    claimed = [run.saga_id for run in runs] + [run.saga_id for place in left if (run := Claimer(worker).claim(*place))]
    assert claimed == [other.id]
    assert bench.sql("SELECT worker FROM saga.work WHERE problem IS NOT NULL") == [(None,)]


@pytest.mark.parametrize("depth", [250, 900])
def test_a_definition_that_is_nested_too_deep_is_named_and_hides_no_other(bench: Bench, depth: int) -> None:
    doc = '{"saga": "deep", "steps": ' + '[{"parallel": [' * depth + "]}]" * depth + "}"
    odd, other = bench.start(), bench.start()
    bench.sql(
        "INSERT INTO saga.definition (fingerprint, name, version, doc, created_at) VALUES ('deep', 'deep', 1, %s, now())",
        doc,
    )
    bench.sql("UPDATE saga.instance SET fingerprint = 'deep', name = 'deep' WHERE id = %s", odd.id)
    assert {handle.id for handle in bench.orchestrator.find()} == {odd.id, other.id}
    with pytest.raises(CorruptLog, match=f"saga {odd.id}: its (definition deep is damaged|stored JSON cannot be read)"):
        bench.orchestrator.get(odd.id).replay()
    verdicts = {verdict.header.id: verdict.problem for verdict in audit.check(bench.engine)}
    assert verdicts[other.id] is None
    assert "damaged" in (verdicts[odd.id] or "")
