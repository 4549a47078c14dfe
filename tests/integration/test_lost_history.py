"""The database loses what was committed last, as after a failover to a standby that lagged; workers know more than it."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

import pytest

from saga.client.handle import Handle
from saga.core.events import HistoryLost
from saga.core.outcome import Success
from saga.core.state import Status
from saga.errors import SagaNotFound
from saga.store.postgres import appends, due
from saga.store.values import Addition
from saga.worker.claimer import Claimer
from saga.worker.together import Together
from tests.integration.conftest import ASKED, FORKED, SEQUENCE, Bench, always

_TABLES = ("log", "work", "instance")


class Moment:
    """All that the database holds of the sagas, to come back to."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        for table in _TABLES:
            bench.sql(
                f"DROP TABLE IF EXISTS public.past_{table}; CREATE TABLE public.past_{table} AS TABLE saga.{table}"
            )

    def come_back(self) -> None:
        with self._bench.connect() as connection:
            for table in _TABLES:
                columns = ", ".join(
                    row[0] for row in connection.execute(
                        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'saga'"
                        " AND table_name = %s AND is_generated = 'NEVER'", [table],
                    )
                )  # fmt: skip
                connection.execute(f"DELETE FROM saga.{table}".encode())
                connection.execute(
                    f"INSERT INTO saga.{table} ({columns}) SELECT {columns} FROM public.past_{table}".encode()
                )


def assert_whole(handle: Handle) -> None:
    seqs = [entry.seq for entry in handle.log()]
    assert seqs == list(range(1, len(seqs) + 1))


def losses(handle: Handle) -> list[HistoryLost]:
    return [entry.event for entry in handle.log() if isinstance(entry.event, HistoryLost)]


def lost_kinds(handle: Handle) -> list[tuple[int, str, str, int]]:
    return [(e["seq"], e["kind"], e["step"], e["attempt"]) for loss in losses(handle) for e in loss.entries]


def replace_worker(bench: Bench, handle: Handle, gone: int, number: int) -> None:
    """Let another worker go on to the end with what a lost one had."""
    with bench.orchestrator.database.link() as link:
        due.do(link, due.LOSE, {**ASKED, "workers": [gone]})
    worker = bench.worker(number)
    for _ in range(3):
        for lane in [row[0] for row in bench.sql("SELECT lane FROM saga.work WHERE saga_id = %s", handle.id)]:
            run = Claimer(worker).claim(handle.id, lane)
            if run is not None and run.held:
                run = worker.wake(run)
            bench.finish(worker, run)


def test_a_worker_that_is_ahead_of_the_log_leaves_no_hole_in_it(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    handle, worker = bench.start(), bench.worker(1)
    run = bench.claimed(handle, worker=worker)
    moment = Moment(bench)
    run = worker.record(run, Success("a"), always)
    assert run is not None
    moment.come_back()
    with caplog.at_level(logging.ERROR, "saga"):
        assert worker.record(run, Success("b"), always) is None
    assert_whole(handle)
    assert handle.steps()["a"].status == "running", "what the log does not have has not happened"
    assert lost_kinds(handle) == [(3, "step_succeeded", "a", 1), (4, "step_started", "b", 1)]
    assert handle.log()[-1].kind == "late_result", "what it brought is kept as evidence"
    assert worker.running == {}
    assert "3 step_succeeded a, attempt 1" in caplog.text
    replace_worker(bench, handle, 1, 2)
    assert_whole(handle)
    assert handle.status == Status.COMPLETED


def test_an_attempt_that_the_log_still_has_is_recorded_after_a_loss(bench: Bench) -> None:
    handle, one, two = bench.start(FORKED), bench.worker(1), bench.worker(2)
    one.record(bench.claimed(handle, worker=one), Success("a"), always)
    b = bench.claimed(handle, "main/b", one)
    moment = Moment(bench)
    bench.finish(two, bench.claimed(handle, "main/c", two))
    b.state = one.engine.read(b.instance, b.state)
    known = b.state.seq
    moment.come_back()
    bench.finish(one, one.record(b, Success("b"), always))
    assert_whole(handle)
    assert handle.steps()["b"].status == "succeeded"
    assert [loss.known for loss in losses(handle)] == [known]
    bench.finish(two, bench.claimed(handle, "main/c", two))
    assert handle.status == Status.COMPLETED


def test_a_log_that_grew_another_end_takes_nothing_from_who_knows_the_lost_one(bench: Bench) -> None:
    handle, one = bench.start(), bench.worker(1)
    moment = Moment(bench)
    run = one.record(bench.claimed(handle, worker=one), Success("lost"), always)
    assert run is not None
    moment.come_back()
    two = bench.worker(2)
    other = two.record(bench.claimed(handle, worker=two), Success("kept"), always)
    assert other is not None
    assert one.record(run, Success("b"), always) is None, "it has as many entries, but others"
    bench.finish(two, other)
    assert_whole(handle)
    assert handle.result(timeout=5)["a"] == "kept"
    assert lost_kinds(handle)[0] == (2, "step_started", "a", 1)


def test_an_attempt_started_anew_by_another_worker_is_not_taken_for_the_lost_one(bench: Bench) -> None:
    handle, one, two = bench.start(), bench.worker(1), bench.worker(2)
    moment = Moment(bench)
    lost = bench.claimed(handle, worker=one)
    moment.come_back()
    again = bench.claimed(handle, worker=two)
    assert one.record(lost, Success("of the lost attempt"), always) is None
    bench.finish(two, again)
    assert handle.result(timeout=5)["a"] == "a"
    assert_whole(handle)


def test_a_claim_goes_by_the_log_and_not_by_what_is_remembered(bench: Bench) -> None:
    handle, worker = bench.start(), bench.worker(1)
    moment = Moment(bench)
    run = worker.record(bench.claimed(handle, worker=worker), Success("a"), always)
    assert run is not None
    worker.forget(run)
    moment.come_back()
    run = bench.claimed(handle, worker=worker)
    assert (run.step, run.number) == ("a", 1)
    assert lost_kinds(handle) == [
        (2, "step_started", "a", 1), (3, "step_succeeded", "a", 1), (4, "step_started", "b", 1)
    ]  # fmt: skip
    bench.finish(worker, run)
    assert_whole(handle)
    assert handle.status == Status.COMPLETED


def test_the_lost_end_of_a_completed_saga_is_reported_by_who_wrote_it(bench: Bench) -> None:
    handle, worker = bench.start(), bench.worker(1)
    moment = Moment(bench)
    bench.finish(worker, bench.claimed(handle, worker=worker))
    assert handle.status == Status.COMPLETED
    moment.come_back()
    bench.finish(worker, bench.claimed(handle, worker=worker))
    assert handle.status == Status.COMPLETED
    assert lost_kinds(handle)[-1] == (9, "step_succeeded", "d", 1)
    assert_whole(handle)


def test_a_log_that_lost_nothing_reports_nothing(bench: Bench) -> None:
    handle, worker, other = bench.start(FORKED), bench.worker(1), bench.worker(2)
    worker.record(bench.claimed(handle, worker=worker), Success("a"), always)
    one, two = bench.claimed(handle, "main/b", worker), bench.claimed(handle, "main/c", other)
    other.record(two, Success("c"), always)
    bench.finish(worker, worker.record(one, Success("b"), always))
    assert handle.status == Status.COMPLETED
    assert losses(handle) == []


def test_of_a_batch_only_the_saga_that_lost_its_end_is_set_back(bench: Bench) -> None:
    worker = bench.worker(1)
    whole, torn = bench.start(), bench.start()
    runs = [bench.claimed(handle, worker=worker) for handle in (whole, torn)]
    runs = Together(worker).record_all([(run, Success("a")) for run in runs], always)
    with bench.connect() as connection:
        connection.execute("DELETE FROM saga.log WHERE saga_id = %s AND seq > 2", [torn.id])
    for run in Together(worker).record_all([(run, Success("b")) for run in runs], always):
        bench.finish(worker, run)
    assert whole.status == Status.COMPLETED
    assert losses(whole) == []
    assert [loss.known for loss in losses(torn)] == [4]
    assert_whole(torn)


def test_a_saga_that_is_gone_is_told_of_and_holds_up_nobody(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    moment = Moment(bench)
    handle, worker = bench.start(), bench.worker(1)
    run = bench.claimed(handle, worker=worker)
    moment.come_back()
    assert worker.record(run, Success("a"), always) is None
    assert worker.running == {}
    assert f"there is no saga sequence[{handle.id}]" in caplog.text
    assert "2 step_started a, attempt 1" in caplog.text
    kept = bench.start()
    run, gone = bench.claimed(kept, worker=worker), bench.start()
    lost = bench.claimed(gone, worker=worker)
    bench.sql("DELETE FROM saga.log WHERE saga_id = %s", gone.id)
    (after,) = Together(worker).record_all([(run, Success("a")), (lost, Success("a"))], always)
    assert after.saga_id == kept.id


def test_who_waits_for_a_saga_that_is_gone_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saga.client.waiter._ABSENT", 0.05)
    moment = Moment(bench)
    handle = bench.start()
    moment.come_back()
    with pytest.raises(SagaNotFound, match="lost"):
        handle.result()


def test_a_definition_that_was_lost_is_stored_again_by_the_next_start(bench: Bench) -> None:
    bench.start()
    bench.sql("DELETE FROM saga.definition")
    bench.sql(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    bench.start()
    bench.start()
    assert bench.sql("SELECT name FROM saga.definition") == [("sequence",)]


@pytest.fixture(params=["the entry before is gone", "the entry before is another"])
def torn(bench: Bench, request: pytest.FixtureRequest) -> tuple[UUID, Any]:
    handle, worker = bench.start(SEQUENCE), bench.worker(1)
    run = bench.claimed(handle, worker=worker)
    if request.param == "the entry before is gone":
        bench.sql("DELETE FROM saga.log WHERE seq = 2")
    else:
        bench.sql("UPDATE saga.log SET at = at + interval '1 microsecond' WHERE seq = 2")
    return handle.id, run.state.at


def test_an_append_whose_entry_before_is_not_there_changes_nothing(bench: Bench, torn: tuple[UUID, Any]) -> None:
    saga_id, at = torn
    before = bench.sql("SELECT seq FROM saga.log ORDER BY seq")
    with bench.orchestrator.database.link() as link:
        assert appends.append(link, [Addition(saga_id, 3, [HistoryLost(2)], after=at)], None) == {}
    assert bench.sql("SELECT seq FROM saga.log ORDER BY seq") == before
